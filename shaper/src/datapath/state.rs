//! Looks at what a device carries of an instance, and tells what somebody else took off it.
//!
//! Whoever calls this has the container's lock, so nothing of ours changes in between.

use std::sync::Arc;

use super::{
    Datapath,
    bypass::Counts,
    detour,
    device::Device,
    error::{cannot_enter, explain},
    hook::{self, Attached},
    instance::Instance,
    present::counts,
    restore,
    site::Site,
    survey,
    whereabouts::on_device,
};
use crate::{
    clock::monotonic_ns,
    network::{Inside, NetlinkError, Peer, Qdisc, Socket, link_at, packets_received, packets_sent, root},
    shaping::{Event, EventKind, NetnsId, NetnsRef, ShapingError, ShapingState},
};

const INTERFACE_GONE: &str = "its interface has gone";

/// An instance's device, as it was seen.
pub(super) enum Seen {
    /// It is there, with all that the policy needs or not.
    Present(ShapingState),
    /// It has gone, or another one has its index: the reason why its shaping ends.
    Gone(&'static str),
    /// Nothing, for this reason.
    Nothing(String),
}

impl Datapath {
    /// Looks into a namespace, in one visit, and forgets its instances whose device has gone, or whose namespace is a new
    /// one with an old number.
    pub(super) fn look_into(&self, netns: &NetnsRef) -> Result<Inside, ShapingError> {
        let shaped = self.of(netns.id);
        let (inner, outer): (Vec<_>, Vec<_>) =
            shaped.into_iter().partition(|instance| !instance.device().site.is_on_host());
        let look = |socket: &Socket| Ok((Inside::read(socket, &self.host)?, look_at_all(socket, inner)?));
        let (inside, mut seen) = survey::visit(netns, &self.host, look)?;
        if !outer.is_empty() {
            let looked = Socket::open().and_then(|socket| look_at_all(&socket, outer));
            seen.extend(looked.map_err(|error| explain(&error))?);
        }
        seen.into_iter().for_each(|(instance, seen)| self.note(&instance, seen));
        Ok(inside)
    }

    /// Looks at the devices in these namespaces, for [`Self::view`] to show; one that is being changed is left for the
    /// next time.
    pub(crate) fn look_at(&self, among: &[NetnsId]) {
        for instance in among.iter().flat_map(|netns| self.of(*netns)) {
            let was_bypassed = instance.bypass().is_known();
            // Or what was seen before a queue came or went would be noted after it.
            self.changing.try_with(instance.key().netns, || match look_at(&instance) {
                Ok(Some(seen)) if self.instance(&instance.key()).is_some() => self.note(&instance, seen),
                Ok(_) => {}
                Err(error) => self.note(&instance, Seen::Nothing(error.to_string())),
            });
            if !was_bypassed && instance.bypass().is_known() {
                self.follow_packets(instance.key().netns);
            }
        }
        self.seek_strays();
    }

    /// Takes in what was seen of an instance's device.
    pub(super) fn note(&self, instance: &Arc<Instance>, seen: Seen) {
        let state = match seen {
            Seen::Present(state) => state,
            Seen::Gone(reason) => {
                self.tell(instance, EventKind::Ended(reason));
                return self.forget(instance);
            }
            Seen::Nothing(reason) => ShapingState::Unknown(reason),
        };
        match (instance.note_state(state.clone()), state) {
            (old, new) if old == new => {}
            (_, ShapingState::Unknown(reason)) => {
                tracing::info!(interface = %instance, reason, "cannot look at its device: it stays as it is");
            }
            (_, ShapingState::Broken(reason)) => self.tell(instance, EventKind::Broken(reason)),
            (ShapingState::Broken(reason), _) => self.tell(instance, EventKind::Repaired(reason)),
            _ => {}
        }
    }

    pub(super) fn tell(&self, instance: &Instance, kind: EventKind) {
        let event = instance.event(kind);
        self.events.lock().push(event);
    }

    /// Returns what has happened to shaping without a request since this was asked last.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock())
    }
}

/// Looks at the devices of `instances`, which are in the socket's namespace.
fn look_at_all(
    socket: &Socket,
    instances: Vec<Arc<Instance>>,
) -> Result<Vec<(Arc<Instance>, Seen)>, NetlinkError> {
    let look_at = |instance: Arc<Instance>| look(socket, &instance).map(|seen| (instance, seen));
    instances.into_iter().map(look_at).collect()
}

