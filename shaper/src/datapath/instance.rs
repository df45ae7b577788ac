//! One program with its maps: one interface in one direction.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt, fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::{
    maps::{Array, Map, MapData, MapError, PerCpuArray},
    programs::{
        SchedClassifier,
        links::{FdLink, PinnedLink},
    },
};
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit},
};
use parking_lot::Mutex;
use shaper_common::{ASKED_MAP, COUNTERS_MAP, Counters, ORIGINAL_MAP, Original, PEERS_MAP, SHAPING_MAP};

use super::{
    Queue,
    bypass::Bypass,
    device::{AttachPoint, Device, Key},
    error::OpenError,
    hook,
    loaded::Loaded,
    pins::{self},
    prepared::{self, Prepared},
    program::Loader,
    record,
    retarget::Targets,
    site::Site,
};
use crate::{
    clock::monotonic_ns,
    shaping::{
        Attempt, Event, EventKind, Hook, InterfaceView, Name, NetnsRef, Outcomes, Peers, Policy, Shaping,
        ShapingError, ShapingState,
    },
};

/// A shaped interface and direction. Holds descriptors of maps and of a link only, none of which keeps a namespace alive.
pub(super) struct Instance {
    key: Key,
    interface: String,
    address: Vec<u8>,
    device: Device,
    netns: Mutex<NetnsRef>,
    pins: PathBuf,
    program_id: u32,
    shaping: Mutex<Array<MapData, shaper_common::Shaping>>,
    /// The policy that its program was loaded for, in force or not.
    policy: Option<Arc<Policy>>,
    /// The addresses that the policy's names stand for, as far as they are known.
    peers: Mutex<Peers>,
    counters: PerCpuArray<MapData, Counters>,
    original: Mutex<Original>,
    queue: Mutex<Queue>,
    state: Mutex<ShapingState>,
    bypass: Bypass,
    held: AtomicBool,
    /// The link of its program, on the TCX hook: while it is open, the program stays even if its pins are removed.
    link: Mutex<Option<PinnedLink>>,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) of netns {}", self.interface, self.key.direction(), self.key.netns.inode)
    }
}

impl Instance {
    /// Loads a program for `point` and pins it, with its maps, in the new directory `staged`, from where it is still to
    /// get to its own; nothing is attached yet. Where it is to take the place of `old`, it goes on with its counters, and,
    /// if that is at the same site, sits on the same hook; otherwise on `hook`.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded or pinned; the directory is gone then.
    pub(super) fn stage(
        loader: &Loader,
        point: &AttachPoint,
        policy: Option<(&Arc<Policy>, Prepared)>,
        old: Option<&Self>,
        hook: Hook,
        pin_dir: &Path,
    ) -> Result<(Loaded, Self), ShapingError> {
        let same_site = old.filter(|old| old.key() == point.key);
        let hook = same_site.map_or(hook, Self::hook);
        let staged = pins::stage(pin_dir, point.key.pin_name())?;
        let stage = || {
            if let Some(old) = old {
                old.share_counters(&staged)?;
            }
            if let Some(old) = same_site {
                old.share_attachment(&staged)?;
            }
            let prepared = policy.as_ref().map(|(_, prepared)| prepared);
            let mut loaded = loader.load(&staged, prepared, &point.device, hook)?;
            if point.key.site == Site::Detour && same_site.is_none() {
                let mut detour = Loader::load_detour(&staged, &point.device)?;
                let pin = detour.classifier()?.pin(staged.join(pins::DETOUR));
                pin.map_err(|error| cannot_pin(&error))?;
            }
            if let Some((_, prepared)) = &policy {
                prepared.fill(&mut loaded)?;
                for name in pins::POLICY_MAPS {
                    loaded.map(name)?.pin(staged.join(name)).map_err(|error| cannot_pin(&error))?;
                }
            }
            loaded.classifier()?.pin(staged.join(pins::PROGRAM)).map_err(|error| cannot_pin(&error))?;
            let policy = policy.as_ref().map(|(policy, prepared)| (Arc::clone(policy), prepared.peers()));
            let instance = Self::open_in(point, &staged, pin_dir, policy)?;
            Ok((loaded, instance))
        };
        stage().inspect_err(|_| pins::remove(&staged))
    }

    /// Pins the counters, which the next program goes on with, in its directory as well.
    fn share_counters(&self, staged: &Path) -> Result<(), ShapingError> {
        self.share_map(COUNTERS_MAP, staged)
    }

