//! A plan as the kernel reads it.

use shaper_common::plan::{Address, Course, Rule, RuleList, Step};

/// The contents of the maps of a plan; see [`shaper_common::plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// By class.
    pub courses: Vec<Course>,
    /// The steps of all courses.
    pub steps: Vec<Step>,
    /// Prefixes (with their lengths in bits, IPv4 as `::ffff:0:0/96`) and the rules that packets there are asked.
    pub targets: Vec<(Address, u32, RuleList)>,
    /// All rules.
    pub rules: Vec<Rule>,
    /// The entries of all distributions.
    pub distributions: Vec<i32>,
    /// The entries of all delivery traces, in milliseconds.
    pub deliveries: Vec<u32>,
    /// The most packets that may wait in all rings together.
    pub ring_length: u32,
}
