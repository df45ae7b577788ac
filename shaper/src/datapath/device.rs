//! The devices that programs are attached to.

use std::fmt;

use super::{pins::PinName, site::Site};
use crate::{
    network::{Link, Peer},
    shaping::{Direction, NetnsId, NetnsRef},
};

/// The number of segments that a device takes at once that holds senders to single packets.
pub(super) const SINGLE: u32 = 1;

/// The interface that an instance shapes, and where: `ifindex` is the container's end wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) netns: NetnsId,
    pub(super) ifindex: u32,
    pub(super) site: Site,
}

impl Key {
    /// The least key of a namespace.
    pub(super) const fn first_of(netns: NetnsId) -> Self {
        Self { netns, ifindex: 0, site: Site::Egress }
    }

    pub(super) const fn direction(&self) -> Direction {
        self.site.direction()
    }

    /// Returns true if both shape the same direction of the same interface.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (self.netns, self.ifindex, self.direction()) == (other.netns, other.ifindex, other.direction())
    }

    pub(super) const fn pin_name(&self) -> PinName {
        PinName { inode: self.netns.inode, ifindex: self.ifindex, site: self.site }
    }
}

/// The device that carries a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) site: Site,
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) gso_max_segs: u32,
    /// The other end of a veth.
    pub(super) peer: Option<Peer>,
    /// The interface whose packets are led through it, of a detour.
    pub(super) diverts: Option<u32>,
}

/// An attach point: an interface of a container, one direction, and the device that can shape it.
#[derive(Clone, Debug)]
pub(super) struct AttachPoint {
    pub(super) key: Key,
    pub(super) interface: String,
    /// The link-layer address of the interface.
    pub(super) address: Vec<u8>,
    pub(super) device: Device,
    pub(super) netns: NetnsRef,
}

impl AttachPoint {
    /// The point at which `device` shapes an interface of a namespace.
    pub(super) fn new(netns: &NetnsRef, interface: &Link, device: Device) -> Self {
        Self {
            key: Key { netns: netns.id, ifindex: interface.ifindex, site: device.site },
            interface: interface.name.clone(),
            address: interface.address.clone(),
            device,
            netns: netns.clone(),
        }
    }
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.interface, self.key.direction())
    }
}

impl Device {
    /// The device of a site that a link is.
    pub(super) fn of(site: Site, link: &Link) -> Self {
        Self {
            site,
            ifindex: link.ifindex,
            name: link.name.clone(),
            gso_max_segs: link.gso_max_segs,
            peer: link.peer,
            diverts: None,
        }
    }

    /// Index of the device that was there before, and is recorded: the interface itself, or the host's end.
    pub(super) fn recorded(&self) -> u32 {
        self.diverts.unwrap_or(self.ifindex)
    }

    /// Returns true if the device, which took `original` segments at once, takes single ones by our doing.
    pub(super) const fn is_held(&self, original: u32) -> bool {
        matches!(self.site, Site::Egress) && self.gso_max_segs == SINGLE && original != SINGLE
    }
}
