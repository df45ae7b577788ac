//! A survey of the devices that shape a network namespace's interfaces.

use std::{collections::BTreeSet, io, iter};

use super::{
    detour,
    device::{AttachPoint, Device, Key},
    error::{cannot_enter, gone},
    networks::ends,
    site::Site,
};
use crate::{
    network::{FIRST, Inside, Link, NetlinkError, Netns, Socket, leads_out, link_at},
    shaping::{Attempt, Directions, Endpoint, Failure, Interfaces, NetnsRef, Refusal, ShapingError},
};

/// The most links that an error names.
const SHOWN_LINKS: usize = 10;
/// The most interfaces of a container that can be shaped; each has programs, maps and pins of its own.
const MOST_INTERFACES: usize = 128;

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
    Netns::open(netns).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => gone(),
        _ => Attempt::OpenNetns(netns.path.clone()).failed(error).into(),
    })
}

/// The interfaces to shape in a namespace, which looks like `inside`: those `chosen`, by name or by its
/// connections to `networks`, else those that connect it to the outside.
///
/// # Errors
///
/// When there are none or too many.
pub(super) fn to_shape<'a>(
    inside: &'a Inside,
    chosen: Option<&Interfaces>,
    networks: &[Endpoint],
) -> Result<Vec<&'a Link>, ShapingError> {
    admits_this_host(inside)?;
    let links = interfaces(inside, chosen, networks)?;
    if links.len() > MOST_INTERFACES {
        let (count, most, example) = (links.len(), MOST_INTERFACES, links[0].name.clone());
        return Err(Refusal::TooManyInterfaces { count, most, example }.into());
    }
    Ok(links)
}

/// The interfaces that are `chosen`, else those that connect the namespace to the outside.
fn interfaces<'a>(
    inside: &'a Inside,
    chosen: Option<&Interfaces>,
    networks: &[Endpoint],
) -> Result<Vec<&'a Link>, ShapingError> {
    let those = |wanted: &dyn Fn(&Link) -> bool| -> Vec<_> {
        inside.links.iter().filter(|link| wanted(link) && !detour::is_end(link)).collect()
    };
    if let Some(chosen) = chosen {
        if networks.is_empty() && !chosen.networks().is_empty() {
            return Err(Refusal::NoNetworks { chosen: chosen.networks().join(", ") }.into());
        }
        let in_chosen = networks.iter().filter(|endpoint| chosen.has_network(&endpoint.network));
        let ends: BTreeSet<_> =
            in_chosen.flat_map(|endpoint| ends(inside, endpoint)).map(|link| link.ifindex).collect();
        let found = those(&|link| {
            link.is_ethernet && chosen.has(&link.name, leads_out(link)) || ends.contains(&link.ifindex)
        });
        return if found.is_empty() { Err(has_none(inside, chosen, networks)) } else { Ok(found) };
    }
    let uplinks = those(&|link| leads_out(link) && inside.is_uplink(link));
    // A router between namespaces has no outside, and some networks are a program's (slirp4netns, passt: a tap).
    let others: [&dyn Fn(&Link) -> bool; 2] =
        [&leads_out, &|link| link.is_ethernet && inside.default_routes.contains(&link.ifindex)];
    let mut found = iter::once(uplinks).chain(others.into_iter().map(those));
    found.find(|found| !found.is_empty()).ok_or_else(|| {
        let others = inside.links.iter().filter(|link| link.name != "lo" && !detour::is_end(link));
        let left_out = others.map(described).take(SHOWN_LINKS).collect();
        Refusal::NoInterface { left_out }.into()
    })
}

/// Refuses a namespace that is connected to the first process's, and not to the daemon's: there is its host. A host in
/// a host has the first process elsewhere, too, but is connected to its own containers.
fn admits_this_host(inside: &Inside) -> Result<(), ShapingError> {
    let leads_to = |nsid: Option<i32>| {
        let is_there = |link: &Link| link.peer.is_some_and(|peer| peer.nsid == nsid);
        nsid.is_some() && inside.links.iter().any(is_there)
    };
    if leads_to(inside.first_nsid) && !leads_to(inside.host_nsid) {
        return Err(Refusal::OtherHost.into());
    }
    Ok(())
}

