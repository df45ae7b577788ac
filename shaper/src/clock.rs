//! The clock of deadlines and departures, which the kernel's programs read as well.

/// Returns nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns` in programs).
pub(crate) fn monotonic_ns() -> u64 {
    // clock_gettime(2) fails only for clocks that do not exist.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}
