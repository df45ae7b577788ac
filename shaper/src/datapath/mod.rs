//! Attaches the BPF program to interfaces, changes its policies, reads its counters and takes it away.
//!
//! The kernel holds the truth: what is shaped is what is pinned, and policies are read from their maps each time.
//! Blocking; knows nothing of container runtimes, Scope or HTTP.

mod adoption;
mod attachment;
mod batch;
mod change;
mod clearing;
mod device;
mod disposal;
mod error;
mod following;
mod inspection;
mod instance;
mod leftovers;
mod loaded;
mod locks;
mod names;
mod pins;
mod place;
mod prepared;
mod present;
mod program;
mod restore;
mod retarget;
mod segments;
mod selection;
mod state;
mod strays;
mod survey;
mod whereabouts;

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, RwLock};
pub(crate) use program::LogRing;

use self::{
    change::Change,
    device::{AttachPoint, Key},
    error::{cannot_enter, explain},
    instance::Instance,
    loaded::Loaded,
    locks::Locks,
    names::Names,
    pins::PinName,
    prepared::Prepared,
    program::Loader,
    selection::Selection,
    state::Seen,
    strays::Stray,
    survey::Inside,
};
use crate::{
    clock::monotonic_ns,
    network::{NetlinkError, Netns, Socket, addresses},
    shaping::{
        Attempt, Directions, Event, EventKind, InterfaceInspection, InterfaceView, NetnsId, NetnsRef, Peers,
        Policy, QueueCounts, Refusal, Request, Shaping, ShapingError, ShapingState,
    },
};

