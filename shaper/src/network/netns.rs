//! Enters network namespaces, and comes back.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process, thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use super::search::{self, has_ended, id_of};
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

    /// The identity.
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

    /// Runs `work` in a namespace that is made for it and ends with it, which has a loopback device only.
    ///
    /// # Errors
    ///
    /// When none may be made (`EPERM` without CAP_SYS_ADMIN).
    pub(crate) fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
        // A thread of its own, which need not come back.
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                io::Result::Ok(work())
            })?;
            inside.join().map_err(|_| io::Error::other("the thread in a new namespace panicked"))?
        })
    }

    /// Returns true if `netns` still is where its path says; cheap, as nothing is opened.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at.
    pub(crate) fn is_at(netns: &NetnsRef) -> io::Result<bool> {
        match fs::metadata(&netns.path) {
            Ok(metadata) => Ok(id_of(&metadata) == netns.id),
            Err(error) if has_ended(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The namespaces of processes, this one's first, and those that are mounted, as far as they can be seen.
    pub(crate) fn all() -> Vec<NetnsRef> {
        let mut seen = BTreeSet::new();
        let own = PathBuf::from("/proc/self/ns/net");
        std::iter::once(own)
            .chain(search::paths())
            .filter_map(|path| {
                fs::metadata(&path).ok().map(|metadata| NetnsRef { id: id_of(&metadata), path })
            })
            .filter(|netns| seen.insert(netns.id))
            .collect()
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
