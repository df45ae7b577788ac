//! Machines that lack something, and people who mean harm.

use std::{
    fs::{self, DirBuilder},
    net::UdpSocket,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::stage::Stage;
use crate::{
    daemon::{Daemon, eventually, program},
    netns::Netns,
};

/// Names of the scenarios with random operations on the command line.
pub(super) const NAMES: [&str; 9] = [
    "random",
    "churn",
    "few-descriptors",
    "little-memory",
    "full-log",
    "dead-docker",
    "silent-resolver",
    "hostile-names",
    "attackers",
];

/// Names of containers that try to be a path, a terminal's command, an option, a sentence, or too long for a table.
const HOSTILE: [&str; 6] =
    ["..-", "\u{1b}[31mred", "--all", "a b; rm -rf c", "\u{202e}evil", "%2e%2e%00'\"<script>"];

/// Something that the daemon has to do without, or to bear.
#[derive(Debug)]
pub(super) enum Hardship {
    /// It has all it needs.
    None,
    /// Few file descriptors.
    Descriptors,
    /// Memory for a large change.
    Memory(MemoryGroup),
    /// A log that cannot be written.
    FullLog,
    /// A Docker Engine that accepts connections and never answers.
    DeadDocker(#[expect(dead_code, reason = "it is held open")] UnixListener),
    /// A name server that never answers.
    SilentResolver(#[expect(dead_code, reason = "it is held open")] UdpSocket),
    /// Containers with names that mean harm.
    HostileNames(#[expect(dead_code, reason = "they exist until the end")] Vec<Netns>),
    /// Two users who may write where the daemon makes its directories.
    Attackers(Attackers),
}

impl Hardship {
    pub(super) fn new(name: &str, stage: &mut Stage) -> Result<Self> {
        Ok(match name {
            "random" | "churn" => Self::None,
            "few-descriptors" => Self::Descriptors,
            "little-memory" => Self::Memory(MemoryGroup::new(stage)?),
            "full-log" => Self::FullLog,
            "dead-docker" => {
                let path = stage.world.directory().join("docker.sock");
                Self::DeadDocker(UnixListener::bind(path).context("listen in place of Docker")?)
            }
            "silent-resolver" => {
                let socket = stage.world.host().enter(|| UdpSocket::bind("127.0.0.1:53"));
                fs::write(stage.world.directory().join("resolv.conf"), "nameserver 127.0.0.1\n")?;
                Self::SilentResolver(socket.context("listen in place of a name server")?)
            }
            "hostile-names" => {
                let create = |name: &&str| Netns::create(stage.world.netns_dir().join(name));
                Self::HostileNames(HOSTILE.iter().map(create).collect::<Result<_>>()?)
            }
            "attackers" => Self::Attackers(Attackers::new(stage)?),
            _ => bail!("unknown scenario {name:?}"),
        })
    }

    /// Starts a daemon that suffers from it.
    pub(super) fn daemon(&self, stage: &Stage) -> Result<Daemon> {
        let host = stage.world.host();
        let shell = |line: &str| {
            let mut command = host.command("sh");
            command.args(["-c", line, "sh"]).arg(program());
            command
        };
        let directory = stage.world.directory().display().to_string();
        let command = match self {
            Self::Descriptors => shell("ulimit -n 64; exec \"$@\""),
            Self::FullLog => shell("exec \"$@\" 2>/dev/full"),
            Self::SilentResolver(_) => {
                let line = format!("mount --bind {directory}/resolv.conf /etc/resolv.conf; exec \"$@\"");
                let mut command = host.command("unshare");
                // Namespaces that are made later are to be seen inside, and the mount is not to be seen outside.
                command.args(["--mount", "--propagation", "slave", "sh", "-c", &line, "sh"]).arg(program());
                command
            }
            _ => host.command(program()),
        };
        let docker = format!("{directory}/docker.sock");
        let arguments: &[&str] = match self {
            Self::DeadDocker(_) => &["--runtime", "netns", "--runtime", "docker", "--docker-socket", &docker],
            _ => &["--runtime", "netns"],
        };
        if let Self::Attackers(attackers) = self {
            attackers.end();
        }
        let daemon = stage.world.spawn(command, stage.world.pin_dir(), arguments)?;
        daemon.view("web");
        match self {
            Self::Memory(group) => group.add(daemon.pid())?,
            Self::Attackers(attackers) => attackers.begin()?,
            _ => {}
        }
        Ok(daemon)
    }

    /// Has the daemon do something to others that takes what it lacks.
    pub(super) fn strain(&self, daemon: &mut Daemon) -> Result<()> {
        let shape = |target: &str| {
            let mut command = daemon.command(&["set", "db", "--netem", "loss 1%", "--to", target]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        match self {
            Self::SilentResolver(_) => {
                let mut child = shape("host:nowhere.test").spawn().context("run shaper")?;
                thread::spawn(move || child.wait());
            }
            Self::Memory(group) => {
                group.tighten()?;
                let prefix = |number: u32| format!("10.{}.{}.0/24", number / 256, number % 256);
                // The kernel may refuse memory, or kill the daemon.
                let _ = shape(&(0..6000).map(prefix).collect::<Vec<_>>().join(" ")).status();
                group.loosen()?;
                // One that was killed takes its time to end.
                let answers = |daemon: &Daemon| {
                    daemon.shaper("list").output().is_ok_and(|output| output.status.success())
                };
                eventually("the daemon answers or has ended", || {
                    (daemon.has_ended() || answers(daemon)).then_some(())
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Harm that was done to others, if any.
    pub(super) fn harm(&self) -> Option<String> {
        match self {
            Self::Attackers(attackers) => attackers.harm(),
            _ => None,
        }
    }
}

/// A control group whose processes can be denied more memory than they have.
#[derive(Debug)]
pub(super) struct MemoryGroup {
    path: PathBuf,
    /// Name of the file with the limit, and that of what is in use.
    files: [&'static str; 2],
}

impl MemoryGroup {
    /// Bytes that its processes get beyond what they have.
    const MARGIN: u64 = 1 << 20;
    /// Bytes that no machine has.
    const ENDLESS: u64 = 1 << 50;

    fn new(stage: &Stage) -> Result<Self> {
        let (root, files) = match ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"] {
            [first, _] if fs::exists(format!("{first}/cgroup.procs"))? => {
                (first, ["memory.limit_in_bytes", "memory.usage_in_bytes"])
            }
            [_, second] => {
                // Where it is so already, nothing changes.
                fs::write(format!("{second}/cgroup.subtree_control"), "+memory")
                    .context("limit memory by control groups")?;
                (second, ["memory.max", "memory.current"])
            }
        };
        let name = stage.world.directory().file_name().context("the world has a name")?;
        let path = Path::new(root).join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path, files })
    }

    fn add(&self, pid: u32) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .context("put the daemon into a control group")
    }

    /// Limits the memory to hardly more than what is in use.
    fn tighten(&self) -> Result<()> {
        let used: u64 = fs::read_to_string(self.path.join(self.files[1]))?.trim().parse()?;
        self.limit(used + Self::MARGIN)
    }

    fn loosen(&self) -> Result<()> {
        self.limit(Self::ENDLESS)
    }

    fn limit(&self, bytes: u64) -> Result<()> {
        fs::write(self.path.join(self.files[0]), bytes.to_string()).context("limit the daemon's memory")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A process that was killed leaves it a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("{} is left", self.path.display());
    }
}

/// The attack that is repeated: take the place of directories, sockets and locks, lead elsewhere by links, hold locks,
/// and give commands to the daemon.
const ATTACK: &str = r#"
pins=$1 socket=$2 precious=$3 shaper=$4 plugins=${2%/*}
while :; do
    mkdir "$pins" "$plugins"
    for place in "$pins" "$plugins"; do
        chmod 777 "$place"
        mv "$place" "$place.$$"
        ln -s "$precious" "$place"
        for name in new-netns-1-if-2-egress netns-1-if-2-egress lock log; do ln -s "$precious" "$place/$name"; done
        flock -n "$place" true
        flock -n "$place/lock" true
    done
    rm -f "$socket"
    ln -s "$precious/file" "$socket"
    "$shaper" set web --loss 100% --plugin-socket "$socket"
done
"#;

/// Two users who may write where the daemon makes its directories, and a directory that they want it to harm.
#[derive(Debug)]
pub(super) struct Attackers {
    precious: PathBuf,
    arguments: [PathBuf; 2],
    children: std::cell::RefCell<Vec<Child>>,
}

impl Attackers {
    const USERS: [u32; 2] = [65533, 65534];

    /// Opens the directories above the daemon's to everybody, as `/tmp` is.
    fn new(stage: &mut Stage) -> Result<Self> {
        stage.world.pin_among_others()?;
        let socket = stage.world.socket();
        let plugins = socket.ancestors().nth(2).context("the socket lies deep")?;
        DirBuilder::new().mode(0o700).create(plugins)?;
        fs::set_permissions(plugins, fs::Permissions::from_mode(0o1777))?;
        let precious = stage.world.directory().join("precious");
        fs::create_dir(&precious)?;
        fs::write(precious.join("file"), "precious")?;
        Ok(Self {
            precious,
            arguments: [stage.world.pin_dir().to_owned(), socket],
            children: Vec::new().into(),
        })
    }

    /// Has them begin, once the daemon has made its directories.
    fn begin(&self) -> Result<()> {
        let mut children = self.children.borrow_mut();
        if !children.is_empty() {
            return Ok(());
        }
        for user in Self::USERS {
            let mut command = Command::new("sh");
            command.args(["-c", ATTACK, "sh"]).args(&self.arguments).arg(&self.precious).arg(program());
            command.uid(user).gid(user).process_group(0);
            let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            children.push(silent.spawn().context("start an attacker")?);
        }
        Ok(())
    }

    /// Ends them, and removes what they put where a daemon that ended with nothing shaped had its directory: the next one
    /// refuses what belongs to somebody else.
    fn end(&self) {
        self.children.borrow_mut().drain(..).for_each(kill_group);
        let pins = &self.arguments[0];
        let theirs = || pins.symlink_metadata().is_ok_and(|metadata| Self::USERS.contains(&metadata.uid()));
        // What an attacker had started may still be at its last system call, and put something there.
        eventually("what the attackers put in its place is gone", || {
            let remove = if pins.is_symlink() { fs::remove_file } else { fs::remove_dir_all };
            (!theirs() || remove(pins).is_ok()).then_some(())
        });
    }

    fn harm(&self) -> Option<String> {
        let check = || -> Result<()> {
            let text = fs::read_to_string(self.precious.join("file"))?;
            ensure!(text == "precious", "it says {text:?}");
            let count = fs::read_dir(&self.precious)?.count();
            ensure!(count == 1, "there are {count} files beside it");
            for child in &mut *self.children.borrow_mut() {
                ensure!(child.try_wait()?.is_none(), "an attacker has given up");
            }
            Ok(())
        };
        check().err().map(|error| format!("what the attackers wanted harmed: {error:#}"))
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.children.get_mut().drain(..).for_each(kill_group);
    }
}

fn kill_group(mut leader: Child) {
    let _ = killpg(Pid::from_raw(leader.id().cast_signed()), Signal::SIGKILL);
    let _ = leader.wait();
}
