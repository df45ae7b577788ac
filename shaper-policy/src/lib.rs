//! Policies: their types, texts and files, their changes, and their entries in BPF maps.
//!
//! Data flows through the rooms in this order: [`text`] and [`file`] read what people write into the types of [`model`],
//! [`change`] makes of the policy in force what was asked, and [`compile`] turns it into what the kernel reads. [`explain`]
//! says what effects do. Pure: no system call, no clock, no asynchronous work. Files and random numbers are arguments.

mod change;
mod compile;
mod explain;
mod file;
mod model;
#[cfg(test)]
mod samples;
mod text;

pub use change::{Asked, Clauses, Lifetime, Request, Side, Whole};
pub use compile::{Maps, Peers};
pub use explain::{Pace, Simulation};
pub use file::{Files, Format, NoFiles, Preset, Presets};
pub use model::{
    Direction, Directions, Distribution, Effects, Hint, Interfaces, Latency, Loss, MatchRule, Measured, Name,
    Named, Patterns, Policy, PolicyError, Problem, Segment, Shaping, Trace, check_interface, check_network,
    parse_duration, quoted, short, show_time,
};
pub use text::{CLAUSES, Clause, Field, FlagKind, names_in};
