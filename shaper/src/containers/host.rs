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
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};
use procfs::process::Process;

/// The longest that an engine may take to answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The protocol in which an engine is greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Docker's API, over HTTP/1.
    Docker,
    /// gRPC, over HTTP/2.
    Grpc,
}

impl Dialect {
    /// The first words of a client.
    const fn greeting(self) -> &'static [u8] {
        match self {
            Self::Docker => b"GET /_ping HTTP/1.0\r\n\r\n",
            // The preface, and a frame of settings without any (RFC 9113, section 3.4).
            Self::Grpc => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        }
    }

    /// Tells whether the first bytes of an answer are those of an engine.
    fn is_answered_by(self, answer: [u8; 12]) -> bool {
        match self {
            Self::Docker => answer.starts_with(b"HTTP/1.") && answer.ends_with(b" 200"),
            // A server begins with its settings: a frame of type 4, on stream 0.
            Self::Grpc => answer[3] == 4 && answer[5..9] == [0; 4],
        }
    }
}

/// Returns the reason why this daemon cannot see the containers of the engine `name` behind a socket, if so: it is in
/// another pid namespace, or not in the host's network namespace, which is the engine's, or that of the first process.
pub(crate) fn blindness(name: &str, engine: &Path, dialect: Dialect) -> Option<String> {
    // There is none yet.
    let pid = listener(engine, dialect).ok()??;
    if pid == 0 {
        return Some(format!(
            "cannot see containers' processes: {name} is in another pid namespace than this daemon. Start it with \
             --pid=host (Kubernetes: hostPID: true)"
        ));
    }
    let network_of = |process: &str| Some(fs::metadata(format!("/proc/{process}/ns/net")).ok()?.ino());
    let own = network_of("self")?;
    // One that cannot be looked at, for want of CAP_SYS_PTRACE, says nothing.
    let engines = network_of(&pid.to_string())?;
    (engines != own && network_of("1") != Some(own)).then(|| {
        format!(
            "cannot see the host's network: {name} is in another network namespace than this daemon. Start it with \
             --net=host (Kubernetes: hostNetwork: true), or without {name} (--runtime netns)"
        )
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
pub(super) fn is_in_container(pid: i64, id: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
}

/// The start of a process, to a hundredth of a second.
pub(super) fn started(pid: u32) -> Option<SystemTime> {
    let ticks = Process::new(pid.try_into().ok()?).ok()?.stat().ok()?.starttime;
    let after_boot = Duration::from_millis(ticks.checked_mul(1_000)? / procfs::ticks_per_second());
    UNIX_EPOCH.checked_add(Duration::from_secs(procfs::boot_time_secs().ok()?))?.checked_add(after_boot)
}

/// Tells whether a process is in a user namespace in which one user is this one, as in every container without root.
///
/// A user cannot make the process of another one so: a mapping has the uid of whoever writes it (`new_idmap_permitted` in
/// `kernel/user_namespace.c`), or comes from `/etc/subuid`, which gives ranges.
pub(super) fn is_mapped_to(pid: i64, uid: u32) -> bool {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default();
    has_user(&map, uid)
}

fn has_user(map: &str, uid: u32) -> bool {
    map.lines().any(|line| line.split_whitespace().skip(1).eq([uid.to_string().as_str(), "1"]))
}

/// The process that listens, or 0 if it is in a pid namespace that cannot be seen; none if it is no engine.
fn listener(engine: &Path, dialect: Dialect) -> io::Result<Option<i32>> {
    // One that is too busy to accept is not waited for.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(engine)?)?;
    let mut stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(dialect.greeting())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(dialect.is_answered_by(answer).then_some(getsockopt(&stream, PeerCredentials)?.pid()))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    #[test]
    fn a_process_is_in_no_container_that_its_cgroup_does_not_name() {
        assert!(!is_in_container(std::process::id().into(), "3f2a9c0ffee03f2a9c0ffee0"));
    }

    #[test]
    fn a_process_has_a_start() {
        let own = started(std::process::id()).expect("a start");
        assert!(own.elapsed().is_ok_and(|age| age < Duration::from_hours(1)), "{own:?}");
        assert_eq!(started(0), None);
    }

    #[test]
    fn only_a_mapping_of_one_user_is_that_of_a_container_of_his() {
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        assert!(has_user(rootless, 1000));
        assert!(!has_user(rootless, 1001), "another user's");
        assert!(!has_user("         0          0 4294967295\n", 1000), "the host's");
        assert!(!has_user("", 1000), "a process that has ended");
    }

    #[test]
    fn only_what_answers_as_an_engine_says_something() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = Some(std::process::id().cast_signed());
        let http: [&[u8]; 3] = [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.0 200 OK\r\n\r\nOK"];
        let settings: [&[u8]; 3] =
            [b"", b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"];
        for (dialect, said) in [(Dialect::Docker, http), (Dialect::Grpc, settings)] {
            let path = directory.path().join(format!("{dialect:?}"));
            assert_eq!(listener(&path, dialect).ok(), None);
            let socket = UnixListener::bind(&path).expect("a socket");
            let answers = thread::spawn(move || {
                for answer in said {
                    let (mut stream, _) = socket.accept().expect("a connection");
                    let mut greeting = vec![0; dialect.greeting().len()];
                    stream.read_exact(&mut greeting).expect("a greeting");
                    assert_eq!(greeting, dialect.greeting());
                    stream.write_all(answer).expect("an answer");
                }
            });
            assert_eq!(listener(&path, dialect).ok(), None);
            assert_eq!(listener(&path, dialect).ok(), Some(None));
            assert_eq!(listener(&path, dialect).ok(), Some(own));
            answers.join().expect("it answers");
            assert_eq!(blindness("Docker", &path, dialect), None);
        }
    }
}
