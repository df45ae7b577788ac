//! Takes over the shaping that an earlier daemon left, after checking that it is what its pins say.

use std::{io, path::Path};

use shaper_common::Original;

use super::{
    attachment,
    instance::{self, Instance, Key},
    pins::{self, PinName, Pinned},
    restore, segments,
    strays::Stray,
    survey::{self, End, Target},
};
use crate::{
    network::{Filter, NetlinkError, Netns, Socket, egress_filters},
    shaping::{NetnsRef, ShapingError},
};

/// What an earlier daemon left.
#[derive(Default)]
pub(super) struct Adopted {
    /// What goes on.
    pub(super) instances: Vec<Instance>,
    /// What has left its namespace, perhaps.
    pub(super) strays: Vec<Stray>,
}

/// Takes over what is pinned in `pin_dir`; what cannot be taken over is removed, with what it put on its device.
///
/// # Errors
///
/// When the directory cannot be read.
pub(super) fn adopt(pin_dir: &Path, host: &Netns) -> io::Result<Adopted> {
    let pinned = pins::walk(pin_dir)?;
    let inodes: Vec<_> = pinned.iter().map(|pinned| pinned.name.inode).collect();
    let found = Netns::find(&inodes);
    let mut adopted = Adopted::default();
    for Pinned { name, directory, is_complete } in pinned {
        let netns = found.iter().find(|netns| netns.id.inode == name.inode);
        if !is_complete {
            // A daemon may have ended when its program was in its place, but its pins were not.
            if netns.is_some_and(|netns| runs(netns, host, name, &directory, pin_dir)) {
                publish(pin_dir, name);
            } else {
                pins::remove(&directory);
            }
        }
    }
    for Pinned { name, directory, .. } in pins::walk(pin_dir)? {
        let netns = found.iter().find(|netns| netns.id.inode == name.inode);
        match netns.map(|netns| adopt_one(netns, host, name, &directory, pin_dir)) {
            Some(Ok(Some(instance))) => {
                tracing::info!(interface = %instance, "adopted");
                adopted.instances.push(instance);
                continue;
            }
            Some(Err(error)) => {
                tracing::warn!(pins = %directory.display(), %error, "cannot adopt: removing it")
            }
            Some(Ok(None)) => tracing::info!(pins = %directory.display(), "its interface has gone"),
            None => tracing::info!(pins = %directory.display(), "its network namespace has gone"),
        }
        match Stray::pinned(name, &directory) {
            Some(stray) => adopted.strays.push(stray),
            None => pins::remove(&directory),
        }
    }
    Ok(adopted)
}

/// Whether a device runs the program that is pinned in `directory`.
fn runs(netns: &NetnsRef, host: &Netns, name: PinName, directory: &Path, pin_dir: &Path) -> bool {
    let key = Key { netns: netns.id, ifindex: name.ifindex, direction: name.direction };
    let Ok(Some(target)) = survey::target_at(netns, host, key) else { return false };
    Instance::open(&target, directory, pin_dir)
        .and_then(|instance| attachment::resume(&instance))
        .unwrap_or(false)
}

fn publish(pin_dir: &Path, name: PinName) {
    if let Err(error) = pins::publish(pin_dir, name) {
        tracing::warn!(%error, "cannot adopt");
    }
}

/// Takes over one instance; none when its interface has gone, or does not run its program.
fn adopt_one(
    netns: &NetnsRef,
    host: &Netns,
    name: PinName,
    directory: &Path,
    pin_dir: &Path,
) -> Result<Option<Instance>, ShapingError> {
    let key = Key { netns: netns.id, ifindex: name.ifindex, direction: name.direction };
    let Some(target) = survey::target_at(netns, host, key)? else { return Ok(None) };
    let adopted = Instance::open(&target, directory, pin_dir).and_then(|instance| {
        let holds = attachment::resume(&instance)?;
        Ok((instance, holds))
    });
    match adopted {
        Ok((instance, true)) => Ok(Some(instance)),
        Ok((instance, false)) => {
            // Without a record nothing has been done to the device yet.
            if instance.original().valid != 0 {
                attachment::detach(&instance)?;
            }
            Ok(None)
        }
        Err(error) => {
            clean_up(&target, netns, host, directory)?;
            Err(error)
        }
    }
}

/// Takes off what an instance that cannot be read, one of another version, has on its device. Where nothing says what the
/// device was, and it does not run the program, nothing of ours is on it.
fn clean_up(target: &Target, netns: &NetnsRef, host: &Netns, directory: &Path) -> Result<(), ShapingError> {
    let program_id = pins::program_id(directory);
    let recorded = instance::read_original(directory).ok().filter(|original| original.valid != 0);
    let device = &target.device;
    let take_off = || -> Result<(), NetlinkError> {
        let socket = Socket::open()?;
        let runs = |filter: &Filter| filter.program_id.is_some() && filter.program_id == program_id;
        if recorded.is_none() && !egress_filters(&socket, device.ifindex)?.iter().any(runs) {
            return Ok(());
        }
        // Any other length than none; and a clsact that holds nothing does nothing.
        let guess = Original {
            tx_queue_len: 1,
            gso_max_segs: segments::guess(device),
            valid: 1,
            ..Original::default()
        };
        restore::take_off(&socket, device, program_id, recorded.unwrap_or(guess)).map(drop)
    };
    let taken = match device.end {
        End::Host => host.enter(take_off),
        End::Container => survey::open(netns, host)?.enter(take_off),
    };
    taken.map_err(survey::cannot_enter)?.map_err(|error| ShapingError::Failed(error.to_string()))
}