/// Returns the reason why the daemon cannot see the containers of the runtimes, if so.
pub(crate) type Blindness = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// All shaping of this host.
pub(crate) struct Datapath {
    pin_dir: PathBuf,
    /// Where the host's ends of veths are.
    host: Netns,
    loader: OnceLock<Loader>,
    /// Held while the loader is made and what is pinned is taken over.
    preparing: Mutex<()>,
    instances: RwLock<BTreeMap<Key, Arc<Instance>>>,
    /// The addresses of names in targets. Looked up while a container's lock is held, so that a policy never keeps what
    /// was so when it was asked for.
    names: Names,
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
    /// as `blindness` returns a reason.
    ///
    /// # Errors
    ///
    /// When `/proc` is not mounted.
    pub(crate) fn new(pin_dir: PathBuf, blindness: Blindness) -> io::Result<Self> {
        Ok(Self {
            pin_dir,
            host: Netns::own()?,
            loader: OnceLock::new(),
            preparing: Mutex::default(),
            instances: RwLock::default(),
            names: Names::default(),
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
        self.adopt().map_err(|error| Attempt::ReadPins(self.pin_dir.clone()).failed(error))?;
        self.seek_strays();
        *self.unread.lock() = None;
        Ok(self.loader.get_or_init(|| new))
    }

    /// Changes the shaping of the interfaces of a network namespace that connect it to the outside, or that were chosen: of
    /// all of them, or of none. Names in it stand for what was [`Self::name_found`] of them.
    ///
    /// Says whether something still waits to be taken away.
    ///
    /// # Errors
    ///
    /// When one of them cannot be shaped so; nothing has changed then.
    pub(crate) fn set(&self, netns: &NetnsRef, request: &Request) -> Result<bool, ShapingError> {
        self.loader()?;
        self.retry_kept();
        self.changing.with(netns.id, || self.change(netns, request))?;
        Ok(!self.settle(&[netns.id]).is_empty())
    }

    fn change(&self, netns: &NetnsRef, request: &Request) -> Result<(), ShapingError> {
        self.refuse_kept(netns.id)?;
        let inside = self.look_into(netns)?;
        self.reclaim(&survey::shapeable(netns, &inside, request.directions), |_, _| false)?;
        let now_ns = monotonic_ns();
        let Selection { points, deselected } = self.select(netns, &inside, request, now_ns)?;
        let mut changes = Vec::new();
        for (point, old) in &points {
            match self.prepare_change(point, old, request, now_ns) {
                Ok(change) => changes.extend(change),
                Err(error) => {
                    self.abandon(changes);
                    return Err(error.about(&point.to_string()));
                }
            }
        }
        changes.extend(deselected.into_iter().map(Change::end));
        self.make(changes)
    }

    /// Has interfaces that a namespace has got since it was shaped join in, and forgets those it has lost. Says whether
    /// something still waits to be taken away.
    pub(crate) fn refresh(&self, netns: &NetnsRef) -> bool {
        if self.loader.get().is_some()
            && let Err(error) = self.adopt_leftovers(netns)
        {
            tracing::warn!(netns = %netns.path.display(), %error, "cannot look for what an earlier daemon left");
        }
        let mut draining = false;
        for directions in [Directions::Egress, Directions::Ingress] {
            let shaped = self
                .of(netns.id)
                .iter()
                .any(|instance| directions.each().contains(&instance.key().direction));
            let request = Request { directions, ..Request::default() };
            match shaped.then(|| self.set(netns, &request)) {
                Some(Ok(waits)) => draining |= waits,
                Some(Err(error)) => {
                    tracing::warn!(netns = %netns.path.display(), %directions, %error, "cannot shape what has changed");
                }
                None => {}
            }
        }
        draining
    }

    /// Readies an interface for its next policy, attaching to it if need be; says what is left to be done.
    fn prepare_change(
        &self,
        point: &AttachPoint,
        old: &Shaping,
        request: &Request,
        now_ns: u64,
    ) -> Result<Option<Change>, ShapingError> {
        let new = old.after(request, point.key.direction, now_ns).map_err(ShapingError::Invalid)?;
        let Some(instance) = self.instance(&point.key) else {
            if !new.is_in_force(now_ns) {
                return Ok(None);
            }
            let instance = Arc::new(self.attach(point, &new, now_ns)?);
            return Ok(Some(Change::Begin { instance, shaping: new }));
        };
        attachment::ready_classifier(&instance)?;
        if new.needs_queue() {
            attachment::ready_queue(&instance)?;
        }
        if new.needs_single_segments() {
            attachment::ready_segments(&instance, &point.device)?;
        }
        self.note(&instance, Seen::Present(ShapingState::Intact));
        if instance.can(&new) {
            return Ok(Some(Change::Write { instance, shaping: new }));
        }
        self.stage_next(point, instance, &new, now_ns).map(Some)
    }

    /// Loads the program that is to take the place of `old`.
    fn stage_next(
        &self,
        point: &AttachPoint,
        old: Arc<Instance>,
        shaping: &Shaping,
        now_ns: u64,
    ) -> Result<Change, ShapingError> {
        let (loaded, next) = self.stage(point, shaping, Some(&old), now_ns)?;
        next.succeed(&old);
        if let Err(error) = next.write_shaping(shaping) {
            pins::discard(&self.pin_dir, point.key.pin_name());
            return Err(error);
        }
        Ok(Change::Replace { old, next: Arc::new(next), loaded: Box::new(loaded) })
    }

    fn stage(
        &self,
        point: &AttachPoint,
        shaping: &Shaping,
        old: Option<&Instance>,
        now_ns: u64,
    ) -> Result<(Loaded, Instance), ShapingError> {
        let policy = shaping.needs_maps().then_some(&shaping.policy);
        let prepared = policy
            .map(|policy| Prepared::new(policy, point.key.direction, now_ns, &self.peers(policy, old)))
            .transpose()?;
        Instance::stage(self.loader()?, point, policy.zip(prepared), old, &self.pin_dir)
    }

    /// Returns the addresses of the names in a policy; of those that are not known, the ones in `old`, if any.
    fn peers(&self, policy: &Policy, old: Option<&Instance>) -> Peers {
        self.names.peers(policy.names(), &old.map(Instance::peers).unwrap_or_default())
    }

    /// Attaches to a device that nothing of ours is on; its policy is still to be written.
    fn attach(&self, point: &AttachPoint, shaping: &Shaping, now_ns: u64) -> Result<Instance, ShapingError> {
        let (mut loaded, instance) = self.stage(point, shaping, None, now_ns)?;
        let attached = pins::publish(&self.pin_dir, point.key.pin_name())
            .and_then(|()| attachment::attach(&mut loaded, &instance, shaping));
        if attached.is_err() {
            instance.unpin();
        }
        attached.map(|()| instance)
    }

    /// Undoes what a failed request attached and loaded; none of it has had a policy, so nothing waits in it.
    fn abandon(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Begin { instance, .. } => self.forget(&instance),
                Change::Write { .. } => {}
                Change::Replace { next, .. } => pins::discard(&self.pin_dir, next.key().pin_name()),
            }
        }
    }

