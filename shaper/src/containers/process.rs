//! Finds network namespaces by the processes in them: those of LXC, of systemd-nspawn, of units with a network of their
//! own, and of whatever else no other runtime tells of.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use super::{Runtime, Update, is_name, netns_at};
use crate::shaping::{Container, ContainerId, ContainerState, NetnsId, NetnsRef, RuntimeName};

/// The pause between looks at all processes.
const RELIST: Duration = Duration::from_secs(5);

/// All processes that are seen in a `/proc`.
#[derive(Debug)]
pub(crate) struct Processes {
    proc: PathBuf,
    relist: Duration,
}

impl Processes {
    /// Returns those of this daemon's `/proc`.
    pub(crate) fn new() -> Self {
        Self { proc: "/proc".into(), relist: RELIST }
    }

    async fn follow(&self, updates: &mpsc::Sender<Update>) -> Result<(), mpsc::error::SendError<Update>> {
        let mut told = None;
        let mut logged = None;
        loop {
            let proc = self.proc.clone();
            let listed = match spawn_blocking(move || list(&proc)).await {
                Ok(listed) => listed,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            let problem = listed.as_ref().err().map(|error| format!("list processes: {error}"));
            match &problem {
                Some(problem) if logged.as_ref() != Some(problem) => {
                    warn!(problem, "processes cannot be watched: what is known is kept");
                }
                None if logged.is_some() => info!("can list processes again"),
                _ => {}
            }
            logged.clone_from(&problem);
            if let Some(problem) = problem {
                updates.send(Update::Lost { source: RuntimeName::Process.into(), problem }).await?;
                told = None;
            }
            if let Ok(containers) = listed
                && told.as_ref() != Some(&containers)
            {
                let all = Update::All { source: RuntimeName::Process.into(), containers: containers.clone() };
                updates.send(all).await?;
                told = Some(containers);
            }
            sleep(self.relist).await;
        }
    }
}

impl Runtime for Processes {
    async fn watch(self, updates: mpsc::Sender<Update>) {
        tokio::select! {
            () = updates.closed() => {}
            _ = self.follow(&updates) => {}
        }
    }
}

/// The network namespaces of all processes but the first one's and the daemon's own, each named by its oldest process.
///
/// # Errors
///
/// When a process may not be looked at, which needs `CAP_SYS_PTRACE`.
fn list(proc: &Path) -> io::Result<Vec<Container>> {
    let netns_of = |process: &str| netns_at(proc.join(process).join("ns/net"));
    let own = netns_of("self")?.id;
    let first = netns_of("1").map_or(own, |netns| netns.id);
    let mut pids: Vec<u32> = Vec::new();
    for entry in fs::read_dir(proc)? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    let mut found: BTreeMap<NetnsId, (u32, NetnsRef)> = BTreeMap::new();
    for pid in pids {
        let netns = match netns_of(&pid.to_string()) {
            Ok(netns) => netns,
            // What cannot be seen is not gone. The first process may do more than any other, and is on the host's network.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && pid != 1 => return Err(error),
            Err(_) => continue,
        };
        if netns.id != own && netns.id != first {
            found.entry(netns.id).or_insert((pid, netns));
        }
    }
    let described = found.into_values().filter_map(|(pid, netns)| {
        let id = ContainerId::new(format!("process-{}", netns.id.inode))?;
        let read = |file: &str| fs::read_to_string(proc.join(pid.to_string()).join(file)).unwrap_or_default();
        let name = name(&read("cgroup"), read("comm").trim()).unwrap_or_else(|| id.to_string());
        Some(Container::new(id, name, RuntimeName::Process, ContainerState::Running, Some(netns)))
    });
    Ok(described.collect())
}

/// The name of what a process belongs to: the container of LXC, the machine or the unit of systemd that its control group
/// is that of, or else the last part of the control group's path, or the program.
fn name(cgroups: &str, program: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let parts: Vec<&str> =
        paths.max_by_key(|path| path.len())?.split('/').filter(|part| !part.is_empty()).collect();
    let lxc = parts.iter().find_map(|part| part.strip_prefix("lxc.payload."));
    let machine = parts.iter().find_map(|part| part.strip_prefix("machine-")?.strip_suffix(".scope"));
    let unit = parts.iter().copied().find(|part| part.ends_with(".service") || part.ends_with(".scope"));
    let named = lxc.or(machine).or(unit).or(parts.last().copied()).unwrap_or(program);
    // As systemd escapes a dash in the name of a machine.
    Some(named.replace("\\x2d", "-")).filter(|name| is_name(name))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn a_process_is_named_by_its_container_its_machine_or_its_unit() {
        for (cgroup, expected) in [
            ("0::/lxc.payload.web/system.slice/nginx.service", "web"),
            ("0::/machine.slice/machine-db\\x2d1.scope/payload/init.scope", "db-1"),
            ("0::/system.slice/private.service", "private.service"),
            ("0::/user.slice/user-1000.slice/session-2.scope", "session-2.scope"),
            ("4:memory:/jail/a\n1:name=systemd:/\n0::/", "a"),
            ("0::/", "sleep"),
            ("", "process"),
        ] {
            let named = name(cgroup, "sleep").unwrap_or_else(|| "process".to_owned());
            assert_eq!(named, expected, "{cgroup}");
        }
        assert_eq!(name("0::/a b", "sleep"), None, "it would break a line");
    }

    /// A process with a network namespace of its own, ended with the guard.
    struct Process(Child);

    impl Process {
        fn start() -> Self {
            Self(
                Command::new("unshare")
                    .args(["--net", "sleep", "1000"])
                    .spawn()
                    .expect("unshare of util-linux"),
            )
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[tokio::test]
    async fn a_namespace_is_seen_while_a_process_is_in_it() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let (sender, mut updates) = mpsc::channel(1);
        let watched = Processes { relist: Duration::from_millis(10), ..Processes::new() };
        let watcher = tokio::spawn(watched.watch(sender));
        let process = Process::start();
        let path = format!("/proc/{}/ns/net", process.0.id());
        let mut seen = async |is_there| {
            let until = async {
                loop {
                    let Some(Update::All { containers, .. }) = updates.recv().await else {
                        panic!("no list")
                    };
                    let is_it = |one: &Container| {
                        one.netns.as_ref().is_some_and(|netns| netns.path == Path::new(&path))
                    };
                    if containers.iter().any(is_it) == is_there {
                        break;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), until).await.expect("it is seen in time");
        };
        seen(true).await;
        drop(process);
        seen(false).await;
        drop(updates);
        watcher.await.expect("it ends when nobody listens");
    }
}
