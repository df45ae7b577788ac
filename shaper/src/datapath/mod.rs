//! Attaches the BPF program to interfaces, changes its policies, reads its counters and takes it away.
//!
//! The kernel holds the truth: what is shaped is what is pinned, and policies are read from their maps each time.
//! Blocking; knows nothing of container runtimes, Scope or HTTP.

mod abilities;
mod adoption;
mod attach;
mod batch;
mod bypass;
mod change;
mod choice;
mod clearing;
mod clsact;
mod detour;
mod device;
mod disposal;
mod error;
mod following;
mod hook;
mod inspection;
mod instance;
mod leftovers;
mod loaded;
mod locks;
mod names;
mod networks;
mod pins;
mod place;
mod planning;
mod prepared;
mod present;
mod program;
mod ready;
mod record;
mod restore;
mod retarget;
mod segments;
mod selection;
mod setting;
mod settle;
mod settling;
mod site;
mod state;
mod strays;
mod survey;
mod tcx;
mod whereabouts;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

pub(crate) use abilities::{Foreign, foreign, has_clsact, has_tcx};
pub(crate) use attach::has_fq;
use parking_lot::{Mutex, RwLock};
pub(crate) use planning::Planned;
pub(crate) use program::LogRing;

use self::{
    device::Key, instance::Instance, locks::Locks, names::Names, pins::PinName, program::Loader,
    strays::Stray,
};
use crate::{
    clock::monotonic_ns,
    network::{NetlinkError, Netns, Socket},
    shaping::{
        Attempt, Endpoint, Event, Hook, InterfaceInspection, InterfaceView, NetnsId, NetnsRef, QueueCounts,
        Refusal, ShapingError,
    },
};

/// Returns the reason why the daemon cannot see the containers of the runtimes, if so.
pub(crate) type Blindness = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// All shaping of this host.
pub(crate) struct Datapath {
    pin_dir: PathBuf,
    /// The hook that programs are put on.
    hook: Hook,
    /// Where the host's ends of veths are.
    host: Netns,
    loader: OnceLock<Loader>,
    /// Held while the loader is made and what is pinned is taken over.
    preparing: Mutex<()>,
    /// Set once it is known that the kernel has `fq`.
    fq: OnceLock<()>,
    instances: RwLock<BTreeMap<Key, Arc<Instance>>>,
    /// The addresses of names in targets. Looked up while a container's lock is held, so that a policy never keeps what
    /// was so when it was asked for.
    names: Names,
    /// The connections to networks of each namespace that has any, as runtimes tell of them.
    networks: RwLock<BTreeMap<NetnsId, Arc<[Endpoint]>>>,
    /// Held, by container, while anything of it is attached, changed or taken away.
    changing: Locks,
    /// The events without a request that have not been told yet.
    events: Mutex<Vec<Event>>,
    /// The instances that are pinned but could not be taken over yet, with the reason.
    kept: Mutex<BTreeMap<PinName, String>>,
    /// The reason why nothing is known of what is pinned, if so.
    unread: Mutex<Option<String>>,
    blindness: Blindness,
    /// Devices that left while something of theirs was changed.
    strays: Mutex<Vec<Stray>>,
}

impl Datapath {
    /// A datapath that pins in `pin_dir`, which must be in bpffs by the time something is shaped. Nothing is changed as long
    /// as `blindness` returns a reason. Programs are put on `hook`, or on the best that the kernel has.
    ///
    /// # Errors
    ///
    /// When `/proc` is not mounted.
    pub(crate) fn new(pin_dir: PathBuf, hook: Option<Hook>, blindness: Blindness) -> io::Result<Self> {
        Ok(Self {
            pin_dir,
            hook: hook.unwrap_or_else(hook::best),
            host: Netns::own()?,
            loader: OnceLock::new(),
            preparing: Mutex::default(),
            fq: OnceLock::new(),
            instances: RwLock::default(),
            names: Names::default(),
            networks: RwLock::default(),
            changing: Locks::default(),
            events: Mutex::default(),
            kept: Mutex::default(),
            unread: Mutex::default(),
            blindness,
            strays: Mutex::default(),
        })
    }

    /// Readies the BPF program and takes over the shaping that an earlier daemon left; what has ended is removed. Requests
    /// do the same, if it has not been done.
    ///
    /// # Errors
    ///
    /// A daemon that does not see the host, no bpffs, no permission, another daemon that pins in the same place, or a
    /// kernel that refuses the program.
    pub(crate) fn prepare(&self) -> Result<(), ShapingError> {
        self.loader().map(drop).inspect_err(|error| self.keep_all(&error.to_string()))
    }

