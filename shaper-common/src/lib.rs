//! The agreement of the BPF program and user space: map layouts, and the arithmetic that the program runs on them.
//!
//! Everything here is pure: time and random numbers are arguments, so that host tests run the very code the kernel
//! runs. This crate knows nothing of containers, sockets or system calls.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod bottleneck;
mod counters;
mod fate;
mod jitter;
mod original;
#[cfg(feature = "user")]
mod outcome;
pub mod policy;
pub mod random;
pub mod schedule;
mod shaping;
mod socket_budget;
pub mod uses;

pub use counters::{Counters, Tally};
pub use original::Original;
#[cfg(feature = "user")]
pub use outcome::{OUTCOMES, Outcome};
pub use shaping::{LATE_NS, MAX_DELAY_NS, ORPHAN_FROM_NS, Shaping, in_turn_ns, latest_ns, ready_ns};
pub use socket_budget::SocketBudget;

/// Name of the classifier, in the object file, that carries out a [`Shaping`] alone.
pub const PROGRAM: &str = "shape";
/// Name of the one that carries out the policy beside a [`Shaping`] as well.
pub const POLICY_PROGRAM: &str = "shape_policy";
/// Name of the program that leads packets through a detour, in which they can wait.
pub const DETOUR_PROGRAM: &str = "shape_detour";
/// Name of the one-entry array with the [`Shaping`].
pub const SHAPING_MAP: &str = "SHAPING";
/// Name of the one-entry per-CPU array with the [`Counters`].
pub const COUNTERS_MAP: &str = "COUNTERS";
/// Name of the one-entry array with the [`Original`].
pub const ORIGINAL_MAP: &str = "ORIGINAL";
/// Name of the array with the [`policy::Schedule`]s of a policy.
pub const SCHEDULES_MAP: &str = "SCHEDULES";
/// Name of the array with the [`policy::Step`]s of all schedules.
pub const STEPS_MAP: &str = "STEPS";
/// Name of the trie that leads from a peer's [`policy::Address`] to a [`policy::RuleList`].
pub const TARGETS_MAP: &str = "TARGETS";
/// Name of the array with the [`policy::Rule`]s.
pub const RULES_MAP: &str = "RULES";
/// Name of the array with the first fragments of datagrams, and their classes.
pub const LEADERS_MAP: &str = "LEADERS";
/// The number of its entries, where rules ask for ports.
pub const FRAGMENTS: u32 = 4_096;
/// Name of the array with the entries of all distributions.
pub const DISTRIBUTIONS_MAP: &str = "DISTRIBUTIONS";
/// Name of the array with the entries of all delivery traces, in milliseconds.
pub const TRACES_MAP: &str = "TRACES";
/// Name of the array with the [`policy::State`] of each schedule.
pub const STATES_MAP: &str = "STATES";
/// Name of the array with the rings of packets that wait for a bottleneck.
pub const RINGS_MAP: &str = "RINGS";
/// Name of the array with the policy as it was asked for, in JSON: its length in the first eight bytes, little-endian.
pub const ASKED_MAP: &str = "ASKED";
/// Name of the array with the addresses that names in the policy stand for, in JSON; written as [`ASKED_MAP`] is.
pub const PEERS_MAP: &str = "PEERS";
/// The size of an entry of either, in bytes.
pub const ASKED_ENTRY: usize = 256;
/// Name of the constant that says whether a packet's peer is its source, as in what a container receives: 0 or 1.
pub const PEER_SENDS_CONSTANT: &str = "PEER_SENDS";
/// Name of the constant that says whether the program sits on the TCX hook, not under clsact: 0 or 1.
pub const TCX_CONSTANT: &str = "TCX";
/// Name of the constant that says whether the program sits on the ingress hook of its device: 0 or 1.
pub const RECEIVES_CONSTANT: &str = "RECEIVES";
/// Name of the constant with the index of the interface whose packets take a detour.
pub const DETOUR_FROM_CONSTANT: &str = "DETOUR_FROM";
/// Name of the constant with the index of the device by which packets go into a detour.
pub const DETOUR_INTO_CONSTANT: &str = "DETOUR_INTO";
/// Name of the constant that says whether the policy has targets: 0 or 1.
pub const TARGETED_CONSTANT: &str = "TARGETED";
/// Name of the constant with the parts that the policy uses: a sum of [`uses`].
pub const USES_CONSTANT: &str = "USES";

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