    fn share_map(&self, name: &str, staged: &Path) -> Result<(), ShapingError> {
        let map = MapData::from_pin(self.pins.join(name)).map_err(|error| cannot_pin(&error))?;
        map.pin(staged.join(name)).map_err(|error| cannot_pin(&error))
    }

    /// Pins what is known of the device, and what attaches to it, in the directory of the next program as well.
    fn share_attachment(&self, staged: &Path) -> Result<(), ShapingError> {
        self.share_map(ORIGINAL_MAP, staged)?;
        if self.key.site == Site::Detour {
            let detour = SchedClassifier::from_pin(self.pins.join(pins::DETOUR));
            let pinned = detour.map(|mut detour| detour.pin(staged.join(pins::DETOUR)));
            pinned.map_err(|error| cannot_pin(&error))?.map_err(|error| cannot_pin(&error))?;
        }
        if self.hook() == Hook::Tcx {
            let link =
                PinnedLink::from_pin(self.pins.join(pins::LINK)).map_err(|error| cannot_pin(&error))?;
            FdLink::from(link).pin(staged.join(pins::LINK)).map_err(|error| cannot_pin(&error))?;
        }
        Ok(())
    }

    /// Pins the link that attaches its program, in the place of one that somebody detached.
    ///
    /// # Errors
    ///
    /// When it cannot be pinned; it is detached then.
    pub(super) fn keep_link(&self, link: FdLink) -> Result<(), ShapingError> {
        let path = self.pins.join(pins::LINK);
        // Most often there is none.
        let _ = fs::remove_file(&path);
        *self.link.lock() = Some(link.pin(path).map_err(|error| cannot_pin(&error))?);
        Ok(())
    }

    /// Opens what is pinned in `directory`, which is `point`'s own, or to become that.
    ///
    /// # Errors
    ///
    /// When a pin is missing or of another layout.
    pub(super) fn open(point: &AttachPoint, directory: &Path, pin_dir: &Path) -> Result<Self, OpenError> {
        let map = |name| {
            MapData::from_pin(directory.join(name)).map_err(|error| cannot_open(name, directory, &error))
        };
        let policy = if directory.join(ASKED_MAP).exists() {
            let policy = Arc::new(prepared::asked(map(ASKED_MAP)?)?);
            let peers = match map(PEERS_MAP).and_then(prepared::peers) {
                // An earlier daemon may have ended while it wrote them.
                Err(error) if error.is_unusable => Peers::default(),
                peers => peers?,
            };
            Some((policy, peers))
        } else {
            None
        };
        Self::open_in(point, directory, pin_dir, policy)
    }

