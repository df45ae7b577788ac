//! Loads the BPF program, once for each instance.

use std::{
    fs, io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, SchedClassifier},
};
use aya_log::EbpfLogger;
use nix::fcntl::Flock;

use super::pins;
use crate::shaping::ShapingError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shaper-ebpf"));

/// What the instances log: a ring in the kernel, and its reader.
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
    loader: EbpfLoader<'static>,
    /// No other daemon may touch what is pinned where this one pins.
    _pin_dir: Flock<fs::File>,
    log_ring: Option<LogRing>,
}

impl Loader {
    /// A loader whose instances share one log ring, pinned in `pin_dir`.
    ///
    /// # Errors
    ///
    /// When the directory cannot be had, or the kernel does not take the program.
    pub(super) fn new(pin_dir: &Path) -> Result<Self, ShapingError> {
        let taken = pins::take(pin_dir)?;
        let mut loader = EbpfLoader::new();
        loader.btf(None).map_pin_path(pins::LOG_RING, pin_dir.join(pins::LOG_RING));
        let mut this = Self { loader, _pin_dir: taken, log_ring: None };
        let mut loaded = this.load().or_else(|_| {
            // A ring that another version of the program left may not fit this one. Instances that log to it go on
            // doing so, unread.
            let _ = fs::remove_file(pin_dir.join(pins::LOG_RING));
            this.load()
        })?;
        match EbpfLogger::init(&mut loaded) {
            Ok(logger) => this.log_ring = Some(LogRing(logger)),
            Err(error) => tracing::warn!(%error, "what BPF logs will not be shown"),
        }
        Ok(this)
    }

    pub(super) const fn take_log_ring(&mut self) -> Option<LogRing> {
        self.log_ring.take()
    }

    /// Loads one more instance into the kernel.
    ///
    /// # Errors
    ///
    /// Without permission, and when the verifier refuses it.
    pub(super) fn load(&mut self) -> Result<Ebpf, ShapingError> {
        let mut loaded = self.loader.load(OBJECT).map_err(|error| refused(&error))?;
        classifier(&mut loaded)?.load().map_err(|error| refused(&error))?;
        Ok(loaded)
    }
}

/// The classifier in a loaded object.
///
/// # Errors
///
/// Never with the object that this crate was built with.
pub(super) fn classifier(loaded: &mut Ebpf) -> Result<&mut SchedClassifier, ShapingError> {
    let program = loaded.program_mut(shaper_common::PROGRAM).ok_or_else(|| {
        ShapingError::Failed(format!("the BPF object has no program {}", shaper_common::PROGRAM))
    })?;
    program.try_into().map_err(|error: ProgramError| refused(&error))
}

fn refused(error: &(dyn std::error::Error + 'static)) -> ShapingError {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let denied =
            cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            return ShapingError::Failed(
                "no permission to load BPF programs: run the daemon as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"
                    .to_owned(),
            );
        }
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    ShapingError::Failed(format!("load the BPF program: {}", causes.join(": ")))
}
