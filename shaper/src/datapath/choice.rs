//! The choice of the site at which a direction of an interface is shaped, and moves from one to another.
//!
//! Packets that a container sends are shaped as they leave. Those that it receives are shaped where they arrive, by whatever
//! way, if none is to wait; else at the host's end, if there is one that they pass, and in a detour if not.

use std::sync::Arc;

use super::{
    Datapath, detour,
    device::{AttachPoint, Device},
    instance::Instance,
    site::Site,
    survey,
};
use crate::{
    network::{Inside, Link, links},
    shaping::{
        Direction, Directions, EventKind, Failure, Hook, NetnsId, NetnsRef, Request, Shaping, ShapingError,
    },
};

/// Returns the site for a policy: that of the instance `old`, if it will do.
pub(super) fn choose(
    shaping: &Shaping,
    direction: Direction,
    old: Option<&Instance>,
    has_host_end: impl FnOnce() -> bool,
) -> Site {
    if direction == Direction::Egress {
        return Site::Egress;
    }
    let is_bypassed = old.is_some_and(is_bypassed);
    match old.map(|old| old.key().site) {
        Some(site) if !is_bypassed && (site.has_queue() || !shaping.needs_queue()) => site,
        _ if !shaping.needs_queue() => Site::Ingress,
        _ if !is_bypassed && has_host_end() => Site::HostEnd,
        _ => Site::Detour,
    }
}

/// Returns the hook for a site, where `best` is that of all others. A detour has clsact, as what leads into it.
pub(super) fn hook(site: Site, best: Hook) -> Hook {
    if site == Site::Detour { Hook::Clsact } else { best }
}

/// Returns true if two instances change the same device.
pub(super) fn share_device(one: &Device, other: &Device) -> bool {
    one.recorded() == other.recorded() && one.site.is_on_host() == other.site.is_on_host()
}

/// Returns true if packets are known to pass the host's end.
fn is_bypassed(instance: &Instance) -> bool {
    instance.key().site == Site::HostEnd && instance.bypass().is_known()
}

impl Datapath {
    /// Returns the attach point at a site of an interface, making a detour where there is none yet.
    ///
    /// # Errors
    ///
    /// When the interface has no such site any more, or the detour cannot be made.
    pub(super) fn point(
        &self,
        netns: &NetnsRef,
        inside: &Inside,
        link: &Link,
        site: Site,
    ) -> Result<AttachPoint, ShapingError> {
        if let Some(point) = survey::point(netns, inside, link, site) {
            return Ok(point);
        }
        if site != Site::Detour {
            return Err(Failure::Gone("interface").into());
        }
        let device = self.visit(netns, |socket, _| detour::make(socket, link))?;
        Ok(AttachPoint::new(netns, link, device))
    }

    /// Removes a detour that an instance could not be put on; there is none at other sites.
    pub(super) fn abandon_detour(&self, point: &AttachPoint) {
        if point.key.site == Site::Detour {
            // What cannot be removed now is found by the next change.
            let is_another = |interface| interface != point.key.ifindex;
            let _ = self
                .visit(&point.netns, |socket, _| detour::remove_unknown(socket, &links(socket)?, is_another));
        }
    }

    /// Moves the shaping of what a container receives to where its packets pass, once they are known to pass the host's
    /// end unseen.
    pub(super) fn follow_packets(&self, netns: NetnsId) {
        let in_force = |instance: &&Arc<Instance>| instance.is_in_force();
        let instances = self.of(netns);
        let Some(bypassed) = instances.iter().filter(in_force).find(|instance| is_bypassed(instance)) else {
            return;
        };
        let request = Request { directions: Directions::Ingress, ..Request::default() };
        if let Err(error) = self.set(&bypassed.netns(), &request) {
            return tracing::warn!(interface = %bypassed, %error, "cannot shape what passes the host's end");
        }
        let moved = |instance: &&Arc<Instance>| instance.key().is_beside(&bypassed.key());
        if let Some(moved) = self.of(netns).iter().filter(in_force).find(moved) {
            self.tell(moved, EventKind::Moved);
        }
    }
}
