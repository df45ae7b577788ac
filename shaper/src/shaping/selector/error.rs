//! Errors in selectors: what is wrong, and where.

use std::fmt;

use thiserror::Error;

use crate::shaping::quoted;

/// An error in the text of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("selector {}{}: {problem}", quoted(text), place(*.at))]
pub(crate) struct SelectorError {
    /// The whole text.
    text: String,
    /// The number of the character at which the part begins that is wrong; none if it is the whole.
    at: Option<usize>,
    problem: SelectorProblem,
}

/// The kind of an error in a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SelectorProblem {
    /// Nothing where a name or a kind should be.
    Nothing,
    /// A kind that there is not.
    UnknownKind {
        /// The word before the colon.
        kind: String,
        /// The kind that resembles it most, if any does.
        near: Option<&'static str>,
    },
    /// A kind without its value.
    NoValue(&'static str),
    /// A regular expression that is none, or too large.
    Regex {
        /// The expression.
        text: String,
        /// The reason, in the words of its reader.
        reason: String,
    },
    /// A longer text than there may be, in bytes.
    TooLong(usize),
    /// More parts than there may be.
    TooMany(usize),
}

impl SelectorError {
    /// The error of a part of `text` that begins at the byte `at`.
    pub(super) fn at(text: &str, at: usize, problem: SelectorProblem) -> Self {
        let at = text.get(..at).map(|before| before.chars().count() + 1);
        Self { text: text.to_owned(), at, problem }
    }

    /// The error of a whole text.
    pub(super) fn of(text: &str, problem: SelectorProblem) -> Self {
        Self { text: text.to_owned(), at: None, problem }
    }
}

fn place(at: Option<usize>) -> String {
    at.map(|at| format!(" at character {at}")).unwrap_or_default()
}

impl fmt::Display for SelectorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str(
                "expected a name, a pattern such as 'shop-*', a kind such as label:app=web, or all",
            ),
            Self::UnknownKind { kind, near: Some(near) } => {
                write!(f, "unknown kind {}; did you mean \"{near}\"?", quoted(kind))
            }
            Self::UnknownKind { kind, near: None } => {
                let kinds = super::KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
                write!(f, "unknown kind {}: expected one of {kinds}; a colon in a name is \\:", quoted(kind))
            }
            Self::NoValue(example) => write!(f, "expected a value, for example {example}"),
            Self::Regex { text, reason } => {
                write!(f, "invalid regular expression {}: {reason}", quoted(text))
            }
            Self::TooLong(most) => write!(f, "expected at most {most} bytes"),
            Self::TooMany(most) => write!(f, "expected at most {most} names and kinds"),
        }
    }
}