/// Looks at an instance's device, in the socket's namespace, and notes what its queue says. Where the queue that the
/// policy needs is not there, the program is told that no packet waits.
///
/// # Errors
///
/// When the device cannot be looked at; that it has gone is no error.
pub(super) fn look(socket: &Socket, instance: &Instance) -> Result<Seen, NetlinkError> {
    let device = instance.device();
    let shaping = instance.shaping().unwrap_or_default();
    let in_force = shaping.is_in_force(monotonic_ns());
    let mut faults = Vec::new();
    if device.site.is_on_host() && !has_its_interface(socket, device)? {
        return Ok(Seen::Gone(INTERFACE_GONE));
    }
    let attached = Attached::on(socket, device)?;
    if !hook::runs(&attached, instance.program_id()) {
        if !restore::is_there(socket, device, &instance.original())? {
            return Ok(Seen::Gone(INTERFACE_GONE));
        }
        faults.push("classifier removed".to_owned());
    }
    if device.site == Site::Detour {
        if link_at(socket, device.ifindex)?.is_none() {
            return Ok(Seen::Gone("somebody removed the device in which its packets waited"));
        }
        if !restore::is_there(socket, device, &instance.original())? {
            return Ok(Seen::Gone(INTERFACE_GONE));
        }
        if !detour::is_led(socket, device)? {
            faults.push(format!("packets are no longer led through {}", device.name));
        }
    }
    let in_front = attached.first().filter(|first| !first.runs(instance.program_id()));
    let needs_queue = in_force && shaping.needs_queue();
    if needs_queue || instance.queue().is_some() {
        let root = root(socket, device.ifindex)?;
        let queue = root.as_ref().filter(|root| root.is_our_fq());
        instance.note_queue(queue.map(counts));
        if needs_queue && queue.is_none() {
            faults.push(queue_fault(root.as_ref()));
        }
        instance.mark_queueless(needs_queue && queue.is_none());
    }
    if faults.is_empty() {
        faults.extend(bypass_fault(socket, instance, in_front)?);
    }
    Ok(Seen::Present(match faults.as_slice() {
        [] => ShapingState::Intact,
        // What is over needs nothing.
        _ if !in_force => ShapingState::Intact,
        faults => ShapingState::Broken(faults.join(", ")),
    }))
}

/// Says so if packets pass that the classifier of an instance does not see: as something runs `in_front`, or as they reach
/// the container past its host's end.
fn bypass_fault(
    socket: &Socket,
    instance: &Instance,
    in_front: Option<&Attached>,
) -> Result<Option<String>, NetlinkError> {
    let device = instance.device();
    let own = Peer { ifindex: device.recorded(), nsid: None };
    let passed = match (device.site, device.peer) {
        (Site::HostEnd, Some(peer)) => packets_received(socket, peer)?,
        (Site::Ingress | Site::Detour, _) => packets_received(socket, own)?,
        _ if in_front.is_some() => packets_sent(socket, device.ifindex)?,
        _ => None,
    };
    let waiting = instance.queue().map_or(0, |queue| queue.waiting);
    // Read last, so that what passes meanwhile has been seen.
    let (Some(passed), Ok(seen)) = (passed, instance.seen_packets()) else {
        instance.bypass().end();
        return Ok(None);
    };
    let is_bypassed = instance.bypass().note(Counts { passed, seen, waiting });
    Ok(is_bypassed.then(|| match in_front {
        Some(other) => {
            format!("{} lets no packet through to the classifier", other.describe(device))
        }
        None if device.site.is_on_host() => {
            format!("packets reach the container past {}, as by bpf_redirect_peer", device.name)
        }
        None => format!("packets do not reach the classifier on {}, as XDP takes them", instance.interface()),
    }))
}

/// Returns true if the other end of a host's veth is the container's interface, where it was.
fn has_its_interface(socket: &Socket, device: &Device) -> Result<bool, NetlinkError> {
    Ok(link_at(socket, device.ifindex)?.is_some_and(|link| link.peer == device.peer))
}

/// The same, wherever the device's namespace can be found by now.
///
/// # Errors
///
/// When it cannot be found or entered.
pub(super) fn look_at(instance: &Instance) -> Result<Option<Seen>, ShapingError> {
    let Some(netns) = on_device(instance)? else { return Ok(None) };
    let look = || look(&Socket::open()?, instance);
    let seen = netns.enter(look).map_err(cannot_enter)?;
    seen.map(Some).map_err(|error| explain(&error))
}

/// Only the kernel's defaults have no handle: they are there when nothing else is.
fn queue_fault(root: Option<&Qdisc>) -> String {
    match root {
        Some(other) if u32::from(other.handle) != 0 => format!("queue replaced by {}", other.kind),
        _ => "queue removed".to_owned(),
    }
}
