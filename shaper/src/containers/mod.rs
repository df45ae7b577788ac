//! Finds containers and the network namespaces they name.
//!
//! Knows runtimes and `/proc`, and nothing of what is done to the containers found. Each runtime is a [`Runtime`] that
//! tells what it sees as [`Update`]s; a [`Registry`] remembers the whole.

mod docker;
mod named;
mod own;
mod registry;

use std::{fs, future::Future, io, os::unix::fs::MetadataExt, path::PathBuf};

use tokio::sync::mpsc;

pub(crate) use docker::{Docker, blindness};
pub(crate) use named::NamedNetns;
pub(crate) use own::own;
pub(crate) use registry::Registry;

use crate::shaping::{Container, ContainerId, NetnsId, NetnsRef, RuntimeName};

/// News from a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// These are all its containers: others that were told of before are gone.
    All {
        /// Who says so.
        runtime: RuntimeName,
        /// Every container it has.
        containers: Vec<Container>,
    },
    /// This container is new, or it or its interfaces may have changed.
    One {
        /// Who says so.
        runtime: RuntimeName,
        /// The container, which may name its runtime more exactly.
        container: Container,
    },
    /// This container is gone.
    Gone {
        /// Who says so.
        runtime: RuntimeName,
        /// The container.
        id: ContainerId,
    },
    /// It cannot be watched now; what was told of it stays true.
    Lost {
        /// Whose containers may have changed unseen.
        runtime: RuntimeName,
        /// The reason.
        problem: String,
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
