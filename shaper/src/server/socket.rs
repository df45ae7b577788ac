//! The plugin socket's file: made for us alone, taken over from the dead, left to the living, removed at the end.

use std::{
    fs::{Permissions, set_permissions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net,
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::{
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    stat::{Mode, fchmod},
};
use nix::unistd::{Group, chown, geteuid};
use tokio::net::{UnixListener, UnixStream};

use super::client::Client;
use crate::files::{Directory, DirectoryError, Lock};

/// The longest path that fits into `sockaddr_un` with its final zero (unix(7)).
const MAX_PATH: usize = 107;

/// The listening socket; its file goes when this does.
#[derive(Debug)]
pub(crate) struct PluginSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl PluginSocket {
    /// Listens on `path`, for this user only (mode 0600), or for the members of a group as well (0660), in a directory that is
    /// made (0700) if there is none.
    ///
    /// A socket that nobody answers on is replaced. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When there is no such group, when another daemon answers there, when something else than a socket is there, when the path is too long, when
    /// another user can change the directory, and when it or the socket cannot be made. What was there is left alone then.
    pub(crate) fn bind(path: &Path, group: Option<&str>) -> Result<Self> {
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_PATH {
            bail!(
                "listen on {}: the path has {length} bytes, the most is {MAX_PATH}: {GIVE_ANOTHER}",
                path.display()
            );
        }
        let directory = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => bail!("listen on {}: this names no file: {GIVE_ANOTHER}", path.display()),
        };
        // Of two daemons that start together, one is to take the dead socket over and the other to find it alive.
        let _lock = lock(directory)?;
        remove_dead(path)?;
        let attempt = || format!("listen on {}: {RUN_AS_ROOT}", path.display());
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        let listener = listen_on(path, Mode::from_bits_truncate(mode))
            .and_then(UnixListener::from_std)
            .with_context(attempt)?;
        let inode = path.symlink_metadata().with_context(attempt)?.ino();
        let this = Self { listener, path: path.to_owned(), inode };
        group.map(|group| this.admit_group(group)).transpose()?;
        Ok(this)
    }

    /// Gives the socket to a group, and has its members reach it if its directory is for this user alone. Where a directory
    /// gives its group to what is made in it (set-group-ID), nothing is left to be done.
    fn admit_group(&self, name: &str) -> Result<()> {
        let group = Group::from_name(name).with_context(|| format!("look for the group {name}"))?;
        let group = group.with_context(|| format!("there is no group {name} (--socket-group)"))?.gid;
        let path = &self.path;
        let attempt = || format!("give {} to the group {name}", path.display());
        if path.metadata().with_context(attempt)?.gid() != group.as_raw() {
            chown(path, None, Some(group)).with_context(attempt)?;
        }
        // The umask has taken from the group what the socket had before it had a name.
        set_permissions(path, Permissions::from_mode(0o660)).with_context(attempt)?;
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let metadata = directory.metadata().with_context(attempt)?;
        if metadata.mode() & 0o777 == 0o700 && metadata.uid() == geteuid().as_raw() {
            chown(directory, None, Some(group)).with_context(attempt)?;
            set_permissions(directory, Permissions::from_mode(0o710)).with_context(attempt)?;
        }
        Ok(())
    }

    /// Waits for a client.
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, Client)> {
        let (stream, _) = self.listener.accept().await?;
        let client = Client::of(&stream)?;
        Ok((stream, client))
    }
}

impl Drop for PluginSocket {
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == self.inode);
        if !ours {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "remove the plugin socket");
        }
    }
}

const GIVE_ANOTHER: &str = "give another one with --plugin-socket";
const RUN_AS_ROOT: &str = "run as root, or give a path of your own with --plugin-socket";

/// Makes the directory and locks it. One that exists keeps its mode: it may be anybody's to read.
fn lock(directory: &Path) -> Result<Lock> {
    let shown = directory.display();
    Directory::make(directory).and_then(Directory::lock).map_err(|error| match error {
        DirectoryError::Busy => anyhow!("lock {shown}: another shaper daemon starts there: try again"),
        DirectoryError::Unsafe(reason) => {
            anyhow!("the plugin socket's directory {shown} is not safe: {reason}, or {GIVE_ANOTHER}")
        }
        DirectoryError::Io(error) => anyhow::Error::new(error)
            .context(format!("make the directory {shown} for the plugin socket: {RUN_AS_ROOT}")),
    })
}

