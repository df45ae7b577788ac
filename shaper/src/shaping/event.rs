//! Events: changes of shaping without a request.

use std::fmt;

use super::{Direction, NetnsId};

/// Something that happened to the shaping of one interface in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The container's network namespace.
    pub(crate) netns: NetnsId,
    /// The container's name for the interface.
    pub(crate) interface: String,
    /// The direction that was shaped.
    pub(crate) direction: Direction,
    /// The effects in netem's words.
    pub(crate) effects: String,
    /// The kind of event.
    pub(crate) kind: EventKind,
}

/// The kind of an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The shaping has ended, for this reason.
    Ended(&'static str),
    /// Somebody else took a part of it off the device: the reason.
    Broken(String),
    /// It goes on at another place, where its packets pass.
    Moved,
    /// No longer broken for this reason.
    Repaired(String),
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(reason) => write!(f, "ended: {reason}"),
            Self::Moved => write!(f, "moved into the container, where its packets pass"),
            Self::Broken(reason) => write!(f, "broken: {reason}"),
            Self::Repaired(reason) => write!(f, "repaired: {reason}"),
        }
    }
}
