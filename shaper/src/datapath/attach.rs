//! Puts an instance on its device: a classifier on a hook and, for a delay, an `fq` at the root.
//!
//! Whoever calls this has the container's lock, so nothing of ours changes in between.

use std::{error::Error, fmt::Display, mem, os::fd::AsFd as _, time::Duration};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcError,
    links::FdLink,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};
use nix::libc::{EEXIST, ENOENT};
use shaper_common::MAX_DELAY_NS;

use super::{
    detour,
    device::Device,
    error::{cannot_enter, explain, gone},
    hook::{Attached, LOOPBACK, attach_type},
    instance::Instance,
    loaded::Loaded,
    present::{PRIORITY, Present},
    restore::{self, take_off},
    segments,
    site::Site,
    whereabouts::on_device,
};
use crate::{
    network::{Filter, FqLimits, Netns, Socket, add_clsact, add_fq, hook as hook_of, link_at},
    shaping::{Attempt, Failure, Hook, QueueCounts, Refusal, Shaping, ShapingError, with_causes},
};

/// A million packets, that is two seconds of delay at half a million packets per second. The horizon is out of reach:
/// no departure is further ahead than a stamp that is respected and a delay.
const LIMITS: FqLimits = FqLimits { packets: 1_000_000, horizon: Duration::from_nanos(2 * MAX_DELAY_NS) };

/// Tells whether the kernel has `fq`; loads its module, if it is one, so that the first delay need not wait for that.
pub(crate) fn has_fq() -> Result<bool, ShapingError> {
    let add = || add_fq(&Socket::open()?, LOOPBACK, LIMITS);
    match Netns::in_new(add).map_err(cannot_enter)? {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(ENOENT) => Ok(false),
        Err(error) => Err(explain(&error)),
    }
}

/// Attaches what was loaded and pinned for `instance`; its policy is still to be written. What the device was before
/// an instance `beside` it is known from that one.
///
/// # Errors
///
/// When the device does not admit it, or something is missing; the device is then what it was.
pub(super) fn attach(
    loaded: &mut Loaded,
    instance: &Instance,
    shaping: &Shaping,
    hook: Hook,
    beside: Option<&Instance>,
) -> Result<(), ShapingError> {
    let device = instance.device().clone();
    let classifier = loaded.classifier()?;
    let netns = on_device(instance)?.ok_or_else(gone)?;
    netns
        .enter(|| {
            let socket = Socket::open().map_err(|error| explain(&error))?;
            let present = Present::read(&socket, &device).map_err(|error| explain(&error))?;
            present.admits(&device, hook)?;
            if shaping.needs_queue() {
                present.admits_queue(&device)?;
            }
            if device.site == Site::Detour {
                detour::admits(&socket, &device)?;
            }
            let clsact = present.hook.is_some();
            let recorded = device.recorded();
            let link = link_at(&socket, recorded).map_err(|error| explain(&error))?.ok_or_else(gone)?;
            let has_clsact = hook_of(&socket, recorded).map_err(|error| explain(&error))?.is_some();
            let original = restore::record(&link, hook, has_clsact);
            instance.write_original(match beside {
                Some(beside) => restore::corrected(original, &beside.original()),
                None => original,
            })?;
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
    put_classifier(socket, classifier, instance, clsact)?;
    if instance.device().site == Site::Detour {
        detour::lead(socket, instance.device(), instance.pins())?;
    }
    Ok(())
}

/// Attaches an instance's classifier to its hook, adding clsact if it needs it and there is none.
pub(super) fn put_classifier(
    socket: &Socket,
    classifier: &mut SchedClassifier,
    instance: &Instance,
    clsact: bool,
) -> Result<(), ShapingError> {
    let device = instance.device();
    let failed = |reason: &dyn Display| Attempt::Attach(device.name.clone()).failed(reason);
    let side = attach_type(device.site.side());
    match instance.hook() {
        Hook::Tcx => {
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            let attach = || -> Result<FdLink, Box<dyn Error>> {
                let id = classifier.attach_with_options(&device.name, side, options)?;
                Ok(classifier.take_link(id)?.try_into()?)
            };
            let link = attach().map_err(|error| failed(&with_causes(&*error)))?;
            instance.keep_link(link)?;
        }
        Hook::Clsact => {
            if !clsact {
                add_clsact(socket, device.ifindex).map_err(|error| explain(&error))?;
            }
            let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, ..NlOptions::default() });
            let attach = || {
                let link = classifier.attach_with_options(&device.name, side, options)?;
                classifier.take_link(link)
            };
            // It would detach when dropped, from whatever has the index in the namespace of the thread that drops it.
            attach().map(mem::forget).map_err(|error| failed(&with_causes(&error)))?;
        }
    }
    let attached = Attached::on(socket, device).map_err(|error| explain(&error))?;
    match attached.first() {
        Some(first) if first.runs(instance.program_id()) => Ok(()),
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
            let attached = Socket::open().and_then(|socket| Attached::on(&socket, device));
            let attached = attached.map_err(|error| explain(&error))?;
            let found = attached.iter().find(|attached| attached.runs(old_id));
            let failed = |reason: &dyn Display| Attempt::Replace(device.name.clone()).failed(reason);
            match found {
                Some(Attached::Tcx(old)) => {
                    let program = classifier.fd().map_err(|error| failed(&with_causes(&error)))?;
                    old.replace_with(program.as_fd()).map_err(|error| failed(&error))?;
                }
                Some(Attached::Classifier(filter)) => replace_classifier(classifier, device, filter)
                    .map_err(|error| failed(&with_causes(&error)))?,
                None => return Err(Failure::ClassifierGone { device: device.name.clone() }.into()),
            }
            Ok(())
        })
        .map_err(cannot_enter)?
}

fn replace_classifier(
    classifier: &mut SchedClassifier,
    device: &Device,
    filter: &Filter,
) -> Result<(), ProgramError> {
    let handle = u32::from(filter.handle).into();
    let side = attach_type(device.site.side());
    let link = SchedClassifierLink::attached(&device.name, side, filter.priority, handle, None);
    let link = classifier.attach_to_link(link.map_err(TcError::IoError)?)?;
    // As when it was attached.
    classifier.take_link(link).map(mem::forget)
}

fn log_failure<T>(device: &Device, taken: Result<T, impl Display>) {
    if let Err(error) = taken {
        tracing::warn!(device = device.name, %error, "cannot undo an attachment");
    }
}