    /// Makes changes that are ready: all, or, when one cannot be made, none.
    fn make(&self, mut changes: Vec<Change>) -> Result<(), ShapingError> {
        let mut undo = Vec::new();
        for index in 0..changes.len() {
            match changes[index].make() {
                Ok(undoing) => undo.extend(undoing),
                Err(error) => {
                    undo.into_iter().rev().for_each(change::Undo::carry_out);
                    self.abandon(changes);
                    return Err(error);
                }
            }
        }
        for change in changes {
            match change {
                Change::Begin { instance, .. } => {
                    self.instances_mut().insert(instance.key(), instance);
                }
                Change::Write { .. } => {}
                Change::Replace { next, .. } => {
                    if let Err(error) = pins::publish(&self.pin_dir, next.key().pin_name()) {
                        tracing::error!(interface = %next, %error, "it is shaped, but the next daemon will not know it");
                    }
                    self.instances_mut().insert(next.key(), next);
                }
            }
        }
        Ok(())
    }

    /// Takes away what is over in these namespaces: policies that ended, when the last delayed packet has left, and all
    /// shaping of a namespace that went. One that is being changed is left for the next time.
    ///
    /// Says in which of them something still waits to be taken away.
    pub(crate) fn settle(&self, among: &[NetnsId]) -> Vec<NetnsId> {
        let is_unsettled = |netns: &NetnsId| {
            // For each instance anew, so that a request waits for one of them at most.
            let settled = |instance: &Arc<Instance>| {
                self.changing.try_with(*netns, || self.settle_one(&instance.key())).unwrap_or(false)
            };
            self.of(*netns).iter().filter(|instance| !settled(instance)).count() > 0
        };
        let unsettled = among.iter().copied().filter(is_unsettled).collect();
        self.seek_strays();
        unsettled
    }

    /// Takes an instance away, if it is over and nothing waits. Returns false while it drains.
    fn settle_one(&self, key: &Key) -> bool {
        let Some(instance) = self.instance(key) else { return true };
        match attachment::settle(&instance) {
            Ok(attachment::Settled::Kept) => true,
            Ok(attachment::Settled::Draining) => false,
            Ok(attachment::Settled::Removed) => {
                if instance.has_deadline() {
                    self.tell(&instance, EventKind::Ended("its time is over"));
                }
                instance.unpin();
                self.instances_mut().remove(key);
                true
            }
            Ok(attachment::Settled::Gone(reason)) => {
                if instance.is_in_force() {
                    self.tell(&instance, EventKind::Ended(reason));
                }
                self.forget(&instance);
                true
            }
            Err(error) => {
                self.note(&instance, Seen::Nothing(error.to_string()));
                // It is looked at again each second, and need not be sooner.
                true
            }
        }
    }

    /// The addresses by which others reach a container.
    ///
    /// # Errors
    ///
    /// When its namespace cannot be looked into.
    pub(crate) fn addresses(&self, netns: &NetnsRef) -> Result<Vec<IpAddr>, ShapingError> {
        let look = || -> Result<_, NetlinkError> {
            let socket = Socket::open()?;
            Ok((Inside::read(&socket, &self.host)?, addresses(&socket)?))
        };
        let looked = survey::open(netns, &self.host)?.enter(look).map_err(cannot_enter)?;
        let (inside, all) = looked.map_err(|error| explain(&error))?;
        Ok(all.into_iter().filter(|(ifindex, _)| !inside.is_inner(*ifindex)).map(|(_, own)| own).collect())
    }

    /// Returns the shaping of a network namespace's interfaces.
    pub(crate) fn view(&self, netns: NetnsId) -> Vec<InterfaceView> {
        let now_ns = monotonic_ns();
        let view = |instance: &Arc<Instance>| {
            let names = self.names.shown(&instance.names(), &instance.peers());
            InterfaceView { names, ..instance.view(now_ns) }
        };
        let mut views: Vec<_> = self.of(netns).iter().map(view).collect();
        views.extend(self.view_kept(netns));
        views
    }

    /// Where the shaping of a network namespace can be seen.
    pub(crate) fn inspect(&self, netns: NetnsId) -> Vec<InterfaceInspection> {
        self.of(netns).iter().map(|instance| inspection::inspect(instance)).collect()
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

    fn forget(&self, instance: &Arc<Instance>) {
        match attachment::detach(instance) {
            Ok(true) => {}
            Ok(false) => return self.lose(instance),
            Err(error) => {
                self.instances_mut().remove(&instance.key());
                return self.keep(instance.key().pin_name(), error.to_string());
            }
        }
        instance.unpin();
        self.instances_mut().remove(&instance.key());
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
