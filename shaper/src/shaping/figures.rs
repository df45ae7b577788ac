//! The daemon's own figures: what it has done and what it watches, as numbers.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{Completion, Order, RuleState, RuntimeStatus, ShapingError};

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
    /// The changes since it was started.
    pub(crate) changes: ChangeCounts,
    /// The times that reports to Scope took to make.
    pub(crate) reports: Durations,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Shaping is set.
    Set,
    /// Shaping is cleared.
    Clear,
}

impl Operation {
    /// All kinds.
    pub(crate) const ALL: [Self; 2] = [Self::Set, Self::Clear];

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Clear => "clear",
        }
    }
}

impl From<&Order> for Operation {
    fn from(order: &Order) -> Self {
        match order {
            Order::Set(_) => Self::Set,
            Order::Clear => Self::Clear,
        }
    }
}

/// The reason for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A person or a program asked for it.
    Request,
    /// A rule, or a container's own labels.
    Rule,
}

impl Origin {
    /// All reasons.
    pub(crate) const ALL: [Self; 2] = [Self::Request, Self::Rule];

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Rule => "rule",
        }
    }
}

/// The result of a change of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChangeResult {
    /// Done.
    Changed,
    /// There was nothing to clear.
    Unchanged,
    /// It cannot be done, and nothing was tried.
    Refused,
    /// It was tried in vain, or put back as another container of the same request failed.
    Failed,
}

impl ChangeResult {
    /// All results.
    pub(crate) const ALL: [Self; 4] = [Self::Changed, Self::Unchanged, Self::Refused, Self::Failed];

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The result for one of many containers; none if no change of it was tried or refused.
    pub(crate) const fn of_one(end: &Completion) -> Option<Self> {
        match end {
            Completion::Changed => Some(Self::Changed),
            Completion::Unchanged => Some(Self::Unchanged),
            Completion::Refused(_) => Some(Self::Refused),
            Completion::Failed(_) | Completion::Stuck(_) | Completion::Restored => Some(Self::Failed),
            Completion::Planned | Completion::Skipped(_) | Completion::Untouched => None,
        }
    }
}

impl From<&ShapingError> for ChangeResult {
    fn from(error: &ShapingError) -> Self {
        match error.reason() {
            ShapingError::Failed(_) => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// The numbers of changes of containers, by kind, reason and result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeCounts(BTreeMap<(Operation, Origin, ChangeResult), u64>);

impl ChangeCounts {
    /// Counts one more.
    pub(crate) fn add(&mut self, operation: Operation, origin: Origin, result: ChangeResult) {
        *self.0.entry((operation, origin, result)).or_default() += 1;
    }

    /// The number of those that are so.
    pub(crate) fn of(&self, operation: Operation, origin: Origin, result: ChangeResult) -> u64 {
        self.0.get(&(operation, origin, result)).copied().unwrap_or_default()
    }
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
    use crate::shaping::{Attempt, Refusal};

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

    #[test]
    fn refusals_are_told_from_failures() {
        let refused: ShapingError = Refusal::HostNetwork.into();
        let failed: ShapingError = Attempt::Attach("eth0".to_owned()).failed("no").into();
        let missing = ShapingError::NotFound { name: "web".to_owned(), near: Vec::new() };
        for (error, result) in [
            (refused.about("container web"), ChangeResult::Refused),
            (missing, ChangeResult::Refused),
            (failed.about("container web"), ChangeResult::Failed),
        ] {
            assert_eq!(ChangeResult::from(&error), result, "{error}");
        }
    }
}
