//! The directory in bpffs: one directory in it for each shaped interface and direction.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::SchedClassifier;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use shaper_common::{
    ASKED_MAP, COUNTERS_MAP, ORIGINAL_MAP, PEERS_MAP, RULES_MAP, SCHEDULES_MAP, SHAPING_MAP, STATES_MAP,
    STEPS_MAP, TARGETS_MAP,
};

use super::{
    disposal,
    error::{OpenError, none_if_unusable},
    site::Site,
};
use crate::{
    files::{self, Directory, DirectoryError, LOCK, Lock},
    shaping::{Attempt, Refusal, ShapingError},
};

/// The pin of the program in an instance's directory.
pub(super) const PROGRAM: &str = "program";
/// The pin of the link that attaches it, on the TCX hook.
pub(super) const LINK: &str = "link";
/// The pin of the program that leads packets through a detour.
pub(super) const DETOUR: &str = "detour";
/// The pin of the ring that all instances log to.
pub(super) const LOG_RING: &str = "AYA_LOGS";
/// The record of the host: a symbolic link, as bpffs admits no plain files, that leads nowhere.
pub(super) const RECORD: &str = "host";

/// The maps that an instance has whatever program it runs; the next one takes them over, but for the policy.
pub(super) const SHARED_MAPS: [&str; 3] = [SHAPING_MAP, COUNTERS_MAP, ORIGINAL_MAP];
/// The maps of a policy that are pinned: for people to look at, and for the daemon to change.
pub(super) const POLICY_MAPS: [&str; 7] =
    [ASKED_MAP, PEERS_MAP, SCHEDULES_MAP, STEPS_MAP, STATES_MAP, TARGETS_MAP, RULES_MAP];
/// The prefix of the directory of an instance that is not complete; bpffs allows no dots.
const INCOMPLETE: &str = "new-";

/// The name of an instance's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PinName {
    /// The container's network namespace.
    pub(super) inode: u64,
    /// The interface in it.
    pub(super) ifindex: u32,
    /// The place where it is shaped.
    pub(super) site: Site,
}

impl std::fmt::Display for PinName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "netns-{}-if-{}-{}", self.inode, self.ifindex, self.site.as_str())
    }
}

impl PinName {
    fn parse(name: &str) -> Option<Self> {
        let (inode, rest) = name.strip_prefix("netns-")?.split_once("-if-")?;
        let (ifindex, site) = rest.split_once('-')?;
        let site = Site::ALL.into_iter().find(|known| known.as_str() == site)?;
        Some(Self { inode: inode.parse().ok()?, ifindex: ifindex.parse().ok()?, site })
    }
}

