//! Wires containers, datapath and adapters together.

use std::path::PathBuf;

use crate::shaping::RuntimeName;

/// What `shaper serve` can be told.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen, for Scope's probe and for our own commands.
    pub(crate) plugin_socket: PathBuf,
    /// Which runtimes to watch.
    pub(crate) runtimes: Vec<RuntimeName>,
    /// The Docker Engine's socket.
    pub(crate) docker_socket: PathBuf,
    /// The directory with named network namespaces.
    pub(crate) netns_dir: PathBuf,
    /// The directory, in bpffs, for pinned programs and maps.
    pub(crate) pin_dir: PathBuf,
}

/// Runs the daemon until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
///
/// When the socket cannot be opened. Shaping is left as it is, whatever the reason for the end.
pub(crate) async fn serve(_options: Options) -> anyhow::Result<()> {
    Ok(())
}
