//! Finds the devices of instances again, and tells those that have gone from those that cannot be seen.

use shaper_common::Original;

use super::{
    error::{cannot_enter, explain},
    instance::Instance,
    restore,
    site::Site,
};
use crate::{
    network::{Link, NamespaceKind, NetlinkError, Netns, Search, Socket, link_at, links, netns_id_of},
    shaping::{Failure, NetnsRef, ShapingError},
};

/// The namespace that an instance's device is in, wherever the container's can be found by now; none if it has gone.
///
/// # Errors
///
/// When it cannot be entered, or not be found and may still be there.
pub(super) fn on_device(instance: &Instance) -> Result<Option<Netns>, ShapingError> {
    if instance.device().site.is_on_host() {
        return Netns::own().map(Some).map_err(cannot_enter);
    }
    let Some(netns) = locate(instance)? else { return Ok(None) };
    match Netns::open(&netns) {
        Ok(netns) => Ok(Some(netns)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_enter(error)),
    }
}

/// Finds a path to the container's namespace; none if it has ended.
///
/// # Errors
///
/// When it cannot be found, and may still be there.
pub(super) fn locate(instance: &Instance) -> Result<Option<NetnsRef>, ShapingError> {
    let netns = instance.netns();
    if Netns::is_at(&netns).is_ok_and(|is_there| is_there) {
        return Ok(Some(netns));
    }
    let search = Search::new(NamespaceKind::Net, [netns.id.inode]);
    match search.of(netns.id.inode).map_err(|obstacle| unseen(&obstacle))? {
        Some(found) if found.id == netns.id => {
            instance.moved_to(found.clone());
            Ok(Some(found.clone()))
        }
        _ => ended(&instance.original(), instance.device().site, instance.key().ifindex).map(|()| None),
    }
}

/// Agrees that a namespace that was looked for everywhere has ended. Only a descriptor may still keep it, and the other
/// end of its veth shows that: it leads there, or to a namespace that can be seen if the interface has left.
///
/// # Errors
///
/// When it has not, or the host's devices cannot be looked at.
pub(super) fn ended(original: &Original, site: Site, ifindex: u32) -> Result<(), ShapingError> {
    let look = || -> Result<_, NetlinkError> {
        let socket = Socket::open()?;
        let Some(link) = host_end(&socket, original, site, ifindex)? else { return Ok(None) };
        let nsid = link.peer.and_then(|peer| peer.nsid);
        // One that ends meanwhile has no device.
        for netns in Netns::all().iter().filter_map(|netns| Netns::open(netns).ok()) {
            if netns_id_of(&socket, &netns)? == nsid {
                return Ok(None);
            }
        }
        Ok(Some(link.name))
    };
    match look().map_err(|error| explain(&error))? {
        Some(name) => Err(unseen(&format!("the other end of its veth, {name}, is still there"))),
        None => Ok(()),
    }
}

pub(super) fn unseen(reason: &dyn std::fmt::Display) -> ShapingError {
    Failure::Unfound { reason: reason.to_string() }.into()
}

/// The host's end, in the socket's namespace, of the veth whose other end is the container's interface with `ifindex`.
fn host_end(
    socket: &Socket,
    original: &Original,
    site: Site,
    ifindex: u32,
) -> Result<Option<Link>, NetlinkError> {
    if original.valid == 0 || original.peer_ifindex == 0 {
        return Ok(None);
    }
    let leads_there = |link: &Link| {
        link.is_end_of_pair() && link.peer.is_some_and(|peer| peer.nsid.is_some() && peer.ifindex == ifindex)
    };
    if site.is_on_host() {
        let is_it = |link: &Link| leads_there(link) && restore::is_of(original, link);
        return Ok(links(socket)?.into_iter().find(is_it));
    }
    Ok(link_at(socket, original.peer_ifindex)?.filter(leads_there))
}
