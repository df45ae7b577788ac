//! A policy as the kernel reads it.

use shaper_common::policy::{Address, Rule, RuleList, Schedule, Step};

/// The contents of the maps of a policy; see [`shaper_common::policy`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// By class.
    pub schedules: Vec<Schedule>,
    /// The steps of all schedules.
    pub steps: Vec<Step>,
    /// Prefixes (with their lengths in bits, IPv4 as `::ffff:0:0/96`) and the rules that packets there are asked.
    pub targets: Vec<(Address, u32, RuleList)>,
    /// All rules.
    pub rules: Vec<Rule>,
    /// The entries of all distributions.
    pub distributions: Vec<i32>,
    /// The entries of all delivery traces, in milliseconds.
    pub traces: Vec<u32>,
    /// The most packets that may wait in all rings together.
    pub ring_length: u32,
}
