//! The lifetime of a policy.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Serialize, Serializer};

use crate::model::{PolicyError, parse_duration};

/// The lifetime of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is cleared.
    Forever,
    /// This long from now.
    For(Duration),
}

impl FromStr for Lifetime {
    type Err = PolicyError;

    /// Parses a duration, or `forever`.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.trim() == "forever" {
            return Ok(Self::Forever);
        }
        let duration = parse_duration(text, "duration")?;
        if duration.is_zero() {
            return Err(PolicyError::contradiction(
                "a duration of nothing",
                "write for example 10m, or `forever`",
            ));
        }
        Ok(Self::For(duration))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(duration) => write!(f, "{}", humantime::format_duration(*duration)),
        }
    }
}

impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
