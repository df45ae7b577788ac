//! Compiles the BPF program into the build directory, with the toolchain that `cargo xtask setup` made ready.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shaper-ebpf");
    println!("cargo:rerun-if-changed={}/../shaper-common/src", env!("CARGO_MANIFEST_DIR"));
    #[expect(unsafe_code, reason = "the toolchain need not be a nightly; aya-build honours this variable")]
    // SAFETY: a build script's only thread.
    unsafe {
        std::env::set_var("RUSTC_BOOTSTRAP", "1");
    }
    aya_build::build_ebpf(
        [Package { name: "shaper-ebpf", root_dir: root, ..Package::default() }],
        Toolchain::Custom("shaper-bpf"),
    )
    .context("compile the BPF program: run `cargo xtask setup bpf` to install what it needs")
}
