//! Finds containers and the network namespaces they name.
//!
//! Knows runtimes and `/proc`, and nothing of what is done to the containers found. Each runtime is a [`Runtime`] that
//! tells what it sees as [`Update`]s; a [`Registry`] remembers the whole.

mod connection;
mod containerd;
mod cri;
mod docker;
mod grpc;
mod host;
mod named;
mod own;
mod process;
mod registry;
mod sockets;

use std::{
    fs,
    future::Future,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc;

pub(crate) use cri::Cri;
#[cfg(test)]
pub(crate) use cri::multus;
pub(crate) use docker::Docker;
pub(crate) use host::{Dialect, blindness};
pub(crate) use named::NamedNetns;
pub(crate) use own::own;
pub(crate) use process::Processes;
pub(crate) use registry::Registry;
pub(crate) use sockets::{Places, Sockets};

use crate::shaping::{Container, ContainerId, NetnsId, NetnsRef, RuntimeName};

/// A runtime that tells of containers, or its service at one of several sockets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// The runtime that is expected there; containers may name theirs more exactly.
    pub(crate) runtime: RuntimeName,
    /// The socket, where there may be others.
    pub(crate) socket: Option<Arc<Path>>,
}

impl Source {
    /// The service of a runtime at one of its sockets.
    pub(crate) fn at(runtime: RuntimeName, socket: impl Into<Arc<Path>>) -> Self {
        Self { runtime, socket: Some(socket.into()) }
    }
}

impl From<RuntimeName> for Source {
    fn from(runtime: RuntimeName) -> Self {
        Self { runtime, socket: None }
    }
}

/// News from a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// These are all its containers: others that were told of before are gone.
    All {
        /// Who says so.
        source: Source,
        /// Every container it has.
        containers: Vec<Container>,
    },
    /// This container is new, or it or its interfaces may have changed.
    One {
        /// Who says so.
        source: Source,
        /// The container, which may name its runtime more exactly.
        container: Box<Container>,
    },
    /// This container is gone.
    Gone {
        /// Who says so.
        source: Source,
        /// The container.
        id: ContainerId,
    },
    /// It cannot be watched now; what was told of it stays true.
    Lost {
        /// Whose containers may have changed unseen.
        source: Source,
        /// The reason.
        problem: String,
    },
    /// These are all the sockets of a runtime: its service at any other is gone, with its containers.
    Sockets {
        /// The runtime.
        runtime: RuntimeName,
        /// Each socket, which is to be heard from.
        sockets: Vec<Arc<Path>>,
    },
}

/// Something that runs containers, and can be watched.
pub(crate) trait Runtime {
    /// Tells of its containers, first of all of them, then of each change, until nobody listens any more.
    ///
    /// A runtime that is absent, or goes away, is waited for; what was told of it stays true meanwhile.
    fn watch(self, updates: mpsc::Sender<Update>) -> impl Future<Output = ()> + Send;
}

/// Looks at a network namespace's file, without opening it: an open file would keep the namespace alive.
fn netns_at(path: PathBuf) -> io::Result<NetnsRef> {
    let file = fs::metadata(&path)?;
    Ok(NetnsRef { id: NetnsId { dev: file.dev(), inode: file.ino() }, path })
}

/// Tells whether a network namespace is no longer where it was.
pub(crate) fn has_gone(netns: &NetnsRef) -> bool {
    match netns_at(netns.path.clone()) {
        Ok(found) => found.id != netns.id,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The longest name, in bytes: that of a pod.
const LONGEST_NAME: usize = 253;

/// Tells whether a text can be the name of a container in a line, or a part of one.
fn is_name(text: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.contains(bad)
}
