//! The kernel's clock and random numbers.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns};

/// Returns the time of `CLOCK_MONOTONIC`, in nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Returns 32 random bits.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: as in `now_ns`.
    unsafe { bpf_get_prandom_u32() }
}
