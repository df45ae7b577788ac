//! Detours: ways for what an interface receives, where packets cannot wait at the other end of it.
//!
//! That end may be no device of the host's (macvlan, ipvlan, hardware), or packets may be led past it. A packet that is to
//! wait is then sent out by a pair of veths in the container's own namespace, in whose queue it waits, and back:
//!
//! ```text
//! interface, ingress --> first end, egress: classifier, fq --> second end, ingress --> interface, ingress --> container
//! ```
//!
//! One program leads them, a classifier under clsact on both ingress hooks. It is not put on the TCX hook, whose programs
//! go where a device goes: elsewhere other devices have the indices that it leads to.

use std::{error::Error, mem, path::Path};

use aya::programs::{
    SchedClassifier,
    tc::{NlOptions, TcAttachOptions},
};
use shaper_common::Original;

use super::{
    clsact,
    device::Device,
    error::explain,
    hook::{Attached, attach_type},
    pins,
    present::{PRIORITY, Present},
    site::Site,
};
use crate::{
    network::{Link, NetlinkError, Side, Socket, add_clsact, add_pair, delete_link, link_at, links},
    shaping::{Attempt, ShapingError, with_causes},
};

/// The record of an interface of which there is none: it had any other length than none, and a clsact that holds nothing
/// does nothing.
const UNKNOWN: Original = Original {
    tx_queue_len: 1,
    hook: Original::OWN_CLSACT,
    gso_max_segs: 0,
    valid: 1,
    peer_ifindex: 0,
    address: [0; 8],
};

/// Returns the names of the ends of an interface's detour: packets go in by the first, and come out by the second.
fn names(interface: u32) -> [String; 2] {
    // The longest possible: 15 bytes (`IFNAMSIZ`).
    [format!("shaper{interface:x}i"), format!("shaper{interface:x}o")]
}

/// Returns the interface whose detour a link is an end of, whether there is such an interface or not.
pub(super) fn interface_of(link: &Link) -> Option<u32> {
    let number = link.name.strip_prefix("shaper")?.strip_suffix(['i', 'o'])?;
    let is_pair = link.is_end_of_pair() && link.peer.is_some_and(|peer| peer.nsid.is_none());
    u32::from_str_radix(number, 16).ok().filter(|interface| is_pair && names(*interface).contains(&link.name))
}

/// Returns true for an end of a detour.
pub(super) fn is_end(link: &Link) -> bool {
    interface_of(link).is_some()
}

/// Returns the device in which packets of an interface wait, if there is one among the `links` of its namespace.
pub(super) fn find(links: &[Link], interface: u32) -> Option<Device> {
    let [first, _] = names(interface);
    let link = links.iter().find(|link| link.name == first && interface_of(link) == Some(interface))?;
    Some(Device { diverts: Some(interface), ..Device::of(Site::Detour, link) })
}

/// Makes a detour for an interface of the socket's namespace; nothing is led through it yet.
///
/// # Errors
///
/// When the kernel refuses it; nothing of it is left then.
pub(super) fn make(socket: &Socket, interface: &Link) -> Result<Device, NetlinkError> {
    let [first, second] = names(interface.ifindex);
    let make = || {
        add_pair(socket, [&first, &second], &format!("shaper: what {} receives waits here", interface.name))?;
        let found = find(&links(socket)?, interface.ifindex);
        found.ok_or_else(|| NetlinkError::new(format!("find {first}"), std::io::ErrorKind::NotFound.into()))
    };
    make().inspect_err(|_| {
        if let Ok(Some(device)) = links(socket).map(|links| find(&links, interface.ifindex)) {
            // What cannot be removed now is found by the next change.
            let _ = delete_link(socket, device.ifindex);
        }
    })
}

/// Returns an error unless packets can be led from a device's interface, which is in the socket's namespace.
pub(super) fn admits(socket: &Socket, device: &Device) -> Result<(), ShapingError> {
    let interface = interface(socket, device).map_err(|error| explain(&error))?;
    interface.map_or(Ok(()), |interface| {
        Present::read(socket, &interface).map_err(|error| explain(&error))?.admits_classifier(&interface)
    })
}

