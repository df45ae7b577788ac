//! Takes an instance off its device, or parts of it that are needed no more.
//!
//! Whoever calls this has the container's lock, so nothing of ours changes in between.

use super::{
    error::{cannot_enter, explain},
    hook::{self, Attached},
    instance::Instance,
    present::our_queue,
    restore::{self, take_off, take_queue},
    segments,
    whereabouts::{locate, on_device},
};
use crate::{
    clock::monotonic_ns,
    network::{NetlinkError, Socket},
    shaping::ShapingError,
};

const NETNS_GONE: &str = "its network namespace has gone";

/// The result of looking after an instance.
pub(super) enum Settled {
    /// It stays.
    Kept,
    /// It is over, and packets still wait.
    Draining,
    /// Nothing of it is left but the pins.
    Removed,
    /// Nothing is where it was, for this reason.
    Gone(&'static str),
}

/// Looks after an instance: takes away what it needs no more, its queue when nothing is delayed, and all of it when it
/// is over.
///
/// # Errors
///
/// When the device cannot be looked at; to be tried again.
pub(super) fn settle(instance: &Instance) -> Result<Settled, ShapingError> {
    if locate(instance)?.is_none() {
        return Ok(Settled::Gone(NETNS_GONE));
    }
    let shaping = instance.shaping()?;
    let in_force = shaping.is_in_force(monotonic_ns());
    let delays = in_force && shaping.needs_queue();
    let parts = in_force && shaping.needs_single_segments();
    if in_force && (delays || instance.queue().is_none()) && (parts || !instance.is_held()) {
        return Ok(Settled::Kept);
    }
    let Some(netns) = on_device(instance)? else { return Ok(Settled::Gone(NETNS_GONE)) };
    let device = instance.device();
    let settle = || {
        let socket = Socket::open()?;
        if !is_on_device(&socket, instance)? {
            return Ok(Settled::Gone("its interface has gone"));
        }
        if !parts {
            segments::release(&socket, device, instance.original().gso_max_segs)?;
            instance.note_held(false);
        }
        if delays {
            return Ok(Settled::Kept);
        }
        let queue = our_queue(&socket, device)?;
        instance.note_queue(queue);
        if queue.is_some_and(|queue| queue.waiting > 0) {
            return Ok(Settled::Draining);
        }
        if in_force {
            take_queue(&socket, device, instance.original())?;
            instance.note_queue(None);
            return Ok(Settled::Kept);
        }
        take_off(&socket, device, Some(instance.program_id()), instance.original())?;
        Ok(Settled::Removed)
    };
    netns.enter(settle).map_err(cannot_enter)?.map_err(|error: NetlinkError| explain(&error))
}

/// Returns true if an instance's device is where it was.
fn is_on_device(socket: &Socket, instance: &Instance) -> Result<bool, NetlinkError> {
    let device = instance.device();
    Ok(restore::is_there(socket, device, &instance.original())?
        || hook::runs(&Attached::on(socket, device)?, instance.program_id()))
}

/// Takes an instance off its device at once, with whatever waits in its queue; says whether the device is there.
///
/// # Errors
///
/// When the kernel refuses; that the device has gone is no error.
pub(super) fn detach(instance: &Instance) -> Result<bool, ShapingError> {
    let Some(netns) = on_device(instance)? else { return Ok(false) };
    let device = instance.device();
    let detach = || take_off(&Socket::open()?, device, Some(instance.program_id()), instance.original());
    netns.enter(detach).map_err(cannot_enter)?.map_err(|error| explain(&error))
}
