//! Finds out whether an engine runs on the host that this daemon sees.
//!
//! The kernel tells who listens on a socket (`SO_PEERCRED`). What does not answer as an engine says nothing.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    path::Path,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};

use crate::shaping::ContainerId;

/// The longest that an engine may take to answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Returns the reason why this daemon cannot see the containers of the engine behind a socket, if so: it is in another
/// pid namespace, or not in the host's network namespace, which is the engine's, or that of the first process.
pub(crate) fn blindness(engine: &Path) -> Option<String> {
    // There is none yet.
    let pid = listener(engine).ok()??;
    if pid == 0 {
        return Some(
            "cannot see containers' processes: Docker is in another pid namespace than this daemon. Start it with \
             --pid=host (Kubernetes: hostPID: true)"
                .to_owned(),
        );
    }
    let network_of = |process: &str| Some(fs::metadata(format!("/proc/{process}/ns/net")).ok()?.ino());
    let own = network_of("self")?;
    // One that cannot be looked at, for want of CAP_SYS_PTRACE, says nothing.
    let engines = network_of(&pid.to_string())?;
    (engines != own && network_of("1") != Some(own)).then(|| {
        "cannot see the host's network: Docker is in another network namespace than this daemon. Start it with \
         --net=host (Kubernetes: hostNetwork: true), or without Docker (--runtime netns)"
            .to_owned()
    })
}

/// Tells whether the process that listens on an engine's socket is seen to be in this daemon's pid namespace.
pub(super) async fn shares_pids(engine: &Path) -> bool {
    let peer = tokio::net::UnixStream::connect(engine).await.and_then(|stream| stream.peer_cred());
    let Some(pid) = peer.ok().and_then(|peer| peer.pid()) else { return false };
    let pids_of = |process: &str| fs::metadata(format!("/proc/{process}/ns/pid")).map(|file| file.ino()).ok();
    pids_of("self").is_some_and(|own| pids_of(&pid.to_string()) == Some(own))
}

/// Tells whether a process is in a container: an engine in another pid namespace means another process by its number.
pub(super) fn is_in_container(pid: i64, id: &ContainerId) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id.as_str()))
}

/// The process that listens, or 0 if it is in a pid namespace that cannot be seen; none if it is no engine.
fn listener(engine: &Path) -> io::Result<Option<i32>> {
    // One that is too busy to accept is not waited for.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(engine)?)?;
    let mut stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let is_engine = answer.starts_with(b"HTTP/1.") && answer.ends_with(b" 200");
    Ok(is_engine.then_some(getsockopt(&stream, PeerCredentials)?.pid()))
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead as _, os::unix::net::UnixListener, thread};

    use super::*;

    #[test]
    fn a_process_is_in_no_container_that_its_cgroup_does_not_name() {
        let id = ContainerId::new("3f2a9c0ffee03f2a9c0ffee0").expect("an id");
        assert!(!is_in_container(std::process::id().into(), &id));
    }

    #[test]
    fn only_what_answers_as_an_engine_says_something() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("engine");
        assert_eq!(listener(&path).ok(), None);
        let socket = UnixListener::bind(&path).expect("a socket");
        let answers = thread::spawn(move || {
            for answer in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.0 200 OK\r\n\r\nOK"] {
                let (mut stream, _) = socket.accept().expect("a connection");
                let mut question = String::new();
                io::BufReader::new(&stream).read_line(&mut question).expect("a question");
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        assert_eq!(listener(&path).ok(), None);
        assert_eq!(listener(&path).ok(), Some(None));
        let own = Some(std::process::id().cast_signed());
        assert_eq!(listener(&path).ok(), Some(own));
        answers.join().expect("it answers");
        assert_eq!(blindness(&path), None);
    }
}
