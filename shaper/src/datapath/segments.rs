//! Has a container send single packets while some of them are to be lost.
//!
//! TCP gives a device up to 64 KB at once, 44 packets that are parted behind the classifier only (GSO): it could lose
//! all or none of them. So a device from which packets are lost takes one segment at a time, which TCP heeds when it
//! makes its packets. It heeds the device of its own route: what others send to a container does not depend on where it
//! is shaped. So only what a container sends is made so.

use super::{
    device::{Device, SINGLE},
    instance::Instance,
    site::Site,
};
use crate::network::{NetlinkError, Socket, link_at, set_gso_max_segs};

/// The number of segments that a device takes at once unless told otherwise: `GSO_MAX_SEGS`.
const DEFAULT: u32 = 65_535;

/// Returns true if a device that took `original` segments at once may have been made to take single ones.
pub(super) const fn may_be_held(original: u32, site: Site) -> bool {
    matches!(site, Site::Egress) && original != SINGLE
}

/// Returns true if a loss on a device needs it to take single segments, and it does not yet.
pub(super) const fn are_to_be_held(device: &Device) -> bool {
    matches!(device.site, Site::Egress) && device.gso_max_segs != SINGLE
}

/// Guesses the segments that a device took at once before an instance that cannot be read held it to single ones.
pub(super) const fn guess(device: &Device) -> u32 {
    match (device.site, device.gso_max_segs) {
        (Site::Egress, SINGLE) => DEFAULT,
        (_, segments) => segments,
    }
}

/// Has an instance's device take single segments.
pub(super) fn hold(socket: &Socket, instance: &Instance) -> Result<(), NetlinkError> {
    let device = instance.device();
    if device.site != Site::Egress {
        return Ok(());
    }
    instance.note_held(true);
    set(socket, device, |segments| (segments != SINGLE).then_some(SINGLE))
}

/// Has a device take as many segments as it did, unless somebody else has changed that.
pub(super) fn release(socket: &Socket, device: &Device, original: u32) -> Result<(), NetlinkError> {
    if device.site != Site::Egress {
        return Ok(());
    }
    // A record may contain anything; no device takes more, or none (`do_setlink`, Linux 6.1).
    let original = if (SINGLE..=DEFAULT).contains(&original) { original } else { DEFAULT };
    set(socket, device, |segments| (segments == SINGLE && original != SINGLE).then_some(original))
}

/// Changes what a device takes to what `change` makes of it; a device that has gone takes nothing.
fn set(
    socket: &Socket,
    device: &Device,
    change: impl FnOnce(u32) -> Option<u32>,
) -> Result<(), NetlinkError> {
    let Some(link) = link_at(socket, device.ifindex)? else { return Ok(()) };
    change(link.gso_max_segs).map_or(Ok(()), |segments| set_gso_max_segs(socket, &link, segments))
}