fn has_none(inside: &Inside, chosen: &Interfaces, networks: &[Endpoint]) -> ShapingError {
    let ethernet = inside.links.iter().filter(|link| link.is_ethernet && !detour::is_end(link));
    let networks: Vec<_> =
        networks.iter().map(|endpoint| (&*endpoint.network, ends(inside, endpoint))).collect();
    let shown = |link: &Link| {
        let at_it = networks.iter().filter(|(_, ends)| ends.iter().any(|end| end.ifindex == link.ifindex));
        let names: Vec<_> = at_it.map(|(name, _)| *name).take(SHOWN_LINKS).collect();
        match names.is_empty() {
            true => link.name.clone(),
            false => format!("{} of network {}", link.name, names.join(" and ")),
        }
    };
    let has = ethernet.map(shown).take(SHOWN_LINKS).collect();
    Refusal::NoSuchInterface { chosen: chosen.to_string(), has }.into()
}

/// Looks into a namespace.
///
/// # Errors
///
/// When it cannot be looked into.
pub(super) fn look(netns: &NetnsRef, host: &Netns) -> Result<Inside, ShapingError> {
    visit(netns, host, |socket| Inside::read(socket, host))
}

/// Does `work` in a container's namespace, with a socket of it.
///
/// # Errors
///
/// When it is a host's own or has gone, when it cannot be entered, and those of `work`.
pub(super) fn visit<T>(
    netns: &NetnsRef,
    host: &Netns,
    work: impl FnOnce(&Socket) -> Result<T, NetlinkError>,
) -> Result<T, ShapingError> {
    let visit = || Socket::open().and_then(|socket| work(&socket));
    open(netns, host)?.enter(visit).map_err(cannot_enter)?.map_err(failed)
}

/// All sites of a namespace's own devices and of the host's, but for detours, at which these directions can be shaped.
pub(super) fn shapeable(netns: &NetnsRef, inside: &Inside, directions: Directions) -> Vec<AttachPoint> {
    let sites = [Site::Egress, Site::HostEnd, Site::Ingress].into_iter();
    let sites: Vec<_> = sites.filter(|site| directions.each().contains(&site.direction())).collect();
    let links = inside.links.iter().filter(|link| link.is_ethernet && !detour::is_end(link));
    links.flat_map(|link| sites.iter().filter_map(|site| point(netns, inside, link, *site))).collect()
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
    let done =
        if point.device.site.is_on_host() { host.enter(work) } else { open(&point.netns, host)?.enter(work) };
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
    if key.site == Site::HostEnd {
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
    Ok(point(netns, &inside, link, key.site).map_or(Located::Gone, Located::Found))
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

/// The attach point at one site of an interface; none if it has no such site.
pub(super) fn point(netns: &NetnsRef, inside: &Inside, link: &Link, site: Site) -> Option<AttachPoint> {
    let device = match site {
        Site::Egress | Site::Ingress => Device::of(site, link),
        Site::HostEnd => host_end(inside, link)?,
        Site::Detour => detour::find(&inside.links, link.ifindex)?,
    };
    Some(AttachPoint::new(netns, link, device))
}

/// The host's end of a container's veth or netkit, if there is one. The calling thread is in the host's namespace, as all
/// are but on visits.
fn host_end(inside: &Inside, link: &Link) -> Option<Device> {
    let peer = link.peer.filter(|_| link.is_end_of_pair())?;
    if peer.nsid.is_none() || peer.nsid != inside.host_nsid {
        return None;
    }
    let end = Socket::open().and_then(|socket| link_at(&socket, peer.ifindex)).ok()??;
    let is_other_end = end.peer.is_some_and(|back| back.ifindex == link.ifindex);
    is_other_end.then(|| Device::of(Site::HostEnd, &end))
}
