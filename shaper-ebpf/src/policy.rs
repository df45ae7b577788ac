//! The map that says what to do, and those that only user space reads.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{ASKED_ENTRY, Original, Policy};

#[btf_map]
static POLICY: Array<Policy, 1> = Array::new();

/// Never read here: it is pinned beside the others, so that whoever clears the shaping knows what to give back.
#[btf_map]
static ORIGINAL: Array<Original, 1> = Array::new();

/// Never read here: the plan as it was asked for, beside what was made of it.
#[btf_map]
static ASKED: Array<[u8; ASKED_ENTRY], 1> = Array::new();

/// Never read here: the addresses that names in the plan stand for.
#[btf_map]
static PEERS: Array<[u8; ASKED_ENTRY], 1> = Array::new();

/// The policy in force, expired or not.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Policy> {
    POLICY.get(0)
}
