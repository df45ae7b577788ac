//! Finds the containers that the daemon itself and the engines that it asks are in, by what `/proc` says of them.

use std::{collections::BTreeSet, fs, os::fd::AsRawFd as _, path::Path};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket as socket_of,
    sockopt::PeerCredentials,
};

use crate::shaping::ContainerId;

/// The length of the ids of Docker, Podman, containerd and CRI-O.
const ID_LENGTH: usize = 64;

/// The ids of the containers that this process, and the engines that listen on sockets, are in. None outside of
/// containers, and none where nothing says so.
pub(crate) fn own(engines: impl IntoIterator<Item = impl AsRef<Path>>) -> BTreeSet<ContainerId> {
    let engines = engines.into_iter().filter_map(|socket| listener(socket.as_ref()));
    ["self".to_owned()].into_iter().chain(engines).flat_map(|process| ids_of(&process)).collect()
}

/// The process that listens on a socket, if it can be seen.
fn listener(socket: &Path) -> Option<String> {
    // One that is too busy to accept is not waited for.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = socket_of(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(stream.as_raw_fd(), &UnixAddr::new(socket).ok()?).ok()?;
    let pid = getsockopt(&stream, PeerCredentials).ok()?.pid();
    (pid != 0).then(|| pid.to_string())
}

/// The ids that a process's control groups have, and where a container's engine put its name (also where the groups are
/// shown from within, as under cgroup v2).
fn ids_of(process: &str) -> BTreeSet<ContainerId> {
    let read = |file| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let mounts = read("mountinfo");
    let of_names = mounts.lines().filter_map(source_of_name);
    ids_in(&read("cgroup")).chain(of_names.flat_map(ids_in)).collect()
}

/// The file that a line of `/proc/PID/mountinfo` (proc(5)) mounts as a container's name; none if it mounts another.
fn source_of_name(line: &str) -> Option<&str> {
    let mut fields = line.split(' ').skip(3);
    let (source, target) = (fields.next()?, fields.next()?);
    (target == "/etc/hostname").then_some(source)
}

/// The ids in a path, or in lines of paths.
fn ids_in(text: &str) -> impl Iterator<Item = ContainerId> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == ID_LENGTH).filter_map(ContainerId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn ids_are_found_as_engines_write_them() {
        for (text, count) in [
            (format!("12:pids:/docker/{ID}\n0::/docker/{ID}\n"), 2),
            (format!("0::/system.slice/docker-{ID}.scope\n"), 1),
            (format!("0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-{ID}.scope"), 1),
            (format!("0::/libpod_parent/libpod-{ID}"), 1),
            (format!("0::/x/{ID}0"), 0),
            ("0::/user.slice/session-1.scope".to_owned(), 0),
        ] {
            let found: Vec<_> = ids_in(&text).collect();
            assert_eq!(found.len(), count, "{text}");
            assert!(found.iter().all(|id| id.as_str() == ID));
        }
    }

    #[test]
    fn a_container_is_known_by_the_file_with_its_name() {
        let mount = |target: &str| {
            format!(
                "1 2 8:1 /var/lib/docker/containers/{ID}/hostname {target} rw,relatime - ext4 /dev/sda1 rw"
            )
        };
        let source = format!("/var/lib/docker/containers/{ID}/hostname");
        assert_eq!(source_of_name(&mount("/etc/hostname")), Some(source.as_str()));
        assert_eq!(source_of_name(&mount("/var/lib/other")), None, "the host sees all of them");
        assert_eq!(source_of_name("1 2"), None);
    }
}
