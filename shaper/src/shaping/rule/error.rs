//! Errors in rules: what is wrong, and at which key.

use std::fmt;

use shaper_policy::Segment;
use thiserror::Error;

use crate::shaping::{CountError, PolicyError, SelectorError, quoted};

/// An error in a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}: {problem}")]
pub(crate) struct RuleError {
    /// The key whose value is wrong.
    key: &'static str,
    problem: RuleProblem,
}

/// The kind of an error in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleProblem {
    /// A name that a rule cannot have.
    Name(String),
    /// An error in the selector.
    Selector(SelectorError),
    /// An error in the number of containers.
    Count(CountError),
    /// A text that is no time.
    Time(String),
    /// An error in the shaping.
    Shaping(PolicyError),
    /// A lifetime of each shaping, where the rule has an end.
    Lifetime,
}

impl RuleError {
    pub(super) const fn at(key: &'static str, problem: RuleProblem) -> Self {
        Self { key, problem }
    }

    /// The way to the part of that value that is wrong; none if it is the whole.
    pub(super) fn path(&self) -> &[Segment] {
        match &self.problem {
            RuleProblem::Shaping(error) => error.path(),
            _ => &[],
        }
    }

    /// The key whose value is wrong.
    pub(crate) const fn key(&self) -> &'static str {
        self.key
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "invalid name of a rule {}: expected up to 64 letters, digits, -, _ and ., of which the first is a letter or a digit",
                quoted(name)
            ),
            Self::Selector(error) => error.fmt(f),
            Self::Count(error) => error.fmt(f),
            Self::Time(text) => {
                write!(f, "invalid time {}: expected one such as 2026-12-01T18:00:00Z", quoted(text))
            }
            Self::Shaping(error) => error.fmt(f),
            Self::Lifetime => f.write_str("a rule has no `for` in its shaping: its end is `until`"),
        }
    }
}
