//! The change of one setting.

use std::{str::FromStr, time::Duration};

use crate::model::parse_duration;

/// The change of a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It becomes this.
    To(T),
}

impl<T: Clone> Change<T> {
    /// Returns the new value of a setting that was `old`.
    pub(super) fn applied_to(&self, old: T) -> T {
        match self {
            Self::Keep => old,
            Self::To(new) => new.clone(),
        }
    }
}

/// The lifetime of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is cleared.
    Forever,
    /// This long from now.
    For(Duration),
}

impl FromStr for Lifetime {
    type Err = String;

    /// Parses a duration, or `forever`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "forever" {
            return Ok(Self::Forever);
        }
        let duration = parse_duration(text, "duration")?;
        if duration.is_zero() {
            return Err("a duration of nothing: write for example 10m, or `forever`".to_owned());
        }
        Ok(Self::For(duration))
    }
}
