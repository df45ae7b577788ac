//! The devices that programs are attached to.

use std::fmt;

use super::pins::PinName;
use crate::{
    network::Peer,
    shaping::{Direction, NetnsId, NetnsRef},
};

/// The number of segments that a device takes at once that holds senders to single packets.
pub(super) const SINGLE: u32 = 1;
/// The interface and the direction of an instance: `ifindex` is the container's end even for ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) netns: NetnsId,
    pub(super) ifindex: u32,
    pub(super) direction: Direction,
}

impl Key {
    /// The least key of a namespace.
    pub(super) const fn first_of(netns: NetnsId) -> Self {
        Self { netns, ifindex: 0, direction: Direction::Egress }
    }

    pub(super) const fn pin_name(&self) -> PinName {
        PinName { inode: self.netns.inode, ifindex: self.ifindex, direction: self.direction }
    }
}

/// An end of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In the container's namespace.
    Container,
    /// In the host's, where the daemon is.
    Host,
}

impl End {
    /// The one at which a direction is shaped.
    pub(super) const fn of(direction: Direction) -> Self {
        match direction {
            Direction::Egress => Self::Container,
            Direction::Ingress => Self::Host,
        }
    }
}

/// The device that carries a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) end: End,
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) gso_max_segs: u32,
    /// The other end of a veth.
    pub(super) peer: Option<Peer>,
}

/// An attach point: an interface of a container, one direction, and the device that can shape it.
#[derive(Clone, Debug)]
pub(super) struct AttachPoint {
    pub(super) key: Key,
    pub(super) interface: String,
    pub(super) device: Device,
    pub(super) netns: NetnsRef,
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.interface, self.key.direction)
    }
}

impl Device {
    /// Returns true if the device, which took `original` segments at once, takes single ones by our doing.
    pub(super) const fn is_held(&self, original: u32) -> bool {
        matches!(self.end, End::Container) && self.gso_max_segs == SINGLE && original != SINGLE
    }
}
