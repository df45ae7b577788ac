//! The programs and classifiers at a side of a device, on either hook.

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use shaper_common::{DETOUR_PROGRAM, Original, POLICY_PROGRAM, PROGRAM};

use super::{
    device::Device,
    tcx::{self, TcxProgram},
};
use crate::{
    network::{Filter, NetlinkError, Side, Socket, delete_filter, filters},
    shaping::Hook,
};

/// Index of the loopback device, in every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// Returns the hook that loses no packets when a program is put on it, if the kernel has it, else the other one.
pub(super) fn best() -> Hook {
    match tcx::programs(LOOPBACK, Side::Egress) {
        Ok(Some(_)) => Hook::Tcx,
        _ => Hook::Clsact,
    }
}

/// Returns aya's word for a side.
pub(super) const fn attach_type(side: Side) -> TcAttachType {
    match side {
        Side::Egress => TcAttachType::Egress,
        Side::Ingress => TcAttachType::Ingress,
    }
}

/// Returns the hook that an instance was put on.
pub(super) const fn of(original: &Original) -> Hook {
    if original.hook == Original::TCX { Hook::Tcx } else { Hook::Clsact }
}

/// A program or a classifier at a side of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// A program on the TCX hook.
    Tcx(TcxProgram),
    /// A classifier under clsact.
    Classifier(Filter),
}

impl Attached {
    /// Returns what sits on a device of the socket's namespace, on the side that its site has, in the order in which
    /// packets meet it.
    ///
    /// # Errors
    ///
    /// When the kernel does not list it.
    pub(super) fn on(socket: &Socket, device: &Device) -> Result<Vec<Self>, NetlinkError> {
        let (ifindex, side) = (device.ifindex, device.site.side());
        let failed = |error| NetlinkError::new(format!("list the TCX programs of ifindex {ifindex}"), error);
        let tcx = tcx::programs(ifindex, side).map_err(failed)?.unwrap_or_default();
        let filters = filters(socket, ifindex, side)?;
        Ok(tcx.into_iter().map(Self::Tcx).chain(filters.into_iter().map(Self::Classifier)).collect())
    }

    /// Returns the hook that it sits on.
    pub(super) const fn hook(&self) -> Hook {
        match self {
            Self::Tcx(_) => Hook::Tcx,
            Self::Classifier(_) => Hook::Clsact,
        }
    }

    /// Returns the classifier, if it is one.
    pub(super) const fn classifier(&self) -> Option<&Filter> {
        match self {
            Self::Tcx(_) => None,
            Self::Classifier(filter) => Some(filter),
        }
    }

    /// Returns the id of the BPF program, if it is one.
    pub(super) const fn program_id(&self) -> Option<u32> {
        match self {
            Self::Tcx(program) => Some(program.id),
            Self::Classifier(filter) => filter.program_id,
        }
    }

    /// Returns true if it is the program of this id.
    pub(super) fn runs(&self, program_id: u32) -> bool {
        self.program_id() == Some(program_id)
    }

    /// Returns the name that the program was given; empty if it has none, is none, or is not on `device` any more, which
    /// is in the calling thread's namespace.
    pub(super) fn name(&self, device: &Device) -> String {
        match self {
            Self::Tcx(TcxProgram { id, .. }) => {
                let programs = SchedClassifier::query_tcx(&device.name, attach_type(device.site.side()));
                let programs = programs.map(|(_, programs)| programs).unwrap_or_default();
                let own = programs.iter().find(|program| program.id() == *id);
                own.and_then(ProgramInfo::name_as_str).unwrap_or_default().to_owned()
            }
            Self::Classifier(filter) => filter.name.clone(),
        }
    }

    /// Returns true if it has the name of a program of ours, as [`Self::name`] finds it; others may have it, too.
    pub(super) fn is_named_as_ours(&self, device: &Device) -> bool {
        [PROGRAM, POLICY_PROGRAM, DETOUR_PROGRAM].contains(&self.name(device).as_str())
    }

    /// Returns true if it is a classifier that leads packets through a detour.
    pub(super) fn leads(&self) -> bool {
        self.classifier().is_some_and(|filter| filter.name == DETOUR_PROGRAM)
    }

    /// Says what it is, as [`Self::name`] does.
    pub(super) fn describe(&self, device: &Device) -> String {
        match self {
            Self::Tcx(program) => match self.name(device).as_str() {
                "" => format!("the TCX program without a name (id {})", program.id),
                name => format!("the TCX program {name} (id {})", program.id),
            },
            Self::Classifier(filter) => {
                format!("a {} classifier of priority {}", filter.kind, filter.priority)
            }
        }
    }

    /// Takes it off its device, which is in the socket's namespace.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub(super) fn take_off(&self, socket: &Socket, device: &Device) -> Result<(), NetlinkError> {
        let ifindex = device.ifindex;
        match self {
            Self::Tcx(program) => program.detach().map_err(|error| {
                NetlinkError::new(format!("detach the program {} of ifindex {ifindex}", program.id), error)
            }),
            Self::Classifier(filter) => delete_filter(socket, ifindex, device.site.side(), filter),
        }
    }
}

/// Returns true if one of them is the program `id`.
pub(super) fn runs(attached: &[Attached], id: u32) -> bool {
    attached.iter().any(|attached| attached.runs(id))
}