/// Returns true if the directory, or the nearest one above it that exists, is in bpffs.
pub(super) fn is_in_bpffs(pin_dir: &Path) -> bool {
    let nearest = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    statfs(nearest).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes the directory, if it is in bpffs, and takes it for this daemon alone, until what is returned is dropped.
///
/// # Errors
///
/// When it is not, may not be made, another user can change it, or another daemon has it.
pub(super) fn take(pin_dir: &Path) -> Result<Lock, ShapingError> {
    if !is_in_bpffs(pin_dir) {
        return Err(Refusal::NoBpffs { pins: pin_dir.to_owned() }.into());
    }
    let take = || {
        let directory = Directory::make(pin_dir)?;
        directory.close_to_others()?;
        directory.lock()
    };
    take().map_err(|error| match error {
        DirectoryError::Busy => Refusal::PinsTaken { pins: pin_dir.to_owned() }.into(),
        DirectoryError::Unsafe(reason) => Refusal::PinsUnsafe { pins: pin_dir.to_owned(), reason }.into(),
        DirectoryError::Io(error) => Attempt::MakePins(pin_dir.to_owned()).failed(error).into(),
    })
}

/// Makes a new directory for an instance to be pinned in, under a name that says that it is not complete.
///
/// # Errors
///
/// When it cannot be made.
pub(super) fn stage(pin_dir: &Path, name: PinName) -> Result<PathBuf, ShapingError> {
    let staged = pin_dir.join(format!("{INCOMPLETE}{name}"));
    // Whatever has the name is not ours: we would know it.
    remove(&staged);
    fs::create_dir(&staged).map_err(|error| Attempt::MakePins(staged.clone()).failed(error))?;
    Ok(staged)
}

/// Gives a directory that is complete its name; what had it before is removed.
///
/// # Errors
///
/// When it cannot be renamed.
pub(super) fn publish(pin_dir: &Path, name: PinName) -> Result<(), ShapingError> {
    let complete = pin_dir.join(name.to_string());
    remove(&complete);
    fs::rename(pin_dir.join(format!("{INCOMPLETE}{name}")), &complete)
        .map_err(|error| Attempt::NamePins(complete).failed(error).into())
}

/// Removes a directory that will not be completed.
pub(super) fn discard(pin_dir: &Path, name: PinName) {
    remove(&pin_dir.join(format!("{INCOMPLETE}{name}")));
}

/// A directory that is pinned in.
pub(super) struct Pinned {
    /// Whose it is.
    pub(super) name: PinName,
    /// Where it is.
    pub(super) directory: PathBuf,
    /// True if it has its own name.
    pub(super) is_complete: bool,
}

/// The instances that are pinned; those that are not complete come first, as what took the place of another does.
///
/// # Errors
///
/// When the directory cannot be read; that there is none is no error.
pub(super) fn walk(pin_dir: &Path) -> io::Result<Vec<Pinned>> {
    let entries = match fs::read_dir(pin_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut pinned = Vec::new();
    for entry in entries {
        let entry = entry?;
        let directory = entry.path();
        // What a symbolic link leads to is never ours.
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let Some(text) = directory.file_name().and_then(|name| name.to_str()) else { continue };
        let incomplete = text.strip_prefix(INCOMPLETE);
        if let Some(name) = PinName::parse(incomplete.unwrap_or(text)) {
            pinned.push(Pinned { name, is_complete: incomplete.is_none(), directory });
        }
    }
    pinned.sort_by_key(|pinned| pinned.is_complete);
    Ok(pinned)
}

/// Returns true if a program is pinned under the same name in a directory beside `pin_dir`, as another daemon's are.
pub(super) fn is_pinned_beside(pin_dir: &Path, name: PinName, program_id: u32) -> bool {
    let beside =
        pin_dir.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let others = beside.map(|entry| entry.path()).filter(|path| path != pin_dir);
    // What cannot be opened now may be it.
    let may_be_it = |id: Result<Option<u32>, _>| id.map_or(true, |id| id == Some(program_id));
    others.map(|other| self::program_id(&other.join(name.to_string()))).any(may_be_it)
}

/// Returns the id of the program that is pinned in an instance's directory; none where there is none.
///
/// # Errors
///
/// When it cannot be opened now.
pub(super) fn program_id(directory: &Path) -> Result<Option<u32>, OpenError> {
    let program = SchedClassifier::from_pin(directory.join(PROGRAM)).and_then(|program| program.info());
    let attempt = || format!("open the pinned program in {}", directory.display());
    let info = none_if_unusable(program.map_err(|error| OpenError::new(&attempt(), &error)))?;
    Ok(info.map(|info| info.id()))
}

/// Removes an instance's directory and the pins in it.
pub(super) fn remove(directory: &Path) {
    disposal::empty_later(directory);
    log_failure(directory, files::remove(directory));
}

/// Removes the log ring, the record of the host and the directory itself; for when nothing is shaped.
pub(super) fn remove_empty(pin_dir: &Path) {
    let ring = pin_dir.join(LOG_RING);
    if ring.exists() {
        log_failure(&ring, fs::remove_file(&ring));
    }
    if pin_dir.exists() {
        remove(&pin_dir.join(RECORD));
        log_failure(pin_dir, fs::remove_dir(pin_dir.join(LOCK)));
        log_failure(pin_dir, fs::remove_dir(pin_dir));
    }
}

fn log_failure(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "cannot remove a pin");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pin_directory_can_be_read_back() {
        for site in Site::ALL {
            let name = PinName { inode: 4_026_532_281, ifindex: 3, site };
            assert_eq!(PinName::parse(&name.to_string()), Some(name));
        }
        let name = PinName { inode: 4_026_532_281, ifindex: 3, site: Site::HostEnd };
        assert_eq!(name.to_string(), "netns-4026532281-if-3-ingress");
        for foreign in ["AYA_LOGS", "netns-1-if-2-sideways", "netns-x-if-2-egress", "netns-1"] {
            assert_eq!(PinName::parse(foreign), None, "{foreign}");
        }
    }
}
