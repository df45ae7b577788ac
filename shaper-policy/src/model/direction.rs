//! The direction of packets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The direction of packets, seen from the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Packets that the container sends, shaped at the container's end of its veth.
    Egress,
    /// Packets that the container receives, shaped at the host's end of its veth.
    Ingress,
}

impl Direction {
    /// Returns the word for it in commands, pin paths and reports.
    pub const fn as_str(self) -> &'static str {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// Packets that the container sends.
    #[default]
    Egress,
    /// Packets that the container receives.
    Ingress,
    /// Both, each with the whole of what is asked: a latency of 50 ms adds 100 ms to a round trip.
    Both,
}

impl Directions {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Both => "both",
        }
    }

    /// One by one.
    pub const fn each(self) -> &'static [Direction] {
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
