//! The map that says what to do, and the one that says what the interface was before.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{Original, Policy};

#[btf_map]
static POLICY: Array<Policy, 1> = Array::new();

/// Never read here: it is pinned beside the others, so that whoever clears the shaping knows what to give back.
#[btf_map]
static ORIGINAL: Array<Original, 1> = Array::new();

/// The policy in force, expired or not.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Policy> {
    POLICY.get(0)
}