/// Removes a socket that nobody listens on.
fn remove_dead(path: &Path) -> Result<()> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.with_context(|| format!("look at {}: {RUN_AS_ROOT}", path.display()))?,
    };
    if !metadata.file_type().is_socket() {
        bail!("listen on {}: something else than a socket is there: {GIVE_ANOTHER}", path.display());
    }
    match net::UnixStream::connect(path) {
        Ok(_) => bail!(
            "another shaper daemon answers on {}: stop it first, or give --plugin-socket",
            path.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .with_context(|| format!("remove {}, which nobody listens on: {RUN_AS_ROOT}", path.display())),
        Err(error) => {
            Err(error).with_context(|| format!("see who listens on {}: {RUN_AS_ROOT}", path.display()))
        }
    }
}

fn listen_on(path: &Path, mode: Mode) -> io::Result<net::UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The kernel gives the file the mode of the socket (unix_bind_bsd, 5.14; unix_bind before): it is never open to others.
    fchmod(&fd, mode)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(net::UnixListener::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("metadata").permissions().mode() & 0o777
    }

    fn error(path: &Path) -> String {
        format!("{:#}", PluginSocket::bind(path, None).expect_err("no socket"))
    }

    #[tokio::test]
    async fn the_socket_and_its_directory_are_for_this_user_only_and_only_the_socket_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plugins/traffic-control/traffic-control.sock");
        let socket = PluginSocket::bind(&path, None).expect("the socket");
        assert_eq!(mode(&path), 0o600);
        let parent = path.parent().expect("a parent");
        assert_eq!(mode(parent), 0o700);
        std::fs::write(parent.join("other"), "").expect("a file beside it");
        drop(socket);
        assert!(!path.exists());
        assert!(parent.join("other").exists());
    }

    #[tokio::test]
    async fn a_group_can_be_admitted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plugins/traffic-control/traffic-control.sock");
        let own = Group::from_gid(nix::unistd::getegid()).expect("it can be looked for").expect("a group");
        let _socket = PluginSocket::bind(&path, Some(&own.name)).expect("the socket");
        let parent = path.parent().expect("a parent");
        assert_eq!((mode(&path), mode(parent)), (0o660, 0o710));
        assert_eq!(parent.metadata().expect("metadata").gid(), own.gid.as_raw());
        let other = directory.path().join("other.sock");
        let error = PluginSocket::bind(&other, Some("no-such-group")).expect_err("there is none");
        assert_eq!(error.to_string(), "there is no group no-such-group (--socket-group)");
        assert!(!other.exists());
    }

    #[tokio::test]
    async fn a_directory_that_is_there_keeps_its_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("a mode");
        let _socket = PluginSocket::bind(&directory.path().join("a.sock"), None).expect("the socket");
        assert_eq!(mode(directory.path()), 0o755);
    }

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        drop(net::UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists());
        let _socket = PluginSocket::bind(&path, None).expect("the socket");
        net::UnixStream::connect(&path).expect("someone answers");
    }

    #[tokio::test]
    async fn a_living_daemons_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let _living = PluginSocket::bind(&path, None).expect("the socket");
        let expected = format!(
            "another shaper daemon answers on {}: stop it first, or give --plugin-socket",
            path.display()
        );
        assert_eq!(error(&path), expected);
        net::UnixStream::connect(&path).expect("it still answers");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        std::fs::write(&path, "precious").expect("a file");
        assert!(error(&path).contains("something else than a socket is there"));
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_took_our_path_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let socket = PluginSocket::bind(&path, None).expect("the socket");
        std::fs::rename(&path, directory.path().join("moved")).expect("out of the way");
        let _other = net::UnixListener::bind(&path).expect("another's");
        drop(socket);
        net::UnixStream::connect(&path).expect("the other still answers");
    }

    #[tokio::test]
    async fn a_path_too_long_says_so() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(103)));
        let expected = "the path has 108 bytes, the most is 107: give another one with --plugin-socket";
        assert!(error(&path).ends_with(expected));
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_says_so() {
        let text = error(Path::new("/proc/no/such/a.sock"));
        assert!(
            text.starts_with("make the directory /proc/no/such for the plugin socket: run as root"),
            "{text}"
        );
    }
}
