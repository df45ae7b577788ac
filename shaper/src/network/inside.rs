//! The view of a namespace from inside: its links, and those that lead out of it.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use netlink_packet_route::link::InfoKind;

use super::{Link, NetlinkError, Netns, Socket, address, default_route_devices, links, netns_id_of};

/// The network namespace of the first process, which is a host's, too, where the daemon is in another one.
pub(crate) const FIRST: &str = "/proc/1/ns/net";

/// The view of a namespace from inside.
pub(crate) struct Inside {
    pub(crate) links: Vec<Link>,
    /// The number by which it knows the host's namespace, if it does.
    pub(crate) host_nsid: Option<i32>,
    /// The number by which it knows the first process's namespace, where that is not the daemon's.
    pub(crate) first_nsid: Option<i32>,
    /// The devices of default routes, where they matter.
    pub(crate) default_routes: BTreeSet<u32>,
    /// The addresses of global scope, each with its device's index.
    pub(crate) addresses: Vec<(u32, IpAddr)>,
}

impl Inside {
    /// Looks around in the socket's namespace.
    ///
    /// # Errors
    ///
    /// When the kernel does not list its links or routes.
    pub(crate) fn read(socket: &Socket, host: &Netns) -> Result<Self, NetlinkError> {
        // First the links: the kernel gives the peer's namespace a number when somebody asks for a link, or the link goes
        // up, and not before (peernet2id_alloc in rtnl_fill_link_netnsid).
        let links = links(socket)?;
        let first_nsid = match Netns::at(Path::new(FIRST)).ok().filter(|first| first.id() != host.id()) {
            Some(first) => netns_id_of(socket, &first)?,
            None => None,
        };
        let host_nsid = netns_id_of(socket, host)?;
        let addresses = address::addresses(socket)?;
        let mut inside = Self { links, host_nsid, first_nsid, default_routes: BTreeSet::new(), addresses };
        // There may be many routes.
        let (mut ways_out, is_uplink) =
            (inside.links.iter().filter(|link| leads_out(link)), |link| inside.is_uplink(link));
        if !ways_out.clone().any(is_uplink) || !ways_out.all(is_uplink) {
            inside.default_routes = default_route_devices(socket)?;
        }
        Ok(inside)
    }

    /// Returns true if a link that leads out of the namespace connects it to the outside, and not to a namespace that
    /// it holds itself, as those of containers in a container: the other end of a veth is the host's, or a default
    /// route leads over it.
    pub(crate) fn is_uplink(&self, link: &Link) -> bool {
        let peer = link.peer.and_then(|peer| peer.nsid);
        !link.is_end_of_pair()
            || peer.is_some() && peer == self.host_nsid
            || self.default_routes.contains(&link.ifindex)
    }

    /// Returns true if a device only connects containers that the container holds: a veth that is not the way out, or a
    /// bridge without any other port. Its address is known to them alone, and others may have the same.
    fn is_inner(&self, ifindex: u32) -> bool {
        let Some(link) = self.links.iter().find(|link| link.ifindex == ifindex) else { return false };
        match link.kind {
            Some(InfoKind::Veth | InfoKind::Netkit) => {
                let has_uplink = || self.links.iter().any(|link| leads_out(link) && self.is_uplink(link));
                leads_out(link) && !self.is_uplink(link) && has_uplink()
            }
            Some(InfoKind::Bridge) => {
                let mut ports = self.links.iter().filter(|port| port.master == Some(ifindex));
                ports.all(|port| self.is_inner(port.ifindex))
            }
            _ => false,
        }
    }
}

/// Returns true if a link leads out of the namespace: a veth or netkit whose other end is elsewhere, a device on top of
/// one that is elsewhere, or hardware that was moved in. Bridges, tunnels and the like inside only pass on what such
/// links carry, and would delay it twice.
pub(crate) fn leads_out(link: &Link) -> bool {
    let elsewhere = link.peer.is_some_and(|peer| peer.nsid.is_some());
    link.is_ethernet
        && match &link.kind {
            None => true,
            Some(
                InfoKind::Veth
                | InfoKind::Netkit
                | InfoKind::MacVlan
                | InfoKind::MacVtap
                | InfoKind::IpVlan
                | InfoKind::Vlan,
            ) => elsewhere,
            Some(_) => false,
        }
}

/// The addresses by which others reach the socket's namespace.
///
/// # Errors
///
/// When the kernel does not list its links or addresses.
pub(crate) fn addresses(socket: &Socket, host: &Netns) -> Result<Vec<IpAddr>, NetlinkError> {
    let inside = Inside::read(socket, host)?;
    let reachable = inside.addresses.iter().filter(|(ifindex, _)| !inside.is_inner(*ifindex));
    Ok(reachable.map(|(_, address)| *address).collect())
}
