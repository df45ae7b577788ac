//! Errors in policies: what is wrong, and where in the document.

use std::{borrow::Cow, fmt};

use super::quote::{quoted, short};

/// Text that is known in advance, or made for the occasion.
type Text = Cow<'static, str>;

/// An error in a policy, in one of its parts, or in a request for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Where it is: the way from the document's root to the value.
    path: Vec<Segment>,
    problem: Box<Problem>,
    /// It as the reader of its document words it, with line and column.
    shown: Option<String>,
}

/// One step of the way to a value in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The field of a table.
    Field(Text),
    /// The element of a list, from 0 on.
    Index(usize),
}

/// The kind of an error, with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A value that does not have the form it should have.
    Invalid {
        /// The kind of value.
        what: Text,
        /// The value.
        value: String,
        /// The form that it should have.
        expected: Text,
    },
    /// A word or name that is unknown.
    Unknown {
        /// The kind of name.
        what: &'static str,
        /// The name.
        value: String,
        /// The names that there are.
        hint: Hint,
    },
    /// The beginning of several words.
    Ambiguous {
        /// The beginning.
        word: String,
        /// The words.
        candidates: Vec<&'static str>,
    },
    /// A value out of its range.
    OutOfRange {
        /// The kind of value.
        what: Text,
        /// The value, with its unit.
        value: String,
        /// The end of the range beyond which it is, and the range.
        range: &'static str,
    },
    /// More of something than there may be.
    TooMany {
        /// The things.
        what: Text,
        /// The most there may be.
        most: usize,
        /// A remedy; empty if there is none but fewer of them.
        advice: &'static str,
    },
    /// A part without its value, or without another part that it needs.
    Missing {
        /// The part.
        what: Text,
        /// The part or value that it needs.
        needs: &'static str,
        /// The text to write.
        example: &'static str,
    },
    /// A part that is given twice.
    Twice {
        /// The part.
        what: Text,
        /// A remedy.
        advice: &'static str,
    },
    /// Parts that are possible by themselves, but not like this.
    Contradiction {
        /// The combination.
        what: Text,
        /// A remedy.
        advice: Text,
    },
    /// Something that another tool does.
    Unsupported {
        /// The text.
        text: String,
        /// The matter with it.
        why: Text,
    },
    /// A text that is no document of its format, or has a value of another type.
    Malformed {
        /// The reason, with its place.
        reason: String,
    },
    /// A file that cannot be read.
    Unreadable {
        /// The reason, with the file's name.
        reason: String,
    },
    /// One of the others, in a part that has a name.
    In {
        /// The part.
        part: String,
        /// The error in it.
        problem: Box<Self>,
    },
}

/// The names that may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The name that resembles it most, if any does.
    Nearest(Option<&'static str>),
    /// Another text to write.
    Expected(Text),
}

impl PolicyError {
    pub(crate) fn invalid(what: impl Into<Text>, value: &str, expected: impl Into<Text>) -> Self {
        let (what, expected) = (what.into(), expected.into());
        Problem::Invalid { what, value: value.to_owned(), expected }.into()
    }

    /// Returns the error for a name that is unknown, with what else to write.
    pub fn unknown(what: &'static str, value: &str, expected: impl Into<Text>) -> Self {
        Problem::Unknown { what, value: value.to_owned(), hint: Hint::Expected(expected.into()) }.into()
    }

    pub(crate) fn out_of_range(what: impl Into<Text>, value: impl Into<String>, range: &'static str) -> Self {
        Problem::OutOfRange { what: what.into(), value: value.into(), range }.into()
    }

    pub(crate) fn too_many(what: impl Into<Text>, most: usize, advice: &'static str) -> Self {
        Problem::TooMany { what: what.into(), most, advice }.into()
    }

    pub(crate) fn missing(what: impl Into<Text>, needs: &'static str, example: &'static str) -> Self {
        Problem::Missing { what: what.into(), needs, example }.into()
    }

    pub(crate) fn twice(what: impl Into<Text>) -> Self {
        Problem::Twice { what: what.into(), advice: "leave one of them out" }.into()
    }

