# The daemon with its BPF program inside:
#
#     docker build -t shaper:0.1.0 .

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The compiler of the BPF program takes minutes to set up, so it has a layer of its own, which depends on xtask and the
# manifests alone. Cargo wants each member to have a target, if an empty one.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo/
COPY xtask xtask/
COPY shaper/Cargo.toml shaper/
COPY shaper-common/Cargo.toml shaper-common/
COPY shaper-ebpf/Cargo.toml shaper-ebpf/
COPY shaper-policy/Cargo.toml shaper-policy/
COPY tests/Cargo.toml tests/
COPY tests/statistics/Cargo.toml tests/statistics/
RUN mkdir shaper/src shaper-common/src shaper-ebpf/src shaper-policy/src tests/src tests/statistics/src \
 && touch shaper/src/main.rs shaper-common/src/lib.rs shaper-ebpf/src/main.rs shaper-policy/src/lib.rs \
    tests/src/lib.rs tests/statistics/src/lib.rs \
 && cargo xtask setup bpf \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cargo build --release --locked -p shaper

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="shaper" \
      org.opencontainers.image.description="Degrades the network of running containers, live, with BPF" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/target/release/shaper /usr/local/bin/shaper
# Unhealthy while nothing can be shaped.
HEALTHCHECK --start-period=5s --timeout=12s CMD ["/usr/local/bin/shaper", "status"]
ENTRYPOINT ["/usr/local/bin/shaper"]
CMD ["serve"]
