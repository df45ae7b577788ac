//! Finds namespaces by their inode numbers: those of processes, and those that somebody keeps by a mount, in any mount
//! namespace. A namespace that was not found has ended only if everything could be looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    libc::ESRCH,
    sys::statfs::{NSFS_MAGIC, statfs},
};
use procfs::{
    ProcError,
    process::{MountInfo, Process},
};
use thiserror::Error;

use crate::shaping::{NetnsId, NetnsRef};

/// The most looks at everything, if processes end meanwhile: one may hand a namespace on to one that it starts.
const PASSES: usize = 3;

/// The first process.
const FIRST: &str = "1";

/// The kinds of namespaces that are looked for, as in `/proc/PID/ns`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NamespaceKind {
    /// Of networks.
    Net,
    /// Of process ids.
    Pid,
}

impl NamespaceKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Pid => "pid",
        }
    }
}

/// The inode number of a namespace of this process.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub(crate) fn own_namespace(kind: NamespaceKind) -> io::Result<u64> {
    Ok(id_of(&fs::metadata(namespace_path("self", kind))?).inode)
}

/// The identity of a namespace, by its file.
pub(super) fn id_of(metadata: &fs::Metadata) -> NetnsId {
    NetnsId { dev: metadata.dev(), inode: metadata.ino() }
}

fn namespace_path(process: &str, kind: NamespaceKind) -> PathBuf {
    Path::new("/proc").join(process).join("ns").join(kind.as_str())
}

/// A reason why a namespace that was not found may still be there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Obstacle {
    /// Not all processes are shown.
    #[error("/proc does not show process 1")]
    HiddenProcesses,
    /// It is mounted where it cannot be opened.
    #[error("it is mounted at {}, and cannot be reached there", .0.display())]
    Unreachable(PathBuf),
    /// A place where it may be cannot be looked at.
    #[error("look at {}: {error}", path.display())]
    Unseen {
        /// The place.
        path: PathBuf,
        /// The reason.
        error: String,
    },
}

/// A look at all namespaces of a kind.
#[derive(Debug)]
pub(crate) struct Search {
    kind: NamespaceKind,
    wanted: BTreeSet<u64>,
    found: BTreeMap<u64, NetnsRef>,
    /// The first thing that could not be looked at.
    obstacle: Option<Obstacle>,
    /// Tells whether something had gone before it was looked at.
    has_missed: bool,
}

impl Search {
    /// Looks for the namespaces with these inode numbers.
    pub(crate) fn new(kind: NamespaceKind, inodes: impl IntoIterator<Item = u64>) -> Self {
        let wanted = inodes.into_iter().collect();
        let mut this = Self { kind, wanted, found: BTreeMap::new(), obstacle: None, has_missed: false };
        for _ in 0..PASSES {
            this.has_missed = false;
            this.look_at_mounts("self", Path::new("/"));
            this.look_at_processes();
            if this.is_done() || !this.has_missed {
                break;
            }
        }
        this
    }

    /// Returns a path to the namespace with this inode number, which was looked for; none if it has ended.
    ///
    /// # Errors
    ///
    /// When it was not found, but may be where nothing could be looked at.
    pub(crate) fn of(&self, inode: u64) -> Result<Option<&NetnsRef>, Obstacle> {
        match (self.found.get(&inode), &self.obstacle) {
            (None, Some(obstacle)) => Err(obstacle.clone()),
            (found, _) => Ok(found),
        }
    }

    fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Looks at the namespaces of processes first, then at those that are mounted for them.
    fn look_at_processes(&mut self) {
        let processes = match processes() {
            Ok(processes) => processes,
            Err(error) => return self.fail(Path::new("/proc"), &error),
        };
        // With the mount option hidepid, a process that may not be looked at is not even listed.
        if !processes.iter().any(|process| process == FIRST) {
            self.obstacle = Some(Obstacle::HiddenProcesses);
        }
        for process in &processes {
            if self.is_done() {
                return;
            }
            self.look_at(namespace_path(process, self.kind));
        }
        let mut mount_namespaces: BTreeSet<_> = fs::read_link("/proc/self/ns/mnt").into_iter().collect();
        for process in &processes {
            let path = Path::new("/proc").join(process);
            match fs::read_link(path.join("ns/mnt")) {
                _ if self.is_done() => return,
                Ok(namespace) if mount_namespaces.insert(namespace.clone()) => {
                    self.look_at_mounts(process, &path.join("root"));
                }
                Ok(_) => {}
                Err(error) => self.fail(&path, &error),
            }
        }
    }

