//! The directory in bpffs: one directory in it for each shaped interface and direction.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::shaping::{Direction, ShapingError};

/// The pin of the program in an instance's directory.
pub(super) const PROGRAM: &str = "program";
/// The pin of the ring that all instances log to.
pub(super) const LOG_RING: &str = "AYA_LOGS";
/// How the directory of an instance that is not complete begins; bpffs allows no dots.
const INCOMPLETE: &str = "new-";

/// What an instance's directory is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PinName {
    /// The container's network namespace.
    pub(super) inode: u64,
    /// The interface in it.
    pub(super) ifindex: u32,
    /// Which way.
    pub(super) direction: Direction,
}

impl std::fmt::Display for PinName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "netns-{}-if-{}-{}", self.inode, self.ifindex, self.direction)
    }
}

impl PinName {
    fn parse(name: &str) -> Option<Self> {
        let (inode, rest) = name.strip_prefix("netns-")?.split_once("-if-")?;
        let (ifindex, direction) = rest.split_once('-')?;
        let direction =
            [Direction::Egress, Direction::Ingress].into_iter().find(|d| d.as_str() == direction)?;
        Some(Self { inode: inode.parse().ok()?, ifindex: ifindex.parse().ok()?, direction })
    }
}

/// Makes the directory, if it is in bpffs, and takes it for this daemon alone, until what is returned is dropped.
///
/// # Errors
///
/// When it is not, may not be made, or another daemon has it.
pub(super) fn take(pin_dir: &Path) -> Result<Flock<fs::File>, ShapingError> {
    let mount = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let is_bpffs = statfs(mount).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if !is_bpffs {
        return Err(ShapingError::Refused(format!(
            "no bpffs is mounted at {}, where shaping is pinned: `mount -t bpf bpf /sys/fs/bpf`",
            pin_dir.display()
        )));
    }
    let open = || {
        fs::create_dir_all(pin_dir)?;
        fs::File::open(pin_dir)
    };
    let directory = open().map_err(|error| failed("make the pin directory", pin_dir, &error))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => ShapingError::Refused(format!(
            "another shaper daemon pins in {}: stop it, or give each its own --pin-dir",
            pin_dir.display()
        )),
        error => failed("lock the pin directory", pin_dir, &error.into()),
    })
}

/// Has `fill` pin into a new directory, and gives it its name when it is complete.
///
/// # Errors
///
/// When `fill` fails, or the directory cannot be made; nothing is left then.
pub(super) fn publish(
    pin_dir: &Path,
    name: PinName,
    fill: impl FnOnce(&Path) -> Result<(), ShapingError>,
) -> Result<PathBuf, ShapingError> {
    let incomplete = pin_dir.join(format!("{INCOMPLETE}{name}"));
    let complete = pin_dir.join(name.to_string());
    // Whatever has the names is not ours: we would know it.
    remove(&incomplete);
    remove(&complete);
    fs::create_dir(&incomplete).map_err(|error| failed("make the pin directory", &incomplete, &error))?;
    let published = fill(&incomplete).and_then(|()| {
        fs::rename(&incomplete, &complete)
            .map_err(|error| failed("name the pin directory", &complete, &error))
    });
    if published.is_err() {
        remove(&incomplete);
    }
    published.map(|()| complete)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> ShapingError {
    ShapingError::Failed(format!("{what} {}: {error}", path.display()))
}

/// The instances that are pinned; what is not complete is removed.
///
/// # Errors
///
/// When the directory cannot be read; that there is none is no error.
pub(super) fn walk(pin_dir: &Path) -> io::Result<Vec<(PinName, PathBuf)>> {
    let entries = match fs::read_dir(pin_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut pinned = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with(INCOMPLETE) {
            remove(&path);
        } else if let Some(name) = PinName::parse(name) {
            pinned.push((name, path));
        }
    }
    Ok(pinned)
}

/// Removes an instance's directory and the pins in it.
pub(super) fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        log_failure(&entry.path(), fs::remove_file(entry.path()));
    }
    if directory.exists() {
        log_failure(directory, fs::remove_dir(directory));
    }
}

/// Removes the log ring and the directory itself; for when nothing is shaped.
pub(super) fn remove_empty(pin_dir: &Path) {
    let ring = pin_dir.join(LOG_RING);
    if ring.exists() {
        log_failure(&ring, fs::remove_file(&ring));
    }
    if pin_dir.exists() {
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
        let name = PinName { inode: 4_026_532_281, ifindex: 3, direction: Direction::Ingress };
        assert_eq!(name.to_string(), "netns-4026532281-if-3-ingress");
        assert_eq!(PinName::parse(&name.to_string()), Some(name));
        for foreign in ["AYA_LOGS", "netns-1-if-2-sideways", "netns-x-if-2-egress", "netns-1"] {
            assert_eq!(PinName::parse(foreign), None, "{foreign}");
        }
    }
}