    fn open_in(
        point: &AttachPoint,
        directory: &Path,
        pin_dir: &Path,
        policy: Option<(Arc<Policy>, Peers)>,
    ) -> Result<Self, OpenError> {
        let failed = |what: &str, error: &(dyn Error + 'static)| cannot_open(what, directory, error);
        let program =
            SchedClassifier::from_pin(directory.join(pins::PROGRAM)).map_err(|e| failed("program", &e))?;
        let program_id = program.info().map_err(|e| failed("program", &e))?.id();
        let fd = program.fd().map_err(|e| failed("program", &e))?.as_fd();
        leave_spare(fd).map_err(|e| failed("program", &e))?;
        let map = |name: &str| MapData::from_pin(directory.join(name)).map_err(|e| failed(name, &e));
        let shaping = Array::try_from(Map::Array(map(SHAPING_MAP)?)).map_err(|e| failed(SHAPING_MAP, &e))?;
        let counters = PerCpuArray::try_from(Map::PerCpuArray(map(COUNTERS_MAP)?))
            .map_err(|e| failed(COUNTERS_MAP, &e))?;
        let original = record::read(directory).map_err(|e| failed(ORIGINAL_MAP, &e))?;
        let (policy, peers) = policy.unzip();
        Ok(Self {
            key: point.key,
            interface: point.interface.clone(),
            address: point.address.clone(),
            device: point.device.clone(),
            netns: Mutex::new(point.netns.clone()),
            pins: pin_dir.join(point.key.pin_name().to_string()),
            program_id,
            shaping: Mutex::new(shaping),
            policy,
            peers: Mutex::new(peers.unwrap_or_default()),
            counters,
            original: Mutex::new(original),
            queue: Mutex::default(),
            state: Mutex::default(),
            bypass: Bypass::default(),
            held: point.device.is_held(original.gso_max_segs).into(),
            link: Mutex::new(PinnedLink::from_pin(directory.join(pins::LINK)).ok()),
        })
    }

    /// Keeps, in memory and in the pinned map, what the interface was.
    pub(super) fn write_original(&self, original: Original) -> Result<(), ShapingError> {
        let write = || -> Result<(), MapError> {
            let mut map: Array<_, Original> =
                Array::try_from(Map::Array(MapData::from_pin(self.pins.join(ORIGINAL_MAP))?))?;
            map.set(0, original, 0)
        };
        write().map_err(|error| Attempt::NoteOriginal(self.to_string()).failed(error))?;
        *self.original.lock() = original;
        Ok(())
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    pub(super) const fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// The link-layer address that the interface had when it was attached to or adopted.
    pub(super) fn address(&self) -> &[u8] {
        &self.address
    }

    pub(super) fn pins(&self) -> &Path {
        &self.pins
    }

    pub(super) const fn program_id(&self) -> u32 {
        self.program_id
    }

    /// The hook that it is on.
    pub(super) fn hook(&self) -> Hook {
        hook::of(&self.original())
    }

    /// The record of what its device was.
    pub(super) fn original(&self) -> Original {
        *self.original.lock()
    }

    /// Where the container's namespace was last seen.
    pub(super) fn netns(&self) -> NetnsRef {
        self.netns.lock().clone()
    }

    pub(super) fn moved_to(&self, netns: NetnsRef) {
        *self.netns.lock() = netns;
    }

    pub(super) fn queue(&self) -> Queue {
        *self.queue.lock()
    }

    pub(super) fn note_queue(&self, queue: Queue) {
        *self.queue.lock() = queue;
    }

    /// The state that it was last seen in.
    pub(super) fn state(&self) -> ShapingState {
        self.state.lock().clone()
    }

    /// Notes the state that it is in; returns the one before it.
    pub(super) fn note_state(&self, state: ShapingState) -> ShapingState {
        std::mem::replace(&mut *self.state.lock(), state)
    }

    /// Tells the program that no packet can wait, or that packets can again.
    pub(super) fn mark_queueless(&self, queueless: bool) {
        let mut map = self.shaping.lock();
        let marked = map.get(&0, 0).and_then(|shaping| {
            let queueless = u32::from(queueless);
            if shaping.queueless == queueless {
                Ok(())
            } else {
                map.set(0, shaper_common::Shaping { queueless, ..shaping }, 0)
            }
        });
        if let Err(error) = marked {
            tracing::warn!(interface = %self, %error, "cannot note that its queue has gone");
        }
    }

    /// Returns true if its device was made to take single segments.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn note_held(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// Something that happened to it.
    pub(super) fn event(&self, kind: EventKind) -> Event {
        let shaping = self.shaping().unwrap_or_default();
        Event {
            netns: self.key.netns,
            interface: self.interface.clone(),
            direction: self.key.direction(),
            effects: shaping.words(),
            kind,
        }
    }

    /// Returns true if it had a deadline, and was not cleared before.
    pub(super) fn has_deadline(&self) -> bool {
        self.shaping().is_ok_and(|shaping| shaping.expires_at_ns.is_some())
    }

    pub(super) fn is_in_force(&self) -> bool {
        self.shaping().is_ok_and(|shaping| shaping.is_in_force(monotonic_ns()))
    }

    /// The policy in the map, over or not.
    pub(super) fn shaping(&self) -> Result<Shaping, ShapingError> {
        self.shaping
            .lock()
            .get(&0, 0)
            .map(|shaping| Shaping::from_map(&shaping, self.policy.as_ref()))
            .map_err(|error| Attempt::ReadShaping(self.to_string()).failed(error).into())
    }

    /// Returns true if its program can carry out a policy.
    pub(super) fn can(&self, shaping: &Shaping) -> bool {
        !shaping.needs_maps() || self.policy.as_ref().is_some_and(|policy| *policy == shaping.policy)
    }

    /// The names in the policy in force.
    pub(super) fn names(&self) -> BTreeSet<Name> {
        match (self.shaping(), &self.policy) {
            (Ok(shaping), Some(policy)) if shaping.needs_maps() => {
                policy.names().into_iter().cloned().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The addresses that the names in its policy stand for, as far as they are known.
    pub(super) fn peers(&self) -> Peers {
        self.peers.lock().clone()
    }

    /// Has the names in its policy stand for `peers`; says whether there is room for them.
    ///
    /// # Errors
    ///
    /// When the maps cannot be changed.
    pub(super) fn retarget(&self, peers: &Peers) -> Result<bool, ShapingError> {
        let Some(policy) = &self.policy else { return Ok(true) };
        let failed = |error: &dyn fmt::Display| Attempt::ChangeTargets(self.to_string()).failed(error);
        let maps = policy.compile(0, 0, peers).map_err(ShapingError::Invalid)?;
        let entries = prepared::json_of_peers(peers).map_err(|error| failed(&error))?;
        let retarget = || Targets::open(&self.pins)?.become_those_of(&maps, &entries);
        let has_room = retarget().map_err(|error| failed(&error))?;
        if has_room {
            self.peers.lock().clone_from(peers);
        }
        Ok(has_room)
    }

    pub(super) fn write_shaping(&self, shaping: &Shaping) -> Result<(), ShapingError> {
        self.shaping
            .lock()
            .set(0, shaping.to_map(), 0)
            .map_err(|error| Attempt::WriteShaping(self.to_string()).failed(error).into())
    }

    fn counters(&self) -> Result<Counters, MapError> {
        let mut sum = Counters::default();
        for cpu in self.counters.get(&0, 0)?.iter() {
            sum += *cpu;
        }
        Ok(sum)
    }

    /// Returns the number of packets that it saw.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read.
    pub(super) fn seen_packets(&self) -> Result<u64, MapError> {
        let counters = self.counters()?;
        let tallies = [counters.passed, counters.delayed, counters.lost, counters.overflowed];
        // Anything may have been written into them.
        Ok(tallies.iter().fold(0, |sum, tally| sum.wrapping_add(tally.packets)))
    }

    /// The looks at what leaves its device unseen.
    pub(super) const fn bypass(&self) -> &Bypass {
        &self.bypass
    }

    /// The view of it; an unknown state when its maps cannot be read.
    pub(super) fn view(&self, now_ns: u64) -> InterfaceView {
        let counters = || self.counters().map_err(|error| format!("read the counters of {self}: {error}"));
        let read = self.shaping().map_err(|error| error.to_string());
        let (shaping, counters) = match read.and_then(|shaping| Ok((shaping, counters()?))) {
            Ok(read) => read,
            Err(reason) => {
                return InterfaceView::unknown(self.interface.clone(), self.key.direction(), &reason);
            }
        };
        let shaping = if shaping.is_in_force(now_ns) { shaping } else { Shaping::default() };
        InterfaceView {
            interface: self.interface.clone(),
            direction: self.key.direction(),
            remaining_ms: shaping
                .remaining(now_ns)
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            shaping,
            state: self.state(),
            outcomes: Outcomes::from(&counters),
            queue: self.queue().unwrap_or_default(),
            invalid_policy: counters.invalid_policy,
            orphan_failed: counters.orphan_failed,
            networks: Vec::new(),
            names: Vec::new(),
        }
    }

    /// The pinned program.
    ///
    /// # Errors
    ///
    /// When it is not pinned any more.
    pub(super) fn classifier(&self) -> Result<SchedClassifier, ShapingError> {
        SchedClassifier::from_pin(self.pins.join(pins::PROGRAM))
            .map_err(|error| cannot_open("program", &self.pins, &error).into())
    }

    /// Takes over what the one whose place it takes knows of the device.
    pub(super) fn succeed(&self, old: &Self) {
        self.note_queue(old.queue());
        self.note_state(old.state());
        self.note_held(old.is_held());
    }

    /// Removes the pins.
    pub(super) fn unpin(&self) {
        pins::remove(&self.pins);
    }
}

/// Descriptors that are to stay free: without any, no request would be answered.
const SPARE_DESCRIPTORS: u64 = 16;

/// Looks whether there are descriptors to spare: the kernel gives the lowest number that is free.
fn leave_spare(any: BorrowedFd<'_>) -> io::Result<()> {
    let lowest = u64::try_from(any.try_clone_to_owned()?.as_raw_fd()).unwrap_or_default();
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if lowest.saturating_add(SPARE_DESCRIPTORS) > limit { Err(Errno::EMFILE.into()) } else { Ok(()) }
}

fn cannot_pin(error: &dyn fmt::Display) -> ShapingError {
    Attempt::PinProgram.failed(error).into()
}

fn cannot_open(what: &str, directory: &Path, error: &(dyn Error + 'static)) -> OpenError {
    OpenError::new(&format!("open the pinned {what} in {}", directory.display()), error)
}
