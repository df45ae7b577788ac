//! A survey of the devices that shape a network namespace's interfaces.

use std::{collections::BTreeSet, iter, path::Path};

use netlink_packet_route::link::InfoKind;

use super::{
    device::{AttachPoint, Device, End, Key},
    error::cannot_enter,
};
use crate::{
    network::{Link, NetlinkError, Netns, Socket, default_route_devices, link_at, links, netns_id_of},
    shaping::{Attempt, Direction, Directions, Failure, Interfaces, NetnsRef, Refusal, ShapingError},
};

/// The network namespace of the first process, which is a host's, too, where the daemon is in another one.
const FIRST: &str = "/proc/1/ns/net";
/// The most links that an error names.
const SHOWN_LINKS: usize = 10;
/// The most interfaces of a container that can be shaped; each has programs, maps and pins of its own.
const MOST_INTERFACES: usize = 128;

/// The view of a namespace from inside.
pub(super) struct Inside {
    links: Vec<Link>,
    /// The number by which it knows the host's namespace, if it does.
    host_nsid: Option<i32>,
    /// The number by which it knows the first process's namespace, where that is not the daemon's.
    first_nsid: Option<i32>,
    /// The devices of default routes, where they matter.
    default_routes: BTreeSet<u32>,
}

impl Inside {
    /// Looks around in the socket's namespace.
    pub(super) fn read(socket: &Socket, host: &Netns) -> Result<Self, NetlinkError> {
        // First the links: the kernel gives the peer's namespace a number when somebody asks for a link, or the link goes
        // up, and not before (peernet2id_alloc in rtnl_fill_link_netnsid).
        let links = links(socket)?;
        let first_nsid = match Netns::at(Path::new(FIRST)).ok().filter(|first| first.id() != host.id()) {
            Some(first) => netns_id_of(socket, &first)?,
            None => None,
        };
        let host_nsid = netns_id_of(socket, host)?;
        let mut inside = Self { links, host_nsid, first_nsid, default_routes: BTreeSet::new() };
        // There may be many routes.
        let (mut ways_out, is_uplink) =
            (inside.links.iter().filter(|link| leads_out(link)), |link| inside.is_uplink(link));
        if !ways_out.clone().any(is_uplink) || !ways_out.all(is_uplink) {
            inside.default_routes = default_route_devices(socket)?;
        }
        Ok(inside)
    }

    /// The interfaces that are `chosen`, else those that connect the namespace to the outside.
    fn interfaces(&self, chosen: Option<&Interfaces>) -> Result<Vec<&Link>, ShapingError> {
        let those = |wanted: &dyn Fn(&Link) -> bool| -> Vec<_> {
            self.links.iter().filter(|link| wanted(link)).collect()
        };
        if let Some(chosen) = chosen {
            let found = those(&|link| link.is_ethernet && chosen.has(&link.name, leads_out(link)));
            return if found.is_empty() { Err(self.has_none(chosen)) } else { Ok(found) };
        }
        let uplinks = those(&|link| leads_out(link) && self.is_uplink(link));
        // A router between namespaces has no outside, and some networks are a program's (slirp4netns, passt: a tap).
        let others: [&dyn Fn(&Link) -> bool; 2] =
            [&leads_out, &|link| link.is_ethernet && self.default_routes.contains(&link.ifindex)];
        let mut found = iter::once(uplinks).chain(others.into_iter().map(those));
        found.find(|found| !found.is_empty()).ok_or_else(|| {
            let others = self.links.iter().filter(|link| link.name != "lo");
            let left_out = others.map(described).take(SHOWN_LINKS).collect();
            Refusal::NoInterface { left_out }.into()
        })
    }

    /// Refuses a namespace that is connected to the first process's, and not to the daemon's: there is its host. A host in
    /// a host has the first process elsewhere, too, but is connected to its own containers.
    fn admits_this_host(&self) -> Result<(), ShapingError> {
        let leads_to = |nsid: Option<i32>| {
            let is_there = |link: &Link| link.peer.is_some_and(|peer| peer.nsid == nsid);
            nsid.is_some() && self.links.iter().any(is_there)
        };
        if leads_to(self.first_nsid) && !leads_to(self.host_nsid) {
            return Err(Refusal::OtherHost.into());
        }
        Ok(())
    }

