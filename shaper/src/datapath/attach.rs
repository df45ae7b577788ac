//! Puts an instance on its device: a classifier on the clsact hook and, for a delay, an `fq` at the root.
//!
//! Whoever calls this has the container's lock, so nothing of ours changes in between.

use std::{fmt::Display, mem, time::Duration};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, TcError,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};
use nix::libc::{EEXIST, ENOENT};
use shaper_common::MAX_DELAY_NS;

use super::{
    device::Device,
    error::{cannot_enter, explain, gone},
    instance::Instance,
    loaded::Loaded,
    present::{PRIORITY, Present},
    restore::{self, take_off},
    segments,
    whereabouts::on_device,
};
use crate::{
    network::{FqLimits, Socket, add_clsact, add_fq, egress_filters, link_at},
    shaping::{Attempt, Failure, QueueCounts, Refusal, Shaping, ShapingError, with_causes},
};

/// A million packets, that is two seconds of delay at half a million packets per second. The horizon is out of reach:
/// no departure is further ahead than a stamp that is respected and a delay.
const LIMITS: FqLimits = FqLimits { packets: 1_000_000, horizon: Duration::from_nanos(2 * MAX_DELAY_NS) };

/// Attaches what was loaded and pinned for `instance`; its policy is still to be written.
///
/// # Errors
///
/// When the device does not admit it, or something is missing; the device is then what it was.
pub(super) fn attach(
    loaded: &mut Loaded,
    instance: &Instance,
    shaping: &Shaping,
) -> Result<(), ShapingError> {
    let device = instance.device().clone();
    let classifier = loaded.classifier()?;
    let netns = on_device(instance)?.ok_or_else(gone)?;
    netns
        .enter(|| {
            let socket = Socket::open().map_err(|error| explain(&error))?;
            let present = Present::read(&socket, &device).map_err(|error| explain(&error))?;
            present.admits_classifier(&device)?;
            admits_no_tcx(&device)?;
            if shaping.needs_queue() {
                present.admits_queue(&device)?;
            }
            let clsact = present.hook.is_some();
            let link = link_at(&socket, device.ifindex).map_err(|error| explain(&error))?.ok_or_else(gone)?;
            instance.write_original(restore::record(&link, clsact))?;
            let attached = put_on(&socket, classifier, instance, shaping, clsact);
            if attached.is_err() {
                log_failure(
                    &device,
                    take_off(&socket, &device, Some(instance.program_id()), instance.original()),
                );
            }
            attached
        })
        .map_err(cannot_enter)?
}

fn put_on(
    socket: &Socket,
    classifier: &mut SchedClassifier,
    instance: &Instance,
    shaping: &Shaping,
    clsact: bool,
) -> Result<(), ShapingError> {
    // The queue first: a stamp without it would be ignored.
    if shaping.needs_queue() {
        put_queue(socket, instance)?;
    }
    if shaping.needs_single_segments() {
        segments::hold(socket, instance).map_err(|error| explain(&error))?;
    }
    put_classifier(socket, classifier, instance, clsact)
}

/// Attaches a classifier, adding the hook if there is none.
pub(super) fn put_classifier(
    socket: &Socket,
    classifier: &mut SchedClassifier,
    instance: &Instance,
    clsact: bool,
) -> Result<(), ShapingError> {
    let device = instance.device();
    if !clsact {
        add_clsact(socket, device.ifindex).map_err(|error| explain(&error))?;
    }
    let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, ..NlOptions::default() });
    let attach = || {
        let link = classifier.attach_with_options(&device.name, TcAttachType::Egress, options)?;
        classifier.take_link(link)
    };
    let link = attach().map_err(|error| Attempt::Attach(device.name.clone()).failed(with_causes(&error)))?;
    // It would detach when dropped, from whatever has the index in the namespace of the thread that drops it.
    mem::forget(link);
    let filters = egress_filters(socket, device.ifindex).map_err(|error| explain(&error))?;
    match filters.first() {
        Some(first) if first.program_id == Some(instance.program_id()) => Ok(()),
        _ => Err(Failure::NotFirst { device: device.name.clone() }.into()),
    }
}

pub(super) fn put_queue(socket: &Socket, instance: &Instance) -> Result<(), ShapingError> {
    add_fq(socket, instance.device().ifindex, LIMITS).map_err(|error| match error.errno() {
        Some(ENOENT) => Refusal::NoFq.into(),
        Some(EEXIST) => Refusal::HandleTaken { device: instance.device().name.clone() }.into(),
        _ => explain(&error),
    })?;
    instance.note_queue(Some(QueueCounts::default()));
    Ok(())
}

/// Puts `loaded` in the place of the program `old_id` on an instance's device: each packet is seen by one of the two.
///
/// # Errors
///
/// When the other one is not there, or the kernel refuses; nothing has changed then.
pub(super) fn replace(
    classifier: &mut SchedClassifier,
    instance: &Instance,
    old_id: u32,
) -> Result<(), ShapingError> {
    let device = instance.device();
    let netns = on_device(instance)?.ok_or_else(gone)?;
    netns
        .enter(|| {
            let filters = Socket::open().and_then(|socket| egress_filters(&socket, device.ifindex));
            let filters = filters.map_err(|error| explain(&error))?;
            let filter = filters
                .iter()
                .find(|filter| filter.program_id == Some(old_id))
                .ok_or_else(|| ShapingError::from(Failure::ClassifierGone { device: device.name.clone() }))?;
            let handle = u32::from(filter.handle).into();
            let mut replace = || {
                let link = SchedClassifierLink::attached(
                    &device.name,
                    TcAttachType::Egress,
                    filter.priority,
                    handle,
                    None,
                );
                let link = classifier.attach_to_link(link.map_err(TcError::IoError)?)?;
                classifier.take_link(link)
            };
            let link = replace().map_err(|error: ProgramError| {
                Attempt::Replace(device.name.clone()).failed(with_causes(&error))
            })?;
            // As when it was attached.
            mem::forget(link);
            Ok(())
        })
        .map_err(cannot_enter)?
}

/// TCX programs (Linux 6.6) run before clsact, and one that does not say "next" keeps ours from ever running.
pub(super) fn admits_no_tcx(device: &Device) -> Result<(), ShapingError> {
    // Kernels without TCX refuse the question.
    let Ok((_, programs)) = SchedClassifier::query_tcx(&device.name, TcAttachType::Egress) else {
        return Ok(());
    };
    programs.first().map_or(Ok(()), |program| {
        Err(Refusal::TcxFirst {
            device: device.name.clone(),
            program: program.name_as_str().unwrap_or("without a name").to_owned(),
            id: program.id(),
        }
        .into())
    })
}

fn log_failure<T>(device: &Device, taken: Result<T, impl Display>) {
    if let Err(error) = taken {
        tracing::warn!(device = device.name, %error, "cannot undo an attachment");
    }
}
