//! Finds out whether this daemon is on the host whose shaping is pinned: one in another network or pid namespace does
//! not see the devices and processes that it would have to, and what is not seen is not gone.
//!
//! A daemon that pins records where it is. Inode numbers cannot tell a host from a container, as hosts are nested: they
//! only tell whether it is the same host.

use std::{
    fmt, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::pins;
use crate::{
    network::{NamespaceKind, Search, own_namespace},
    shaping::{Attempt, Refusal, ShapingError},
};

/// The pid namespace in which all others are (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
const OUTERMOST: u64 = 0xEFFF_FFFC;

/// The namespaces that a daemon sees the host in, by their inode numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    net: u64,
    pid: u64,
}

impl Place {
    /// The namespaces of this daemon.
    fn own() -> Result<Self, ShapingError> {
        let own = |kind| own_namespace(kind).map_err(|error| Attempt::LookAtSelf.failed(error));
        Ok(Self { net: own(NamespaceKind::Net)?, pid: own(NamespaceKind::Pid)? })
    }

    /// The namespaces of the daemon that pinned; none if its version did not record them.
    fn recorded(pin_dir: &Path) -> Result<Option<Self>, ShapingError> {
        let path = record(pin_dir);
        let failed = |reason: &dyn fmt::Display| Attempt::ReadHost(path.clone()).failed(reason).into();
        match fs::read_link(&path) {
            Ok(target) => {
                let parsed = target.to_str().and_then(Self::parse);
                parsed
                    .map(Some)
                    .ok_or_else(|| failed(&"it is of another version. Remove it, if this is its host"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (net, pid) = text.strip_prefix("net:[")?.strip_suffix(']')?.split_once("] pid:[")?;
        Some(Self { net: net.parse().ok()?, pid: pid.parse().ok()? })
    }

    /// Tells whether the host that was here has ended, as seen from `own`, where its containers would be seen as well.
    fn has_ended(self, own: Self) -> bool {
        let ended = |kind, inode| matches!(Search::new(kind, [inode]).of(inode), Ok(None));
        let sees_it = self.pid == own.pid || own.pid == OUTERMOST && ended(NamespaceKind::Pid, self.pid);
        sees_it && (self.net == own.net || ended(NamespaceKind::Net, self.net))
    }

    /// The options that start a daemon in the namespaces of `other` in place of these.
    fn options_for(self, other: Self) -> String {
        let net = (self.net != other.net).then_some("--net=host (Kubernetes: hostNetwork: true)");
        let pid = (self.pid != other.pid).then_some("--pid=host (Kubernetes: hostPID: true)");
        net.into_iter().chain(pid).collect::<Vec<_>>().join(" and ")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}] pid:[{}]", self.net, self.pid)
    }
}

fn record(pin_dir: &Path) -> PathBuf {
    pin_dir.join(pins::RECORD)
}

/// Refuses what is pinned by a daemon that was elsewhere, unless its host has ended.
///
/// # Errors
///
/// When it was.
pub(super) fn check(pin_dir: &Path) -> Result<(), ShapingError> {
    let own = Place::own()?;
    let Some(recorded) = Place::recorded(pin_dir)? else { return Ok(()) };
    let is_pinned = || pins::walk(pin_dir).map_or(true, |pinned| !pinned.is_empty());
    if recorded == own || !is_pinned() || recorded.has_ended(own) {
        return Ok(());
    }
    let refusal = Refusal::PinsOfOtherHost {
        pins: pin_dir.to_owned(),
        recorded: recorded.to_string(),
        own: own.to_string(),
        options: own.options_for(recorded),
        record: record(pin_dir),
    };
    Err(refusal.into())
}

/// Tells whether the host of the pins is recorded. Only then can it be told that something has ended.
pub(super) fn is_recorded(pin_dir: &Path) -> bool {
    matches!(Place::recorded(pin_dir), Ok(Some(_)))
}

/// Records that what is pinned belongs here.
///
/// # Errors
///
/// When the record cannot be made.
pub(super) fn note(pin_dir: &Path) -> Result<(), ShapingError> {
    let own = Place::own()?;
    match Place::recorded(pin_dir)? {
        Some(recorded) if recorded == own => return Ok(()),
        Some(_) => pins::remove(&record(pin_dir)),
        None => {}
    }
    symlink(own.to_string(), record(pin_dir))
        .map_err(|error| Attempt::RecordHost(pin_dir.to_owned()).failed(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place { net: 4_026_531_840, pid: OUTERMOST };

    #[test]
    fn a_pid_namespace_has_ended_where_all_are_seen_and_it_is_not() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let own = Place::own().expect("/proc is mounted");
        assert!(!own.has_ended(Place { net: 1, ..own }), "this process is in it");
        assert!(Place { net: 1, ..own }.has_ended(own));
        assert_eq!(Place { pid: 1, ..own }.has_ended(own), own.pid == OUTERMOST);
    }

    #[test]
    fn a_record_can_be_read_back() {
        assert_eq!(HERE.to_string(), "net:[4026531840] pid:[4026531836]");
        assert_eq!(Place::parse(&HERE.to_string()), Some(HERE));
        for foreign in ["", "net:[1]", "net:[1] pid:[x]", "net:[1] pid:[2] mnt:[3]"] {
            assert_eq!(Place::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_is_missing_from_the_start_line_is_said() {
        let (no_net, no_pid) = (Place { net: 1, ..HERE }, Place { pid: 1, ..HERE });
        assert_eq!(no_net.options_for(HERE), "--net=host (Kubernetes: hostNetwork: true)");
        assert_eq!(no_pid.options_for(HERE), "--pid=host (Kubernetes: hostPID: true)");
        let neither = Place { net: 1, pid: 1 };
        assert!(neither.options_for(HERE).contains(" and --pid=host"));
    }
}
