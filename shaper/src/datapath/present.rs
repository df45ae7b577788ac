//! The qdiscs and programs of a device, ours or not.

use super::{device::Device, hook::Attached};
use crate::{
    network::{NetlinkError, Qdisc, Socket, hook, root},
    shaping::{Hook, QueueCounts, Refusal, ShapingError},
};

/// Classifiers run in the order of their priorities, and ours is to be the first: a packet's copy without a socket then
/// takes the others along exactly once.
pub(super) const PRIORITY: u16 = 1;

/// The qdiscs and programs of a device.
pub(super) struct Present {
    root: Option<Qdisc>,
    pub(super) hook: Option<Qdisc>,
    attached: Vec<Attached>,
}

impl Present {
    pub(super) fn read(socket: &Socket, device: &Device) -> Result<Self, NetlinkError> {
        let ifindex = device.ifindex;
        Ok(Self {
            root: root(socket, ifindex)?,
            hook: hook(socket, ifindex)?,
            attached: Attached::on(socket, device)?,
        })
    }

    /// Returns the programs and classifiers, in the order in which packets meet them.
    pub(super) fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// Returns what runs a program.
    pub(super) fn runs(&self, program_id: u32) -> Option<&Attached> {
        self.attached.iter().find(|attached| attached.runs(program_id))
    }

    /// Returns true if a program is the first one that packets meet.
    pub(super) fn runs_first(&self, program_id: u32) -> bool {
        self.attached.first().is_some_and(|first| first.runs(program_id))
    }

    /// Returns an error unless a program of ours on a hook of the device would run before all others. On the TCX hook any
    /// can.
    pub(super) fn admits(&self, device: &Device, hook: Hook) -> Result<(), ShapingError> {
        let name = &device.name;
        if hook == Hook::Tcx {
            return Ok(());
        }
        if let Some(first) = self.attached.first().filter(|first| first.hook() == Hook::Tcx) {
            return Err(Refusal::TcxFirst { device: name.clone(), program: first.describe(device) }.into());
        }
        self.admits_classifier(device)
    }

    /// Returns an error unless a classifier of ours would run before all others.
    pub(super) fn admits_classifier(&self, device: &Device) -> Result<(), ShapingError> {
        let name = &device.name;
        if let Some(other) = self.hook.as_ref().filter(|qdisc| qdisc.kind != "clsact") {
            return Err(Refusal::HookTaken { device: name.clone(), kind: other.kind.clone() }.into());
        }
        let mut filters = self.attached.iter().filter_map(Attached::classifier);
        let first = filters.find(|filter| filter.priority <= PRIORITY);
        if let Some(other) = first.filter(|filter| !filter.shares_priority_with_bpf()) {
            let (device, kind) = (name.clone(), other.kind.clone());
            return Err(Refusal::PriorityTaken { device, kind, priority: PRIORITY }.into());
        }
        Ok(())
    }

    /// Returns an error unless the device's root may be our `fq`: only the kernel's defaults have no handle.
    pub(super) fn admits_queue(&self, device: &Device) -> Result<(), ShapingError> {
        let foreign = self.root.as_ref().filter(|root| !root.is_our_fq() && u32::from(root.handle) != 0);
        foreign.map_or(Ok(()), |root| {
            let (device, kind) = (device.name.clone(), root.kind.clone());
            Err(Refusal::QueueTaken { device, kind, major: root.handle.major }.into())
        })
    }
}

/// Returns the counters of our queue on a device, if there is one where packets can wait for its site.
pub(super) fn our_queue(socket: &Socket, device: &Device) -> Result<Option<QueueCounts>, NetlinkError> {
    if !device.site.has_queue() {
        return Ok(None);
    }
    Ok(root(socket, device.ifindex)?.filter(Qdisc::is_our_fq).as_ref().map(counts))
}

/// Returns the counters of a queue.
pub(super) fn counts(queue: &Qdisc) -> QueueCounts {
    QueueCounts { waiting: queue.waiting.into(), dropped: queue.dropped.into() }
}