    fn has_none(&self, chosen: &Interfaces) -> ShapingError {
        let ethernet = self.links.iter().filter(|link| link.is_ethernet);
        let has = ethernet.map(|link| link.name.clone()).take(SHOWN_LINKS).collect();
        Refusal::NoSuchInterface { chosen: chosen.to_string(), has }.into()
    }

    /// Returns true if a link that leads out of the namespace connects it to the outside, and not to a namespace that
    /// it holds itself, as those of containers in a container: the other end of a veth is the host's, or a default
    /// route leads over it.
    fn is_uplink(&self, link: &Link) -> bool {
        let peer = link.peer.and_then(|peer| peer.nsid);
        !link.is_end_of_pair()
            || peer.is_some() && peer == self.host_nsid
            || self.default_routes.contains(&link.ifindex)
    }

    /// Returns true if a device only connects containers that the container holds: a veth that is not the way out, or a
    /// bridge without any other port. Its address is known to them alone, and others may have the same.
    pub(super) fn is_inner(&self, ifindex: u32) -> bool {
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

/// Tells whether a namespace is a host's: the daemon's own, or the first process's.
pub(super) fn is_hosts(netns: &NetnsRef, host: &Netns) -> bool {
    let first = NetnsRef { id: netns.id, path: FIRST.into() };
    netns.id == host.id() || Netns::is_at(&first).is_ok_and(|is_first| is_first)
}

/// Opens a container's namespace, unless it is a host's own.
///
/// # Errors
///
/// When it is, or has gone.
pub(super) fn open(netns: &NetnsRef, host: &Netns) -> Result<Netns, ShapingError> {
    if is_hosts(netns, host) {
        return Err(Refusal::HostNetwork.into());
    }
    Netns::open(netns).map_err(|error| Attempt::OpenNetns(netns.path.clone()).failed(error).into())
}

/// The interfaces to shape in a namespace, which looks like `inside`: those `chosen`, else those that connect it to the
/// outside.
///
/// # Errors
///
/// When there are none or too many, or one of them cannot be shaped in that direction.
pub(super) fn points(
    netns: &NetnsRef,
    inside: &Inside,
    chosen: Option<&Interfaces>,
    direction: Direction,
) -> Result<Vec<AttachPoint>, ShapingError> {
    inside.admits_this_host()?;
    let links = inside.interfaces(chosen)?;
    if links.len() > MOST_INTERFACES {
        let (count, most, example) = (links.len(), MOST_INTERFACES, links[0].name.clone());
        return Err(Refusal::TooManyInterfaces { count, most, example }.into());
    }
    links.into_iter().map(|link| point(netns, inside, link, direction)).collect()
}

/// Looks into a namespace.
///
/// # Errors
///
/// When it cannot be looked into.
pub(super) fn look(netns: &NetnsRef, host: &Netns) -> Result<Inside, ShapingError> {
    let read = || Inside::read(&Socket::open()?, host);
    open(netns, host)?.enter(read).map_err(cannot_enter)?.map_err(failed)
}

/// All interfaces of a namespace that can be shaped, in those of the directions in which they can.
pub(super) fn shapeable(netns: &NetnsRef, inside: &Inside, directions: Directions) -> Vec<AttachPoint> {
    let links = inside.links.iter().filter(|link| link.is_ethernet);
    links
        .flat_map(|link| directions.each().iter().map(move |way| point(netns, inside, link, *way)))
        .filter_map(Result::ok)
        .collect()
}

/// Does `work` in the namespace that an attach point's device is in.
///
/// # Errors
///
/// When it cannot be entered, and those of `work`.
pub(super) fn on_device<T>(
    point: &AttachPoint,
    host: &Netns,
    work: impl FnOnce() -> Result<T, NetlinkError>,
) -> Result<T, ShapingError> {
    let done = match point.device.end {
        End::Host => host.enter(work),
        End::Container => open(&point.netns, host)?.enter(work),
    };
    done.map_err(cannot_enter)?.map_err(failed)
}

/// The result of a look for an interface that was shaped.
pub(super) enum Located {
    /// The interface, with the device that shapes it.
    Found(AttachPoint),
    /// Nothing: it has gone from its namespace, or changed its nature.
    Gone,
    /// The interface, without the device that shaped it, which this daemon does not see for this reason.
    Elsewhere(String),
}

/// The one interface with `ifindex`.
///
/// # Errors
///
/// When the namespace or the device cannot be looked at.
pub(super) fn point_at(netns: &NetnsRef, host: &Netns, key: Key) -> Result<Located, ShapingError> {
    let inside = look(netns, host)?;
    let Some(link) = inside.links.iter().find(|link| link.ifindex == key.ifindex) else {
        return Ok(Located::Gone);
    };
    if key.direction == Direction::Ingress {
        match link.peer.filter(|_| link.is_end_of_pair()).map(|peer| peer.nsid) {
            None | Some(None) => return Ok(Located::Gone),
            Some(nsid) if nsid != inside.host_nsid => {
                let name = &link.name;
                return Ok(Located::Elsewhere(format!(
                    "the other end of {name} is in another network namespace than this daemon (--net=host)"
                )));
            }
            Some(_) => {}
        }
    }
    point(netns, &inside, link, key.direction).map(Located::Found)
}

#[expect(clippy::needless_pass_by_value, reason = "it is an adapter for map_err")]
fn failed(error: NetlinkError) -> ShapingError {
    Failure::Netlink { cause: error.to_string(), advice: None }.into()
}

/// A link's name and kind, and why it could not be shaped if it has no Ethernet header.
fn described(link: &Link) -> String {
    let kind = link.kind.as_ref().map_or_else(|| "hardware".to_owned(), ToString::to_string);
    let ethernet = if link.is_ethernet { "" } else { ", not Ethernet" };
    format!("{} ({kind}{ethernet})", link.name)
}

/// Returns true if a link leads out of the namespace: a veth or netkit whose other end is elsewhere, a device on top of
/// one that is elsewhere, or hardware that was moved in. Bridges, tunnels and the like inside only pass on what such
/// links carry, and would delay it twice.
fn leads_out(link: &Link) -> bool {
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

fn point(
    netns: &NetnsRef,
    inside: &Inside,
    link: &Link,
    direction: Direction,
) -> Result<AttachPoint, ShapingError> {
    let device = match direction {
        Direction::Egress => Device {
            end: End::Container,
            ifindex: link.ifindex,
            name: link.name.clone(),
            gso_max_segs: link.gso_max_segs,
            peer: link.peer,
        },
        Direction::Ingress => host_end(inside, link)?,
    };
    Ok(AttachPoint {
        key: Key { netns: netns.id, ifindex: link.ifindex, direction },
        interface: link.name.clone(),
        device,
        netns: netns.clone(),
    })
}

/// The host's end of a container's veth or netkit. The calling thread is in the host's namespace, as all are but on visits.
fn host_end(inside: &Inside, link: &Link) -> Result<Device, ShapingError> {
    let elsewhere = || ShapingError::from(Refusal::NoHostEnd { interface: link.name.clone() });
    let peer = link.peer.filter(|_| link.is_end_of_pair()).ok_or_else(elsewhere)?;
    if peer.nsid.is_none() || peer.nsid != inside.host_nsid {
        return Err(elsewhere());
    }
    let end = Socket::open().and_then(|socket| link_at(&socket, peer.ifindex)).map_err(failed)?;
    let is_other_end = |end: &Link| end.peer.is_some_and(|back| back.ifindex == link.ifindex);
    end.filter(is_other_end)
        .map(|end| Device {
            end: End::Host,
            ifindex: end.ifindex,
            name: end.name,
            gso_max_segs: end.gso_max_segs,
            peer: end.peer,
        })
        .ok_or_else(elsewhere)
}
