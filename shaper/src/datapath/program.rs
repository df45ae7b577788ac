//! Loads the BPF program, once for each instance.

use std::{
    fs,
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use parking_lot::Mutex;
use shaper_common::{
    DETOUR_FROM_CONSTANT, DETOUR_INTO_CONSTANT, DETOUR_PROGRAM, POLICY_PROGRAM, PROGRAM, RECEIVES_CONSTANT,
    TCX_CONSTANT,
};

use super::{
    device::Device,
    loaded::{Loaded, refused},
    pins, place,
    prepared::Prepared,
};
use crate::{
    files::Lock,
    network::Side,
    shaping::{Hook, ShapingError},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shaper-ebpf"));

/// The log of the instances: a ring in the kernel, and its reader.
pub(crate) struct LogRing(EbpfLogger<&'static dyn log::Log>);

impl LogRing {
    /// Hands what is in the ring to the logger of this process.
    pub(crate) fn drain(&mut self) {
        self.0.flush();
    }
}

impl AsRawFd for LogRing {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Loads instances. Making one parses the kernel's type information (21 ms), so there is one for all. It is not kept
/// (20 MB): nothing in the program is to be fitted to the kernel's types.
pub(super) struct Loader {
    loader: Mutex<EbpfLoader<'static>>,
    /// No other daemon may touch what is pinned where this one pins.
    _pin_dir: Lock,
    log_ring: Mutex<Option<LogRing>>,
}

impl Loader {
    /// A loader whose instances share one log ring, pinned in `pin_dir`.
    ///
    /// # Errors
    ///
    /// When the directory cannot be had, belongs to another host, or the kernel does not take the program.
    pub(super) fn new(pin_dir: &Path) -> Result<Self, ShapingError> {
        let taken = pins::take(pin_dir)?;
        place::check(pin_dir)?;
        let mut loader = EbpfLoader::new();
        loader.btf(None).map_pin_path(pins::LOG_RING, pin_dir.join(pins::LOG_RING));
        let this = Self { loader: Mutex::new(loader), _pin_dir: taken, log_ring: Mutex::default() };
        let mut loaded = this.try_out().or_else(|_| {
            // A ring that another version of the program left may not fit this one. Instances that log to it go on
            // doing so, unread.
            let _ = fs::remove_file(pin_dir.join(pins::LOG_RING));
            this.try_out()
        })?;
        match EbpfLogger::init(&mut loaded.ebpf) {
            Ok(logger) => *this.log_ring.lock() = Some(LogRing(logger)),
            Err(error) => tracing::warn!(%error, "what BPF logs will not be shown"),
        }
        Ok(this)
    }

    /// Loads an instance that nobody will use.
    fn try_out(&self) -> Result<Loaded, ShapingError> {
        verified(self.loader.lock().load(OBJECT).map_err(|error| refused(&error))?, PROGRAM)
    }

    pub(super) fn take_log_ring(&self) -> Option<LogRing> {
        self.log_ring.lock().take()
    }

    /// Loads one more instance into the kernel, to be pinned in `directory`; maps that are pinned there already are its
    /// own. It can be attached to `hook` of `device` only.
    ///
    /// # Errors
    ///
    /// Without permission, and when the verifier refuses it.
    pub(super) fn load(
        &self,
        directory: &Path,
        policy: Option<&Prepared>,
        device: &Device,
        hook: Hook,
    ) -> Result<Loaded, ShapingError> {
        let name = if policy.is_some() { POLICY_PROGRAM } else { PROGRAM };
        let ebpf = self.open(directory, policy, device, hook).map_err(|error| refused(&error))?;
        // Verified outside the loader's lock, as that takes most of the time.
        verified(ebpf, name)
    }

    /// Loads the program that leads packets through a detour, `device`, beside its instance in `directory`.
    ///
    /// # Errors
    ///
    /// The same as those of [`Self::load`].
    pub(super) fn load_detour(directory: &Path, device: &Device) -> Result<Loaded, ShapingError> {
        let (from, into) = (device.recorded(), device.ifindex);
        // One of its own: that of all instances holds its constants for as long as it lives.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in pins::SHARED_MAPS {
            loader.map_pin_path(name, directory.join(name));
        }
        loader.map_pin_path(pins::LOG_RING, directory.with_file_name(pins::LOG_RING));
        for (name, size) in Prepared::sizes(None) {
            loader.map_max_entries(name, size);
        }
        loader.override_global(DETOUR_FROM_CONSTANT, &from, true);
        loader.override_global(DETOUR_INTO_CONSTANT, &into, true);
        verified(loader.load(OBJECT).map_err(|error| refused(&error))?, DETOUR_PROGRAM)
    }

    /// Parses the object and makes its maps.
    fn open(
        &self,
        directory: &Path,
        policy: Option<&Prepared>,
        device: &Device,
        hook: Hook,
    ) -> Result<Ebpf, EbpfError> {
        let mut loader = self.loader.lock();
        for name in pins::SHARED_MAPS {
            loader.map_pin_path(name, directory.join(name));
        }
        for (name, size) in Prepared::sizes(policy) {
            loader.map_max_entries(name, size);
        }
        for (name, value) in Prepared::constants(policy) {
            loader.override_global(name, value, true);
        }
        let flag = |is_so: bool| if is_so { &1_u32 } else { &0 };
        loader.override_global(TCX_CONSTANT, flag(hook == Hook::Tcx), true);
        loader.override_global(RECEIVES_CONSTANT, flag(device.site.side() == Side::Ingress), true);
        loader.load(OBJECT)
    }
}

/// Has the kernel verify and take one program of an object.
fn verified(ebpf: Ebpf, name: &'static str) -> Result<Loaded, ShapingError> {
    let mut loaded = Loaded { ebpf, name };
    loaded.classifier()?.load().map_err(|error| refused(&error))?;
    Ok(loaded)
}
