//! What the BPF program and user space agree on: map layouts, and the arithmetic that the program runs on them.
//!
//! Everything here is pure: time and random numbers are arguments, so that host tests run the very code the kernel
//! runs. This crate knows nothing of containers, sockets or system calls.
#![no_std]

#[cfg(test)]
extern crate std;

mod charge;
mod counters;
mod original;
pub mod plan;
mod policy;

pub use charge::Charge;
pub use counters::{Counters, Tally};
pub use original::Original;
pub use policy::{MAX_DELAY_NS, ORPHAN_FROM_NS, Policy};

/// Name of the classifier in the object file.
pub const PROGRAM: &str = "shape";
/// Name of the one-entry array with the [`Policy`].
pub const POLICY_MAP: &str = "POLICY";
/// Name of the one-entry per-CPU array with the [`Counters`].
pub const COUNTERS_MAP: &str = "COUNTERS";
/// Name of the one-entry array with the [`Original`].
pub const ORIGINAL_MAP: &str = "ORIGINAL";

/// A type of which every byte is a field: no padding that could leak or differ.
macro_rules! plain {
    ($type:ty, $($field:ty),+) => {
        const _: () = assert!(size_of::<$type>() == 0 $(+ size_of::<$field>())+, "padding");
        #[cfg(feature = "user")]
        #[expect(unsafe_code, reason = "aya asks for this promise")]
        // SAFETY: `repr(C)`, only integers, and the assertion above shows that there is no padding.
        unsafe impl aya::Pod for $type {}
    };
}
use plain;
