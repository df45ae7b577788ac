//! The map that holds the policy, and those that only user space reads.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{ASKED_ENTRY, Original, Shaping};

#[btf_map]
static SHAPING: Array<Shaping, 1> = Array::new();

/// Read by user space only: the device's settings before shaping, to be restored when it is cleared.
#[btf_map]
static ORIGINAL: Array<Original, 1> = Array::new();

/// Read by user space only: the policy as it was written, beside the maps compiled from it.
#[btf_map]
static ASKED: Array<[u8; ASKED_ENTRY], 1> = Array::new();

/// Read by user space only: the addresses of the names in the policy.
#[btf_map]
static PEERS: Array<[u8; ASKED_ENTRY], 1> = Array::new();

/// Returns the policy in force, expired or not.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Shaping> {
    SHAPING.get(0)
}
