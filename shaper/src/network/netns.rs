//! Enters network namespaces, and comes back, and finds them.

use std::{
    collections::BTreeSet,
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use procfs::process::Process;

use crate::shaping::{NetnsId, NetnsRef};

/// An open network namespace. It lives as long as this does, so never keep one.
#[derive(Debug)]
pub(crate) struct Netns {
    file: fs::File,
    id: NetnsId,
}

impl Netns {
    /// The namespace of this process, where the host's ends of veths are.
    ///
    /// # Errors
    ///
    /// When `/proc` is not mounted.
    pub(crate) fn own() -> io::Result<Self> {
        Self::at(Path::new("/proc/self/ns/net"))
    }

    /// The namespace that `path` leads to.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        let id = id_of(&file.metadata()?);
        Ok(Self { file, id })
    }

    /// The very namespace that was meant: `path` may lead to another one by now.
    ///
    /// # Errors
    ///
    /// `NotFound` when it has gone from there.
    pub(crate) fn open(netns: &NetnsRef) -> io::Result<Self> {
        let found = Self::at(&netns.path)?;
        if found.id == netns.id {
            return Ok(found);
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the network namespace has gone"))
    }

    /// Its identity.
    pub(crate) const fn id(&self) -> NetnsId {
        self.id
    }

    /// The open file, for requests that name a namespace by descriptor.
    pub(crate) const fn file(&self) -> &fs::File {
        &self.file
    }

    /// Runs `work` in the namespace, on the calling thread, which comes back however `work` ends: a thread made for
    /// each visit would cost more than most visits.
    ///
    /// # Errors
    ///
    /// When the thread may not enter (`EPERM` without CAP_SYS_ADMIN), or `/proc` is not mounted.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let outside = Self::at(Path::new("/proc/thread-self/ns/net"))?;
        if outside.id == self.id {
            return Ok(work());
        }
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        let _return = Return(outside);
        Ok(work())
    }

    /// Whether `netns` still is where its path says; cheap, as nothing is opened.
    pub(crate) fn is_at(netns: &NetnsRef) -> bool {
        fs::metadata(&netns.path).is_ok_and(|metadata| id_of(&metadata) == netns.id)
    }

    /// The namespaces that are mounted, and those of all processes, this one's first.
    pub(crate) fn all() -> Vec<NetnsRef> {
        let mut seen = BTreeSet::new();
        let own = PathBuf::from("/proc/self/ns/net");
        std::iter::once(own)
            .chain(candidates())
            .filter_map(|path| {
                fs::metadata(&path).ok().map(|metadata| NetnsRef { id: id_of(&metadata), path })
            })
            .filter(|netns| seen.insert(netns.id))
            .collect()
    }

    /// Looks for the namespaces with these inode numbers among those that are mounted and those of all processes.
    pub(crate) fn find(inodes: &[u64]) -> Vec<NetnsRef> {
        let mut found: Vec<NetnsRef> = Vec::new();
        for path in candidates() {
            if found.len() == inodes.len() {
                break;
            }
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let id = id_of(&metadata);
            let known = found.iter().any(|netns| netns.id == id);
            if inodes.contains(&id.inode) && !known && is_nsfs(&path) {
                found.push(NetnsRef { id, path });
            }
        }
        found
    }
}

/// Takes the thread back to where it was, at its end.
struct Return(Netns);

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(error) = setns(self.0.file.as_fd(), CloneFlags::CLONE_NEWNET) {
            // What the thread does next would be done to a container. Shaping outlives the daemon.
            tracing::error!(%error, "cannot come back from a network namespace");
            process::abort();
        }
    }
}

fn id_of(metadata: &fs::Metadata) -> NetnsId {
    NetnsId { dev: metadata.dev(), inode: metadata.ino() }
}

fn is_nsfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

/// Files that are, or may be, network namespaces: those that somebody keeps by a mount, and those of all processes.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let mounts = Process::myself()
        .and_then(|process| process.mountinfo())
        .map_or_else(|_| Vec::new(), |mounts| mounts.0);
    let kept = mounts.into_iter().filter(|mount| mount.fs_type == "nsfs").map(|mount| mount.mount_point);
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .map(|entry| entry.path().join("ns/net"));
    kept.chain(processes)
}
