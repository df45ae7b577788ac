//! Gives devices back what they were that left their namespace while they were shaped.
//!
//! A device that is moved, or that its namespace leaves behind when it ends, as it does hardware, loses its qdiscs and
//! classifiers, but keeps its TCX programs, its queue length, and the single segments that it took for a loss.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use shaper_common::Original;

use super::{
    Datapath,
    device::{Device, Key},
    error::{OpenError, cannot_enter, explain},
    hook::{self, Attached},
    instance::Instance,
    pins::{self, PinName},
    record, restore,
    site::Site,
};
use crate::{
    network::{Link, NetlinkError, Netns, Socket, link_at, links},
    shaping::{NetnsRef, ShapingError},
};

/// The time that hardware is looked for: the kernel ends namespaces in its own time (`cleanup_net`), and only then it
/// is elsewhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// A device that is not where it was.
pub(super) struct Stray {
    /// The interface that it was, for the log.
    interface: String,
    site: Site,
    ifindex: u32,
    program_id: Option<u32>,
    original: Original,
    /// The pins, for the next daemon, until it has been found.
    pins: PathBuf,
    since: Instant,
}

impl Stray {
    /// The device of an instance; none if it keeps nothing.
    fn of(instance: &Instance) -> Option<Self> {
        let device = instance.device();
        let this = Self {
            interface: instance.to_string(),
            site: device.site,
            ifindex: device.recorded(),
            program_id: Some(instance.program_id()),
            original: instance.original(),
            pins: instance.pins().to_owned(),
            since: Instant::now(),
        };
        restore::is_kept(&this.original, this.site).then_some(this)
    }

    /// The same for what is pinned in `directory`.
    ///
    /// # Errors
    ///
    /// When it cannot be read now what the device was.
    pub(super) fn pinned(name: PinName, directory: &Path) -> Result<Option<Self>, OpenError> {
        let Some(original) = record::recorded(directory)? else { return Ok(None) };
        let this = Self {
            interface: name.to_string(),
            site: name.site,
            ifindex: name.ifindex,
            program_id: pins::program_id(directory)?,
            original,
            pins: directory.to_owned(),
            since: Instant::now(),
        };
        Ok(restore::is_kept(&original, this.site).then_some(this))
    }

    /// The site whose program may still be on the device. A classifier that leads into a detour does not move with it.
    const fn site_of_device(&self) -> Site {
        match self.site {
            Site::Detour => Site::Ingress,
            site => site,
        }
    }

    /// Returns true if it may still turn up: what is not hardware ends with its namespace.
    fn may_turn_up(&self) -> bool {
        self.original.peer_ifindex == 0 && self.since.elapsed() < PATIENCE
    }

    /// Returns true if it is known to be somewhere: hardware is, and a veth whose other end is here.
    fn exists(&self) -> bool {
        let other_end = self.original.peer_ifindex;
        let link = || Socket::open().and_then(|socket| link_at(&socket, other_end)).ok().flatten();
        let leads_back = |link: Link| link.peer.is_some_and(|peer| peer.ifindex == self.ifindex);
        other_end == 0 || (!self.site.is_on_host() && link().is_some_and(leads_back))
    }

    fn give_back(&self, netns: &NetnsRef, link: &Link) -> Result<(), ShapingError> {
        let device = Device::of(self.site_of_device(), link);
        let give_back = || {
            let socket = Socket::open()?;
            let attached = Attached::on(&socket, &device)?;
            if self.program_id.is_some_and(|id| hook::runs(&attached, id)) {
                return restore::take_off(&socket, &device, self.program_id, self.original).map(drop);
            }
            restore::give_back(&socket, &device, self.original)
        };
        let given = Netns::open(netns).and_then(|netns| netns.enter(give_back));
        given.map_err(cannot_enter)?.map_err(|error: NetlinkError| explain(&error))
    }
}

impl Datapath {
    /// Forgets an instance whose device is not where it was, but not what that device was.
    pub(super) fn lose(&self, instance: &Arc<Instance>) {
        self.instances_mut().remove(&instance.key());
        match Stray::of(instance) {
            Some(stray) => self.strays.lock().push(stray),
            None => instance.unpin(),
        }
    }

    /// Returns the record of the device that a program of ours was put on, which may have moved with it since.
    pub(super) fn record_of_moved(&self, program_id: u32) -> Option<Original> {
        let instances = self.all();
        let instance = instances.iter().find(|instance| instance.program_id() == program_id);
        let of_stray = || {
            let strays = self.strays.lock();
            strays.iter().find(|stray| stray.program_id == Some(program_id)).map(|stray| stray.original)
        };
        instance.map(|instance| instance.original()).or_else(of_stray)
    }

    /// Looks for devices that left, in all namespaces, and gives them back what they were.
    pub(super) fn seek_strays(&self) {
        let mut strays = std::mem::take(&mut *self.strays.lock());
        if strays.is_empty() {
            return;
        }
        for netns in Netns::all() {
            let read = || links(&Socket::open()?);
            // One that ends meanwhile has nothing.
            let Ok(Ok(links)) = Netns::open(&netns).and_then(|netns| netns.enter(read)) else { continue };
            for link in links {
                strays.retain(|stray| {
                    let found = restore::is_of(&stray.original, &link);
                    if found {
                        self.changing.with(netns.id, || self.found(stray, &netns, &link));
                    }
                    !found
                });
            }
            if strays.is_empty() {
                break;
            }
        }
        let (may_turn_up, lost): (Vec<_>, Vec<_>) = strays.into_iter().partition(Stray::may_turn_up);
        self.strays.lock().extend(may_turn_up);
        lost.iter().for_each(|stray| self.give_up(stray));
    }

    /// Gives a device back what it was, or, where it is shaped again, has that end with it.
    fn found(&self, stray: &Stray, netns: &NetnsRef, link: &Link) {
        // Of a host's end that was moved into a container it is what that one sends.
        let site = if stray.site.is_on_host() { Site::Egress } else { stray.site_of_device() };
        let key = Key { netns: netns.id, ifindex: link.ifindex, site };
        let given = match self.instance(&key) {
            Some(instance) => {
                instance.write_original(restore::corrected(instance.original(), &stray.original))
            }
            None => stray.give_back(netns, link),
        };
        match given {
            Ok(()) => self.unpin(stray),
            Err(error) => tracing::warn!(
                interface = stray.interface, device = link.name, netns = %netns.path.display(), %error,
                "cannot give a device that left back what it was"
            ),
        }
    }

    fn give_up(&self, stray: &Stray) {
        if stray.exists() {
            tracing::warn!(
                interface = stray.interface,
                gso_max_segs = stray.original.gso_max_segs,
                txqueuelen = stray.original.tx_queue_len,
                "its device left and cannot be found: set these again with `ip link set`"
            );
        }
        self.unpin(stray);
    }

    /// Removes the pins, unless another device has its index by now, and they are that one's.
    fn unpin(&self, stray: &Stray) {
        if !self.all().iter().any(|instance| instance.pins() == stray.pins) {
            pins::remove(&stray.pins);
        }
    }
}
