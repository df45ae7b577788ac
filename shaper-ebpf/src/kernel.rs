//! The kernel's clock, random numbers and redirections.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_redirect};

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

/// Returns the verdict that sends the packet to a device; it is freed where there is none.
#[inline(always)]
pub(crate) fn redirect(ifindex: u32, flags: u64) -> i32 {
    // SAFETY: as in `now_ns`.
    unsafe { bpf_redirect(ifindex, flags) as i32 }
}
