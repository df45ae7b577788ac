//! The daemon's own figures: what it has done and what it watches, as numbers.

use std::time::{Duration, SystemTime};

use super::{EventCounts, RuleState, RuntimeStatus};

/// The figures of the daemon at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// The time when it was started.
    pub(crate) started: SystemTime,
    /// The runtimes that are watched, by name.
    pub(crate) runtimes: Vec<RuntimeStatus>,
    /// The states of all rules.
    pub(crate) rules: Vec<RuleState>,
    /// The number of network namespaces with shaping that no listed container has.
    pub(crate) orphaned: usize,
    /// The numbers of events since it was started.
    pub(crate) events: EventCounts,
    /// The times that reports to Scope took to make.
    pub(crate) reports: Durations,
}

/// The upper bounds of the classes of durations, in seconds; beyond the last one there is one more class. Scope's probe
/// gives up after half a second.
const BOUNDS_S: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5];

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Durations {
    sum: Duration,
    counts: [u64; BOUNDS_S.len() + 1],
}

impl Durations {
    /// Counts one more.
    pub(crate) fn add(&mut self, duration: Duration) {
        self.sum += duration;
        let class = BOUNDS_S.partition_point(|bound| *bound < duration.as_secs_f64());
        self.counts[class] += 1;
    }

    /// The number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all, in seconds.
    pub(crate) fn sum_s(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// The upper bound of each class, in seconds, and the number of durations in it.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS_S.into_iter().chain([f64::INFINITY]).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_class_that_holds_it() {
        let mut durations = Durations::default();
        for ms in [1, 2, 500, 501, 60_000] {
            durations.add(Duration::from_millis(ms));
        }
        let filled: Vec<_> = durations.classes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 1), (0.0025, 1), (0.5, 1), (f64::INFINITY, 2)]);
        assert_eq!((durations.count(), durations.sum_s()), (5, 61.004));
    }
}