    fn look_at_mounts(&mut self, process: &str, root: &Path) {
        match mounts(process) {
            Ok(mounts) => mounts.iter().for_each(|mount| self.look_at_mount(mount, root)),
            Err(error) => self.fail(&Path::new("/proc").join(process).join("mountinfo"), &error),
        }
    }

    /// The root of such a mount is `net:[4026532281]`, whatever lies above it.
    fn look_at_mount(&mut self, mount: &MountInfo, root: &Path) {
        let inode = mount.root.strip_prefix(self.kind.as_str()).and_then(|rest| rest.strip_prefix(":["));
        let inode = inode.and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        let Some(inode) = inode.filter(|inode| self.wanted.contains(inode)) else { return };
        let path = root.join(mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point));
        self.look_at(path.clone());
        if self.wanted.contains(&inode) {
            self.obstacle = Some(Obstacle::Unreachable(path.to_owned()));
        }
    }

    fn look_at(&mut self, path: PathBuf) {
        match fs::metadata(&path) {
            Ok(metadata) => {
                let id = id_of(&metadata);
                if self.wanted.contains(&id.inode) && is_nsfs(&path) {
                    self.wanted.remove(&id.inode);
                    self.found.insert(id.inode, NetnsRef { id, path });
                }
            }
            Err(error) => self.fail(&path, &error),
        }
    }

    /// Notes what could not be looked at. A process that has ended meanwhile has nothing; the first one is in no container,
    /// and may be out of reach for all others (Landlock).
    fn fail(&mut self, path: &Path, error: &io::Error) {
        if has_ended(error) {
            self.has_missed = true;
        } else if !path.starts_with(Path::new("/proc").join(FIRST)) {
            self.obstacle
                .get_or_insert_with(|| Obstacle::Unseen { path: path.to_owned(), error: error.to_string() });
        }
    }
}

/// Tells whether an error means that a process or a namespace's file is not there.
pub(super) fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// Paths to the network namespaces of processes, and to those that are mounted for this one, as far as they can be seen.
pub(super) fn paths() -> impl Iterator<Item = PathBuf> {
    let mounts = mounts("self").unwrap_or_default().into_iter().map(|mount| mount.mount_point);
    let processes = processes().unwrap_or_default();
    mounts.chain(processes.into_iter().map(|process| namespace_path(&process, NamespaceKind::Net)))
}

fn processes() -> io::Result<Vec<String>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            processes.push(name);
        }
    }
    Ok(processes)
}

/// The namespaces' files that are mounted where a process is.
fn mounts(process: &str) -> io::Result<Vec<MountInfo>> {
    let read = || Process::new_with_root(Path::new("/proc").join(process))?.mountinfo();
    let mounts = read().map_err(|error| match error {
        ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        // A process that ends has no mounts any more (mounts_open_common).
        ProcError::Io(error, _) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
            io::ErrorKind::NotFound.into()
        }
        ProcError::Io(error, _) => error,
        error => io::Error::other(error.to_string()),
    })?;
    Ok(mounts.0.into_iter().filter(|mount| mount.fs_type == "nsfs").collect())
}

fn is_nsfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::Instant,
    };

    use super::*;

    #[test]
    fn a_namespace_is_found_where_a_process_is_and_has_ended_where_none_is() {
        let own = own_namespace(NamespaceKind::Net).expect("/proc is mounted");
        let begin = Instant::now();
        let search = Search::new(NamespaceKind::Net, [own, 1]);
        println!("{} processes in {:?}", processes().map_or(0, |all| all.len()), begin.elapsed());
        assert_eq!(search.of(own).expect("it is there").expect("it is there").id.inode, own);
        match search.of(1) {
            Ok(found) => assert_eq!(found, None),
            Err(obstacle) => assert!(!nix::unistd::geteuid().is_root(), "{obstacle}"),
        }
    }

    #[test]
    fn a_namespace_that_is_mounted_elsewhere_is_found() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kept");
        fs::write(&path, "").expect("a file to mount on");
        // In a mount namespace that only `sleep` is in, which is itself in another network namespace.
        let script = "unshare --net=\"$0\" true && stat -Lc %i \"$0\" && exec sleep 1000";
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("it says which");
        let inode = line.trim().parse().expect("a number");
        let found = Search::new(NamespaceKind::Net, [inode]).of(inode).map(Option::<&NetnsRef>::cloned);
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
        let found = found.expect("all can be seen").expect("it is mounted");
        assert!(found.path.starts_with("/proc") && found.path.ends_with("kept"), "{found:?}");
        assert_eq!(Search::new(NamespaceKind::Net, [inode]).of(inode), Ok(None));
    }
}