    pub(crate) fn contradiction(what: impl Into<Text>, advice: impl Into<Text>) -> Self {
        Problem::Contradiction { what: what.into(), advice: advice.into() }.into()
    }

    pub(crate) fn unsupported(text: &str, why: impl Into<Text>) -> Self {
        Problem::Unsupported { text: text.to_owned(), why: why.into() }.into()
    }

    /// Returns the error for a text that is no document, in the words of its reader.
    pub(crate) fn malformed(error: impl fmt::Display) -> Self {
        Problem::Malformed { reason: error.to_string().trim_end().to_owned() }.into()
    }

    /// Returns the error for a file that cannot be read, for a reason that names it.
    pub fn unreadable(reason: impl Into<String>) -> Self {
        Problem::Unreadable { reason: reason.into() }.into()
    }

    /// Returns the same error, in a part that has a name, such as a file.
    #[must_use]
    pub fn within(self, part: impl Into<String>) -> Self {
        let problem = Problem::In { part: part.into(), problem: self.problem };
        Self { problem: Box::new(problem), ..self }
    }

    /// Returns the same error, one step further from the value.
    #[must_use]
    pub fn at(mut self, segment: impl Into<Segment>) -> Self {
        self.path.insert(0, segment.into());
        self
    }

    /// Returns the same error without its place, for what is in no document.
    #[must_use]
    pub fn anywhere(self) -> Self {
        Self { path: Vec::new(), ..self }
    }

    /// Returns the same error, in the words of its document's reader.
    #[must_use]
    pub(crate) fn shown_as(self, shown: impl fmt::Display) -> Self {
        Self { shown: Some(shown.to_string().trim_end().to_owned()), ..self }
    }

    /// Returns the way from the root of the document to the value.
    pub fn path(&self) -> &[Segment] {
        &self.path
    }

    /// Returns the kind of error, with its values.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for PolicyError {
    fn from(problem: Problem) -> Self {
        Self { path: Vec::new(), problem: Box::new(problem), shown: None }
    }
}

impl From<&'static str> for Segment {
    fn from(field: &'static str) -> Self {
        Self::Field(field.into())
    }
}

impl From<String> for Segment {
    fn from(field: String) -> Self {
        Self::Field(field.into())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    /// Writes where it is, as in `target[1].to: ` or as the document's reader does, and what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shown) = &self.shown {
            return f.write_str(shown);
        }
        for (number, segment) in self.path.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Field(field) if number == 0 => write!(f, "{}", short(field))?,
                Segment::Field(field) => write!(f, ".{}", short(field))?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { what, value, expected } => {
                write!(f, "invalid {what} {}: expected {expected}", quoted(value))
            }
            Self::Unknown { what, value, hint } => write!(f, "unknown {what} {}{hint}", quoted(value)),
            Self::Ambiguous { word, candidates } => {
                write!(f, "{} may be any of {}: write more of it", quoted(word), candidates.join(", "))
            }
            Self::OutOfRange { what, value, range } => write!(f, "a {what} of {} is {range}", short(value)),
            Self::TooMany { what, most, advice } => {
                let then = if advice.is_empty() { "" } else { "; " };
                write!(f, "too many {what}: the most are {most}{then}{advice}")
            }
            Self::Missing { what, needs, example } => write!(f, "{what} needs {needs}: {example}"),
            Self::Twice { what, advice } => write!(f, "{what} is given twice: {advice}"),
            Self::Contradiction { what, advice } => write!(f, "{what}: {advice}"),
            Self::Unsupported { text, why } => write!(f, "{} {why}", quoted(text)),
            Self::Malformed { reason } | Self::Unreadable { reason } => f.write_str(reason),
            Self::In { part, problem } => write!(f, "{part}: {problem}"),
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(None) => Ok(()),
            Self::Nearest(Some(nearest)) => write!(f, "; did you mean {nearest:?}?"),
            Self::Expected(expected) => write!(f, ": {expected}"),
        }
    }
}
