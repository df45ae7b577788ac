//! Scenarios in which the daemon is killed, starved or hurried, and after which nothing may be left behind.

mod hardship;
mod kills;
mod random;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use self::{
    kills::{KILLS, Kill},
    stage::Stage,
};
use crate::{require, tracer::Calls};

/// Extent of a run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// System calls at which the daemon is killed.
    pub calls: Calls,
    /// Kills of each scenario; the calls are picked evenly from all of them.
    pub kills: usize,
    /// Rounds of random operations and of churn.
    pub rounds: usize,
    /// Seed of the random operations.
    pub seed: u64,
}

/// Result of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rounds that were run.
    pub rounds: usize,
    /// Rounds after which something was left on a device or pinned, or something had changed that is not shaper's.
    pub leaks: Vec<String>,
    /// Rounds after which the daemon showed or did something else than before or after the change.
    pub faults: Vec<String>,
    /// Pings that a container lost which nobody shaped.
    pub lost_pings: u32,
    /// Time for all rounds.
    pub time: Duration,
}

impl Outcome {
    /// Returns true if nothing was found.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.leaks.is_empty() && self.faults.is_empty() && self.lost_pings == 0
    }
}

/// Names of the scenarios that can be run on this machine; says which cannot.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let kills = KILLS.iter().filter(|kill| kill.needs.is_empty() || require::met(kill.needs));
    kills.map(|kill| kill.name).chain(hardship::NAMES).collect()
}

/// Runs the scenario called `name`.
///
/// # Errors
///
/// When there is none, or its stage cannot be set.
pub fn run(name: &str, extent: Extent) -> Result<Outcome> {
    let begin = Instant::now();
    let mut outcome = if let Some(kill) = KILLS.iter().find(|kill| kill.name == name) {
        kills::run(kill, extent)?
    } else if hardship::NAMES.contains(&name) {
        random::run(name, extent)?
    } else {
        bail!("unknown scenario {name:?}: expected one of {}", names().join(", "));
    };
    outcome.time = begin.elapsed();
    Ok(outcome)
}