    /// Returns true if [`Self::prepare`] has still to be tried again.
    pub(crate) fn is_unprepared(&self) -> bool {
        self.loader.get().is_none()
    }

    /// The ring with what the program logs, once, after the program has been made ready.
    pub(crate) fn take_log_ring(&self) -> Option<LogRing> {
        self.loader.get()?.take_log_ring()
    }

    /// The loader, once all that was pinned has been taken over.
    fn loader(&self) -> Result<&Loader, ShapingError> {
        if let Some(loader) = self.loader.get() {
            return Ok(loader);
        }
        let _preparing = self.preparing.lock();
        if let Some(loader) = self.loader.get() {
            return Ok(loader);
        }
        if let Some(reason) = (self.blindness)() {
            return Err(Refusal::Blind { reason }.into());
        }
        let new = Loader::new(&self.pin_dir)?;
        match attach::has_fq() {
            Ok(fq) => tracing::info!(hook = %self.hook, fq, "the kernel takes the program"),
            Err(error) => tracing::warn!(hook = %self.hook, %error, "cannot tell whether the kernel has fq"),
        }
        self.adopt().map_err(|error| Attempt::ReadPins(self.pin_dir.clone()).failed(error))?;
        self.seek_strays();
        *self.unread.lock() = None;
        Ok(self.loader.get_or_init(|| new))
    }

    /// Does `work` in a container's namespace, with a socket of it and the host's namespace.
    ///
    /// # Errors
    ///
    /// When it cannot be entered, and those of `work`.
    pub(crate) fn visit<T>(
        &self,
        netns: &NetnsRef,
        work: impl FnOnce(&Socket, &Netns) -> Result<T, NetlinkError>,
    ) -> Result<T, ShapingError> {
        survey::visit(netns, &self.host, |socket| work(socket, &self.host))
    }

    /// Returns the shaping of a network namespace's interfaces.
    pub(crate) fn view(&self, netns: NetnsId) -> Vec<InterfaceView> {
        let now_ns = monotonic_ns();
        let view = |instance: &Arc<Instance>| {
            let names = self.names.shown(&instance.names(), &instance.peers());
            InterfaceView { names, networks: self.networks_at(instance), ..instance.view(now_ns) }
        };
        let mut views: Vec<_> = self.shown(netns).iter().map(view).collect();
        views.extend(self.view_kept(netns));
        views
    }

    /// Where the shaping of a network namespace can be seen.
    pub(crate) fn inspect(&self, netns: NetnsId) -> Vec<InterfaceInspection> {
        self.shown(netns).iter().map(|instance| inspection::inspect(instance)).collect()
    }

    /// The instances of a namespace; of a direction that has moved to another site, only the one where it is now.
    fn shown(&self, netns: NetnsId) -> Vec<Arc<Instance>> {
        let mut instances = self.of(netns);
        let all = instances.clone();
        instances.retain(|left| {
            let mut beside =
                all.iter().filter(|other| other.key() != left.key() && other.key().is_beside(&left.key()));
            !beside.any(|other| other.is_in_force() && !left.is_in_force())
        });
        instances
    }

    /// The namespaces in which something is shaped.
    pub(crate) fn shaped(&self) -> Vec<NetnsId> {
        let mut shaped: Vec<_> = self.all().iter().map(|instance| instance.key().netns).collect();
        shaped.dedup();
        shaped
    }

    /// Removes what belongs to the daemon rather than to shaping, if nothing is shaped; for the daemon's end. A directory
    /// that was never this daemon's is left alone: it may be another's.
    pub(crate) fn close(&self) {
        if self.loader.get().is_some() && self.all().is_empty() && self.kept.lock().is_empty() {
            pins::remove_empty(&self.pin_dir);
        }
    }

    fn instances_mut(&self) -> parking_lot::RwLockWriteGuard<'_, BTreeMap<Key, Arc<Instance>>> {
        self.instances.write()
    }

    fn all(&self) -> Vec<Arc<Instance>> {
        self.instances.read().values().cloned().collect()
    }

    fn of(&self, netns: NetnsId) -> Vec<Arc<Instance>> {
        let instances = self.instances.read();
        instances
            .range(Key::first_of(netns)..)
            .take_while(|(key, _)| key.netns == netns)
            .map(|(_, i)| Arc::clone(i))
            .collect()
    }

    fn instance(&self, key: &Key) -> Option<Arc<Instance>> {
        self.instances.read().get(key).cloned()
    }
}

/// The queue's counters where there is a queue.
type Queue = Option<QueueCounts>;
