//! Readies an instance's device for its next policy, and finds what is on it already.
//!
//! Whoever calls this has the container's lock, so nothing of ours changes in between.

use super::{
    attach::{put_classifier, put_queue},
    detour,
    device::Device,
    error::{cannot_enter, explain, gone},
    hook::{self, Attached},
    instance::Instance,
    present::{Present, our_queue},
    segments,
    site::Site,
    whereabouts::on_device,
};
use crate::{
    network::Socket,
    shaping::{Refusal, ShapingError, ShapingState},
};

/// Attaches an instance's own program again, if somebody took it off its device, or put something in front that lets no
/// packet through.
///
/// # Errors
///
/// When the device does not admit it any more, or packets reach the container past the device.
pub(super) fn classifier(instance: &Instance) -> Result<(), ShapingError> {
    if instance.state() == ShapingState::Intact {
        return Ok(());
    }
    let device = instance.device();
    let mut classifier = instance.classifier()?;
    let netns = on_device(instance)?.ok_or_else(gone)?;
    netns
        .enter(|| {
            let socket = Socket::open().map_err(|error| explain(&error))?;
            let present = Present::read(&socket, device).map_err(|error| explain(&error))?;
            if device.site == Site::Detour {
                detour::lead(&socket, device, instance.pins())?;
            }
            let attached = present.runs(instance.program_id());
            if attached.is_some() && !instance.bypass().is_known() {
                return Ok(());
            }
            present.admits(device, instance.hook())?;
            if present.runs_first(instance.program_id()) {
                return Err(Refusal::Bypassed { device: device.name.clone() }.into());
            }
            if let Some(attached) = attached {
                attached.take_off(&socket, device).map_err(|error| explain(&error))?;
            }
            instance.bypass().end();
            put_classifier(&socket, &mut classifier, instance, present.hook.is_some())
        })
        .map_err(cannot_enter)?
}

/// Takes over what an earlier daemon attached; says whether the classifier still is on its device.
///
/// # Errors
///
/// When the device cannot be looked at.
pub(super) fn resume(instance: &Instance) -> Result<bool, ShapingError> {
    let device = instance.device();
    let look = || {
        let socket = Socket::open()?;
        instance.note_queue(our_queue(&socket, device)?);
        Attached::on(&socket, device)
    };
    let Some(netns) = on_device(instance)? else { return Ok(false) };
    let attached = netns.enter(look).map_err(cannot_enter)?.map_err(|error| explain(&error))?;
    Ok(hook::runs(&attached, instance.program_id()))
}

/// Gives an instance that has held no queue so far the one that a delay needs.
///
/// # Errors
///
/// When the device does not admit it, or the kernel has none.
pub(super) fn queue(instance: &Instance) -> Result<(), ShapingError> {
    if instance.queue().is_some() {
        return Ok(());
    }
    let device = instance.device();
    let netns = on_device(instance)?.ok_or_else(gone)?;
    netns
        .enter(|| {
            let socket = Socket::open().map_err(|error| explain(&error))?;
            let present = Present::read(&socket, device).map_err(|error| explain(&error))?;
            present.admits_queue(device)?;
            put_queue(&socket, instance)
        })
        .map_err(cannot_enter)?
}

/// Has an instance's device, which is now `device`, take the single segments that a loss is drawn for.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn single_segments(instance: &Instance, device: &Device) -> Result<(), ShapingError> {
    if !segments::are_to_be_held(device) {
        return Ok(());
    }
    let netns = on_device(instance)?.ok_or_else(gone)?;
    let hold = || segments::hold(&Socket::open()?, instance);
    netns.enter(hold).map_err(cannot_enter)?.map_err(|error| explain(&error))
}
