//! Errors in rules: what is wrong, and at which key.

use std::fmt;

use shaper_policy::Segment;
use thiserror::Error;

use super::LABELS;
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
    /// The name of the rules that labels make.
    Reserved,
    /// An error in the selector.
    Selector(SelectorError),
    /// An error in the number of containers.
    Count(CountError),
    /// A text that is no time.
    Time(String),
    /// A label that there is not.
    Label(String),
    /// Labels that do not say what is to be done.
    NoEffect,
    /// A preset and effects beside it.
    Contradiction,
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
            Self::Reserved => {
                write!(f, "{LABELS} is the rule of containers' own labels: choose another name")
            }
            Self::Selector(error) => error.fmt(f),
            Self::Count(error) => error.fmt(f),
            Self::Time(text) => {
                write!(f, "invalid time {}: expected one such as 2026-12-01T18:00:00Z", quoted(text))
            }
            Self::Label(label) => write!(
                f,
                "unknown label {}: expected shaper.netem, shaper.ingress, shaper.preset, shaper.to or shaper.for",
                quoted(label)
            ),
            Self::NoEffect => f.write_str(
                "they say nothing of what is to be done: add shaper.netem, shaper.ingress or shaper.preset",
            ),
            Self::Contradiction => {
                f.write_str("it says all by itself: leave it out, or shaper.netem and shaper.ingress")
            }
            Self::Shaping(error) => error.fmt(f),
            Self::Lifetime => f.write_str("a rule has no `for` in its shaping: its end is `until`"),
        }
    }
}
