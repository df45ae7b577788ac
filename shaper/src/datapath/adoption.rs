//! Takes over the shaping that an earlier daemon left, after checking that it is what its pins say.
//!
//! Only what has ended is removed. What cannot be looked at, or not be opened for want of descriptors, memory or
//! permission, keeps its pins, is shown as unknown, and is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use super::{
    Datapath,
    device::{AttachPoint, Key},
    instance::Instance,
    pins::{self, PinName, Pinned},
    place, ready, record, restore, settle,
    site::Site,
    strays::Stray,
    survey::{self, Located},
    whereabouts,
};
use crate::{
    network::{NamespaceKind, Search},
    shaping::{Direction, Failure, InterfaceView, NetnsId, NetnsRef, ShapingError},
};

impl Datapath {
    /// Takes over what is pinned; what has ended is removed, with what it put on its device.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub(super) fn adopt(&self) -> io::Result<()> {
        self.adopt_all(pins::walk(&self.pin_dir)?);
        Ok(())
    }

    /// Tries again to take over what could not be.
    pub(crate) fn retry_kept(&self) {
        if self.loader.get().is_none() || self.kept.lock().is_empty() {
            return;
        }
        match pins::walk(&self.pin_dir) {
            Ok(mut pinned) => {
                let mut kept = self.kept.lock();
                pinned.retain(|pinned| kept.contains_key(&pinned.name));
                kept.retain(|name, _| pinned.iter().any(|pinned| pinned.name == *name));
                drop(kept);
                self.adopt_all(pinned);
            }
            Err(error) => {
                tracing::warn!(pins = %self.pin_dir.display(), %error, "cannot read what is pinned")
            }
        }
    }

    /// Leaves all that is pinned as it is, and shows it so, as nothing can be taken over yet.
    pub(super) fn keep_all(&self, reason: &str) {
        let mut unread = self.unread.lock();
        match pins::walk(&self.pin_dir) {
            // Where bpffs is not mounted yet, nothing is known of what is pinned.
            Ok(pinned) if pins::is_in_bpffs(&self.pin_dir) => {
                *unread = None;
                let mut kept = self.kept.lock();
                kept.clear();
                kept.extend(pinned.into_iter().map(|pinned| (pinned.name, reason.to_owned())));
            }
            _ => *unread = Some(reason.to_owned()),
        }
    }

    fn adopt_all(&self, pinned: Vec<Pinned>) {
        let search = Search::new(NamespaceKind::Net, pinned.iter().map(|pinned| pinned.name.inode));
        let mut by_name = BTreeMap::<_, Vec<_>>::new();
        for pinned in pinned {
            by_name.entry(pinned.name).or_default().push(pinned);
        }
        for (name, pinned) in by_name {
            match search.of(name.inode) {
                Ok(Some(netns)) => self.changing.with(netns.id, || self.adopt_named(netns, name, &pinned)),
                Ok(None) => match self.confirm_end(name, &pinned) {
                    Ok(()) => {
                        tracing::info!(interface = %name, "its network namespace has gone");
                        self.remove_pins(name, &pinned);
                    }
                    Err(error) => self.keep(name, error.to_string()),
                },
                Err(obstacle) => self.keep(name, whereabouts::unseen(&obstacle).to_string()),
            }
        }
        if self.kept.lock().is_empty()
            && let Err(error) = place::note(&self.pin_dir)
        {
            tracing::warn!(%error, "the next daemon will not know whether it is on the same host");
        }
    }

    /// Agrees that the namespace of what is pinned, which was looked for everywhere, has ended.
    fn confirm_end(&self, name: PinName, pinned: &[Pinned]) -> Result<(), ShapingError> {
        if !place::is_recorded(&self.pin_dir) {
            return Err(Failure::OfUnknownHost { pins: self.pin_dir.join(name.to_string()) }.into());
        }
        for Pinned { directory, .. } in pinned {
            if let Some(original) = record::recorded(directory)? {
                whereabouts::ended(&original, name.site, name.ifindex)?;
            }
        }
        Ok(())
    }

    fn adopt_named(&self, netns: &NetnsRef, name: PinName, pinned: &[Pinned]) {
        let key = Key { netns: netns.id, ifindex: name.ifindex, site: name.site };
        if self.instance(&key).is_none() {
            match self.adopt_one(netns, key, pinned) {
                Ok(Some(instance)) => {
                    tracing::info!(interface = %instance, "adopted");
                    self.names.inherit(&instance.peers());
                    self.instances_mut().insert(key, instance.into());
                }
                Ok(None) => return self.remove_pins(name, pinned),
                Err(error) => return self.keep(name, error.to_string()),
            }
        }
        self.kept.lock().remove(&name);
    }

    /// Takes over one instance; none when its interface has gone, or does not run its program. One that is not complete
    /// comes first: a daemon may have ended when its program was in its place, but its pins were not.
    fn adopt_one(
        &self,
        netns: &NetnsRef,
        key: Key,
        pinned: &[Pinned],
    ) -> Result<Option<Instance>, ShapingError> {
        let point = match survey::point_at(netns, &self.host, key)? {
            Located::Found(point) => point,
            Located::Gone => {
                tracing::info!(interface = %key.pin_name(), "its interface has gone");
                if key.site == Site::Detour {
                    // Else its packets would be led where nothing is.
                    self.remove_detours(netns)?;
                }
                return Ok(None);
            }
            // From the host that it is known to have been on, it can only have left.
            Located::Elsewhere(_) if place::is_recorded(&self.pin_dir) => return Ok(None),
            Located::Elsewhere(reason) => return Err(Failure::Elsewhere { reason }.into()),
        };
        for Pinned { directory, is_complete, .. } in pinned {
            let instance = match Instance::open(&point, directory, &self.pin_dir) {
                Ok(instance) => instance,
                Err(error) if error.is_unusable => {
                    tracing::warn!(pins = %directory.display(), error = error.text, "cannot adopt: removing it");
                    if *is_complete {
                        self.clear_off(&point, directory)?;
                    } else {
                        pins::remove(directory);
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if ready::resume(&instance)? {
                if !is_complete {
                    pins::publish(&self.pin_dir, key.pin_name())?;
                }
                return Ok(Some(instance));
            }
            if !is_complete {
                pins::remove(directory);
            } else if instance.original().valid != 0 {
                // Without a record nothing has been done to the device yet.
                settle::detach(&instance)?;
            }
        }
        Ok(None)
    }

    /// Takes off what an instance that cannot be read, one of another version, has on its device.
    fn clear_off(&self, point: &AttachPoint, directory: &Path) -> Result<(), ShapingError> {
        let program_id = pins::program_id(directory)?;
        restore::clear_off(point, &self.host, program_id, record::recorded(directory)?)
    }

    /// Removes the pins of what has gone, once its device has been looked for where it may have gone.
    fn remove_pins(&self, name: PinName, pinned: &[Pinned]) {
        for Pinned { directory, is_complete, .. } in pinned {
            match Stray::pinned(name, directory) {
                Ok(Some(stray)) if *is_complete => self.strays.lock().push(stray),
                Ok(_) => pins::remove(directory),
                Err(error) => return self.keep(name, error.text),
            }
        }
        self.kept.lock().remove(&name);
    }

    /// Leaves what is pinned, and its device, as they are.
    pub(super) fn keep(&self, name: PinName, reason: String) {
        let mut kept = self.kept.lock();
        if kept.get(&name) != Some(&reason) {
            tracing::warn!(interface = %name, error = reason, "cannot adopt yet: it stays as it is");
            kept.insert(name, reason);
        }
    }

    pub(super) fn is_kept(&self, name: PinName) -> bool {
        self.kept.lock().contains_key(&name)
    }

    /// Refuses a change of a namespace in which something could not be taken over.
    pub(super) fn refuse_kept(&self, netns: NetnsId) -> Result<(), ShapingError> {
        self.view_kept(netns).first().map_or(Ok(()), |view| {
            let (interface, state) = (view.interface.clone(), view.state.clone());
            Err(Failure::Kept { interface, direction: view.direction, state }.into())
        })
    }

    /// Shows the interfaces of a namespace that are pinned but could not be taken over.
    pub(super) fn view_kept(&self, netns: NetnsId) -> Vec<InterfaceView> {
        if let Some(reason) = &*self.unread.lock() {
            return vec![InterfaceView::unknown("?".to_owned(), Direction::Egress, reason)];
        }
        let kept = self.kept.lock();
        let of_netns = kept.iter().filter(|(name, _)| name.inode == netns.inode);
        of_netns.map(|(name, reason)| unknown(*name, reason)).collect()
    }

    /// The namespaces in which something is pinned that could not be taken over.
    pub(crate) fn unknown(&self) -> BTreeSet<NetnsId> {
        let dev = self.host.id().dev;
        self.kept.lock().keys().map(|name| NetnsId { dev, inode: name.inode }).collect()
    }
}

fn unknown(name: PinName, reason: &str) -> InterfaceView {
    InterfaceView::unknown(format!("ifindex {}", name.ifindex), name.site.direction(), reason)
}
