//! What a person asks for.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Latency, Loss, policy::parse_duration};

/// Which way packets go, seen from the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// What the container sends; shaped at the container's end of its veth.
    Egress,
    /// What the container receives; shaped at the host's end of its veth.
    Ingress,
}

impl Direction {
    /// As in commands, pin paths and reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The directions that a request is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Directions {
    /// What the container sends.
    #[default]
    Egress,
    /// What the container receives.
    Ingress,
    /// Both, each with the whole of what is asked: a latency of 50 ms adds 100 ms to a round trip.
    Both,
}

impl Directions {
    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Both => "both",
        }
    }

    /// One by one.
    pub(crate) const fn each(self) -> &'static [Direction] {
        match self {
            Self::Egress => &[Direction::Egress],
            Self::Ingress => &[Direction::Ingress],
            Self::Both => &[Direction::Egress, Direction::Ingress],
        }
    }
}

impl fmt::Display for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is to become of a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It becomes this.
    To(T),
}

impl<T> Change<Option<T>> {
    pub(super) fn applied_to(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::To(new) => new,
        }
    }
}

/// How long a policy lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
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

/// A change of a container's shaping. What it does not mention stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// Which directions it is about.
    pub(crate) directions: Directions,
    /// The delay; `To(None)` takes it away.
    pub(crate) latency: Change<Option<Latency>>,
    /// The loss; `To(None)` takes it away.
    pub(crate) loss: Change<Option<Loss>>,
    /// The deadline.
    pub(crate) lifetime: Change<Lifetime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_duration_or_forever() {
        assert_eq!("10m".parse(), Ok(Lifetime::For(Duration::from_secs(600))));
        assert_eq!("forever".parse(), Ok(Lifetime::Forever));
        assert!("0s".parse::<Lifetime>().is_err());
        assert!("soon".parse::<Lifetime>().is_err());
    }
}
