//! Records what devices are before they are touched, and makes them that again.

use shaper_common::Original;

use super::{
    clsact, detour,
    device::{AttachPoint, Device},
    hook::{self, Attached},
    present::{Present, our_queue},
    segments,
    site::Site,
    survey::{self},
};
use crate::{
    network::{Link, NetlinkError, Netns, Socket, delete_root, link_at},
    shaping::{Hook, ShapingError},
};

/// The record of a device that nothing of ours is on.
pub(super) fn record(link: &Link, hook: Hook, has_clsact: bool) -> Original {
    Original {
        tx_queue_len: link.tx_queue_len,
        hook: match hook {
            Hook::Tcx => Original::TCX,
            Hook::Clsact if has_clsact => Original::FOREIGN_CLSACT,
            Hook::Clsact => Original::OWN_CLSACT,
        },
        gso_max_segs: link.gso_max_segs,
        valid: 1,
        peer_ifindex: peer_ifindex(link),
        address: padded(&link.address),
    }
}

/// Returns true if a link in any namespace is the device that was recorded.
pub(super) fn is_of(original: &Original, link: &Link) -> bool {
    original.address == padded(&link.address) && original.peer_ifindex == peer_ifindex(link)
}

/// Returns true if the device that was recorded still is where it was. Its address may have been changed; but another
/// veth that has its index has another peer.
///
/// # Errors
///
/// When the kernel does not say.
pub(super) fn is_there(socket: &Socket, device: &Device, original: &Original) -> Result<bool, NetlinkError> {
    let Some(link) = link_at(socket, device.recorded())? else { return Ok(false) };
    let has_its_peer = original.peer_ifindex != 0 && original.peer_ifindex == peer_ifindex(&link);
    Ok(has_its_peer || original.address == padded(&link.address))
}

fn peer_ifindex(link: &Link) -> u32 {
    link.peer.map_or(0, |peer| peer.ifindex)
}

fn padded(address: &[u8]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(address).for_each(|(byte, of_address)| *byte = *of_address);
    bytes
}

/// Makes a device in the calling thread's namespace what it was; says whether it is there at all.
///
/// # Errors
///
/// When the kernel refuses; what is not there needs no taking off.
pub(super) fn take_off(
    socket: &Socket,
    device: &Device,
    program_id: Option<u32>,
    original: Original,
) -> Result<bool, NetlinkError> {
    if device.site == Site::Detour {
        let is_there = is_there(socket, device, &original)?;
        return detour::remove(socket, device, original).map(|()| is_there);
    }
    let present = Present::read(socket, device)?;
    let ours = program_id.and_then(|id| present.runs(id));
    if ours.is_none() && !is_there(socket, device, &original)? {
        return Ok(false);
    }
    take_queue(socket, device, original)?;
    if let Some(ours) = ours {
        ours.take_off(socket, device)?;
    }
    clsact::take_off(socket, device, original)?;
    give_back(socket, device, original)?;
    Ok(true)
}

/// Gives a device back what it keeps even where it is moved to another namespace, which takes its qdiscs off it
/// (`dev_shutdown`): its queue length and its number of segments.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn give_back(socket: &Socket, device: &Device, original: Original) -> Result<(), NetlinkError> {
    clsact::restore_length(socket, device, original)?;
    segments::release(socket, device, original.gso_max_segs)
}

/// Returns true if a device may keep something of its shaping where it is found. The host's end of a veth may even keep
/// the classifier, where it stayed and the container's end left; and any device its TCX program, which moves with it.
pub(super) const fn is_kept(original: &Original, site: Site) -> bool {
    let keeps = match site {
        Site::HostEnd => true,
        Site::Egress | Site::Ingress | Site::Detour => {
            original.tx_queue_len == 0
                || original.hook == Original::TCX
                || segments::may_be_held(original.gso_max_segs, site)
        }
    };
    keeps && original.valid != 0
}

/// Corrects the record of a device that carried another shaping before, or carries it beside.
pub(super) const fn corrected(later: Original, first: &Original) -> Original {
    Original {
        tx_queue_len: if later.tx_queue_len == clsact::DEFAULT_TX_QUEUE_LEN {
            first.tx_queue_len
        } else {
            later.tx_queue_len
        },
        hook: if first.hook == Original::OWN_CLSACT && later.hook == Original::FOREIGN_CLSACT {
            first.hook
        } else {
            later.hook
        },
        gso_max_segs: if segments::may_be_held(later.gso_max_segs, Site::Egress) {
            later.gso_max_segs
        } else {
            first.gso_max_segs
        },
        ..later
    }
}

/// Takes off what a program that cannot be taken over has on its device. Where nothing says what the device was, and it
/// does not run the program, nothing of ours is on it.
///
/// # Errors
///
/// When the device cannot be looked at, or the kernel refuses.
pub(super) fn clear_off(
    point: &AttachPoint,
    host: &Netns,
    program_id: Option<u32>,
    recorded: Option<Original>,
) -> Result<(), ShapingError> {
    let device = &point.device;
    survey::on_device(point, host, || {
        let socket = Socket::open()?;
        let attached = Attached::on(&socket, device)?;
        let ours = attached.iter().find(|attached| program_id.is_some_and(|id| attached.runs(id)));
        let hook = match (recorded, ours) {
            (Some(original), _) => hook::of(&original),
            (None, Some(ours)) => ours.hook(),
            (None, None) => return Ok(()),
        };
        let Some(link) = link_at(&socket, device.ifindex)? else { return Ok(()) };
        take_off(&socket, device, program_id, recorded.unwrap_or_else(|| guess(device, &link, hook)))
            .map(drop)
    })
}

/// Takes a queue of ours off a device that no program of ours is on, as somebody took it off and removed the pins; says
/// whether there was one.
///
/// # Errors
///
/// When the device cannot be looked at, or the kernel refuses.
pub(super) fn clear_queue(point: &AttachPoint, host: &Netns) -> Result<bool, ShapingError> {
    let device = &point.device;
    survey::on_device(point, host, || {
        let socket = Socket::open()?;
        if our_queue(&socket, device)?.is_none() {
            return Ok(false);
        }
        let attached = Attached::on(&socket, device)?;
        let Some(link) = link_at(&socket, device.ifindex)? else { return Ok(false) };
        if attached.iter().any(|attached| attached.is_named_as_ours(device)) {
            return Ok(false);
        }
        take_off(&socket, device, None, guess(device, &link, Hook::Tcx))
    })
}

/// Guesses the record of a device of which there is none: it had any other length than none, and a clsact that holds
/// nothing does nothing.
pub(super) fn guess(device: &Device, link: &Link, hook: Hook) -> Original {
    Original { tx_queue_len: 1, gso_max_segs: segments::guess(device), ..record(link, hook, false) }
}

/// Takes our queue off a device, and what waits in it.
pub(super) fn take_queue(socket: &Socket, device: &Device, original: Original) -> Result<(), NetlinkError> {
    if our_queue(socket, device)?.is_none() {
        return Ok(());
    }
    delete_root(socket, device.ifindex)?;
    clsact::restore_length(socket, device, original)
}