/// Leads what a device's interface receives through it, by the program that is pinned in `pins`.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn lead(socket: &Socket, device: &Device, pins: &Path) -> Result<(), ShapingError> {
    let failed = |reason: &dyn std::fmt::Display| Attempt::Attach(device.name.clone()).failed(reason);
    let mut program =
        SchedClassifier::from_pin(pins.join(pins::DETOUR)).map_err(|error| failed(&with_causes(&error)))?;
    // The way out first: what is led in before there is one would be lost.
    for end in way(socket, device).map_err(|error| explain(&error))? {
        let present = Present::read(socket, &end).map_err(|error| explain(&error))?;
        if present.attached().iter().any(|attached| attached.leads()) {
            continue;
        }
        if present.hook.is_none() {
            add_clsact(socket, end.ifindex).map_err(|error| explain(&error))?;
        }
        let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, ..NlOptions::default() });
        let attach = || -> Result<(), Box<dyn Error>> {
            let link = program.attach_with_options(&end.name, attach_type(Side::Ingress), options)?;
            // As other classifiers of ours, it stays when this is dropped.
            mem::forget(program.take_link(link)?);
            Ok(())
        };
        attach().map_err(|error| failed(&with_causes(&*error)))?;
    }
    Ok(())
}

/// Returns true if what a device's interface receives is led through it, and back.
///
/// # Errors
///
/// When the kernel does not say.
pub(super) fn is_led(socket: &Socket, device: &Device) -> Result<bool, NetlinkError> {
    let way = way(socket, device)?;
    let mut leading = 0;
    for end in &way {
        leading += usize::from(Attached::on(socket, end)?.iter().any(|attached| attached.leads()));
    }
    Ok(leading == 2)
}

/// Leads nothing through an interface's detour any more, and removes it with what waits in it.
///
/// # Errors
///
/// When the kernel refuses; what is not there needs no removal.
pub(super) fn remove(socket: &Socket, device: &Device, original: Original) -> Result<(), NetlinkError> {
    if let Some(interface) = interface(socket, device)? {
        for attached in Attached::on(socket, &interface)?.iter().filter(|other| other.leads()) {
            attached.take_off(socket, &interface)?;
        }
        clsact::take_off(socket, &interface, original)?;
    }
    match link_at(socket, device.ifindex)? {
        Some(link) if interface_of(&link) == device.diverts => delete_link(socket, link.ifindex),
        _ => Ok(()),
    }
}

/// Removes the detours of the socket's namespace that are not among those of the interfaces `known`, and takes off what
/// leads into them; returns true if there were any.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn remove_unknown(
    socket: &Socket,
    links: &[Link],
    known: impl Fn(u32) -> bool,
) -> Result<bool, NetlinkError> {
    let mut found = false;
    for link in links.iter().filter(|link| link.is_ethernet && !is_end(link) && !known(link.ifindex)) {
        let interface = Device::of(Site::Ingress, link);
        for attached in Attached::on(socket, &interface)?.iter().filter(|other| other.leads()) {
            attached.take_off(socket, &interface)?;
            clsact::take_off(socket, &interface, UNKNOWN)?;
            found = true;
        }
    }
    for link in links.iter().filter(|link| interface_of(link).is_some_and(|interface| !known(interface))) {
        delete_link(socket, link.ifindex)?;
        found = true;
    }
    Ok(found)
}

/// Returns the devices on whose ingress packets are led: the end by which they come out, and the interface.
fn way(socket: &Socket, device: &Device) -> Result<Vec<Device>, NetlinkError> {
    let second = match device.peer {
        Some(peer) => link_at(socket, peer.ifindex)?,
        None => None,
    };
    let second = second.filter(|link| interface_of(link) == device.diverts);
    Ok(second
        .map(|link| Device::of(Site::Ingress, &link))
        .into_iter()
        .chain(interface(socket, device)?)
        .collect())
}

fn interface(socket: &Socket, device: &Device) -> Result<Option<Device>, NetlinkError> {
    let link = device.diverts.map(|interface| link_at(socket, interface)).transpose()?.flatten();
    Ok(link.map(|link| Device::of(Site::Ingress, &link)))
}
