//! The places where the directions of an interface are shaped.

use crate::{network::Side, shaping::Direction};

/// The place where a direction of an interface is shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Site {
    /// The interface's egress hook: what the container sends.
    Egress,
    /// The egress hook of the host's end of its veth or netkit: what the container receives.
    HostEnd,
    /// The interface's ingress hook, in front of which no packet can wait: what the container receives, by any way.
    Ingress,
    /// The egress hook of a device of ours in the container's namespace, through which all is led that the interface
    /// receives.
    Detour,
}

impl Site {
    pub(super) const ALL: [Self; 4] = [Self::Egress, Self::HostEnd, Self::Ingress, Self::Detour];

    /// The name in the paths of pins.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::HostEnd => "ingress",
            Self::Ingress => "ingress-own",
            Self::Detour => "ingress-detour",
        }
    }

    pub(super) const fn direction(self) -> Direction {
        match self {
            Self::Egress => Direction::Egress,
            Self::HostEnd | Self::Ingress | Self::Detour => Direction::Ingress,
        }
    }

    /// The side of its device that the program sits on.
    pub(super) const fn side(self) -> Side {
        match self {
            Self::Egress | Self::HostEnd | Self::Detour => Side::Egress,
            Self::Ingress => Side::Ingress,
        }
    }

    /// Returns true if its device is in the host's namespace, where the daemon is, and not in the container's.
    pub(super) const fn is_on_host(self) -> bool {
        matches!(self, Self::HostEnd)
    }

    /// Returns true if packets can wait there.
    pub(super) const fn has_queue(self) -> bool {
        !matches!(self, Self::Ingress)
    }
}
