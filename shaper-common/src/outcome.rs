//! The outcomes of packets that people see, of each of which there is a counter.

use super::{Counters, Tally};

/// An outcome of packets.
#[derive(Debug)]
pub struct Outcome {
    /// The name, as in the API.
    pub name: &'static str,
    /// The name for a narrow column.
    pub label: &'static str,
    /// True if it is shown only where there are such packets.
    pub is_rare: bool,
    /// The counter.
    pub tally: fn(&Counters) -> Tally,
}

/// The outcomes, as they are shown: those of all shapings, those of effects, those of a bottleneck's queue.
pub static OUTCOMES: [Outcome; 9] = [
    Outcome::usual("passed", |counters| counters.passed),
    Outcome::usual("delayed", |counters| counters.delayed),
    Outcome::usual("lost", |counters| counters.lost),
    Outcome::rare("duplicated", "doubled", |counters| counters.duplicated),
    Outcome::rare("corrupted", "corrupt", |counters| counters.corrupted),
    Outcome::rare("reordered", "ahead", |counters| counters.reordered),
    Outcome::rare("skipped", "skipped", |counters| counters.skipped),
    Outcome::rare("marked", "marked", |counters| counters.marked),
    Outcome::rare("overflowed", "overflow", |counters| counters.overflowed),
];

impl Outcome {
    const fn usual(name: &'static str, tally: fn(&Counters) -> Tally) -> Self {
        Self { name, label: name, is_rare: false, tally }
    }

    const fn rare(name: &'static str, label: &'static str, tally: fn(&Counters) -> Tally) -> Self {
        Self { name, label, is_rare: true, tally }
    }
}
