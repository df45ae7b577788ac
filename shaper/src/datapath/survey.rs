//! Which devices shape a network namespace's interfaces.

use std::fmt;

use netlink_packet_route::link::InfoKind;

use super::instance::Key;
use crate::{
    network::{Link, NetlinkError, Netns, Socket, links, netns_id_of},
    shaping::{Direction, Directions, NetnsRef, ShapingError},
};

/// Which end of an interface a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In the container's namespace.
    Container,
    /// In the host's, where the daemon is.
    Host,
}

/// The device that carries a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) end: End,
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) tx_queue_len: u32,
    pub(super) gso_max_segs: u32,
}

/// An interface of a container, one direction, and the device that can shape it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) interface: String,
    pub(super) device: Device,
    pub(super) netns: NetnsRef,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.interface, self.key.direction)
    }
}

/// What a namespace looks like from inside.
struct Inside {
    links: Vec<Link>,
    /// The number by which it knows the host's namespace.
    host_nsid: Option<i32>,
}

/// Opens a container's namespace, unless it is the host's own.
///
/// # Errors
///
/// When it is, or has gone.
pub(super) fn open(netns: &NetnsRef, host: &Netns) -> Result<Netns, ShapingError> {
    if netns.id == host.id() {
        return Err(ShapingError::Refused(
            "it shares the host's network (--network host): shaping it would shape the whole host. Give it a network \
             of its own"
                .to_owned(),
        ));
    }
    Netns::open(netns).map_err(|error| {
        ShapingError::Failed(format!("enter the network namespace at {}: {error}", netns.path.display()))
    })
}

/// All interfaces of a namespace in the directions asked for.
///
/// # Errors
///
/// When there are none, or one of them cannot be shaped in a direction.
pub(super) fn targets(
    netns: &NetnsRef,
    host: &Netns,
    directions: Directions,
) -> Result<Vec<Target>, ShapingError> {
    let inside = look_inside(&open(netns, host)?, host)?;
    let interfaces: Vec<_> = inside.links.iter().filter(|link| is_interface(link)).collect();
    if interfaces.is_empty() {
        return Err(ShapingError::Refused("it has no network interface that could be shaped".to_owned()));
    }
    let mut targets = Vec::new();
    for &direction in directions.each() {
        for &link in &interfaces {
            targets.push(target(netns, host, &inside, link, direction)?);
        }
    }
    Ok(targets)
}

/// The one interface with `ifindex`; none when it has gone or changed its nature.
///
/// # Errors
///
/// When the namespace cannot be looked into.
pub(super) fn target_at(netns: &NetnsRef, host: &Netns, key: Key) -> Result<Option<Target>, ShapingError> {
    let inside = look_inside(&open(netns, host)?, host)?;
    let Some(link) = inside.links.iter().find(|link| link.ifindex == key.ifindex) else { return Ok(None) };
    Ok(target(netns, host, &inside, link, key.direction).ok())
}

fn look_inside(netns: &Netns, host: &Netns) -> Result<Inside, ShapingError> {
    let look = || -> Result<Inside, NetlinkError> {
        let socket = Socket::open()?;
        Ok(Inside { links: links(&socket)?, host_nsid: netns_id_of(&socket, host)? })
    };
    netns.enter(look).map_err(cannot_enter)?.map_err(|error| ShapingError::Failed(error.to_string()))
}

/// Says what a failed setns(2) means.
#[expect(clippy::needless_pass_by_value, reason = "it is an adapter for map_err")]
pub(super) fn cannot_enter(error: std::io::Error) -> ShapingError {
    ShapingError::Failed(match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "no permission to enter a network namespace: run the daemon as root, or with CAP_SYS_ADMIN"
                .to_owned()
        }
        _ => format!("enter a network namespace: {error}"),
    })
}

/// Whether a link leads out of the namespace: a veth whose other end is elsewhere, a device on top of one that is
/// elsewhere, or hardware that was moved in. Bridges, tunnels and the like inside only pass on what such links carry,
/// and would delay it twice.
fn is_interface(link: &Link) -> bool {
    let elsewhere = link.peer.is_some_and(|peer| peer.nsid.is_some());
    link.is_ethernet
        && match &link.kind {
            None => true,
            Some(InfoKind::Veth | InfoKind::MacVlan | InfoKind::IpVlan) => elsewhere,
            Some(_) => false,
        }
}

fn target(
    netns: &NetnsRef,
    host: &Netns,
    inside: &Inside,
    link: &Link,
    direction: Direction,
) -> Result<Target, ShapingError> {
    let device = match direction {
        Direction::Egress => Device {
            end: End::Container,
            ifindex: link.ifindex,
            name: link.name.clone(),
            tx_queue_len: link.tx_queue_len,
            gso_max_segs: link.gso_max_segs,
        },
        Direction::Ingress => host_end(host, inside, link)?,
    };
    Ok(Target {
        key: Key { netns: netns.id, ifindex: link.ifindex, direction },
        interface: link.name.clone(),
        device,
        netns: netns.clone(),
    })
}

/// The host's end of a container's veth.
fn host_end(host: &Netns, inside: &Inside, link: &Link) -> Result<Device, ShapingError> {
    let elsewhere = || {
        let name = &link.name;
        ShapingError::Refused(format!(
            "{name} (ingress): what a container receives is shaped at the host's end of its veth, and {name} has none. \
             Shape what it sends (--direction egress)"
        ))
    };
    let peer = link.peer.filter(|_| link.kind == Some(InfoKind::Veth)).ok_or_else(elsewhere)?;
    if peer.nsid.is_none() || peer.nsid != inside.host_nsid {
        return Err(elsewhere());
    }
    let all = host
        .enter(|| links(&Socket::open()?))
        .map_err(cannot_enter)?
        .map_err(|error: NetlinkError| ShapingError::Failed(error.to_string()))?;
    let end = all.into_iter().find(|candidate| {
        candidate.ifindex == peer.ifindex && candidate.peer.is_some_and(|back| back.ifindex == link.ifindex)
    });
    end.map(|end| Device {
        end: End::Host,
        ifindex: end.ifindex,
        name: end.name,
        tx_queue_len: end.tx_queue_len,
        gso_max_segs: end.gso_max_segs,
    })
    .ok_or_else(elsewhere)
}
