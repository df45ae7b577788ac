//! A real Docker Engine in namespaces of its own, which leaves nothing behind; or Podman, which answers as it does.
//!
//! It has its own network, mounts, `/run`, `/sys` and pids. What is to see its containers as the host's daemons see
//! theirs runs inside too: [`DockerDaemon::command`].

mod world;

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

pub use world::DockerWorld;

use crate::daemon::eventually;

/// The only image there is.
pub const IMAGE: &str = "busybox:local";

/// The longest time until the engine answers: an emulated machine needs 15 s.
const READY: Duration = Duration::from_secs(60);
/// The longest time until processes that were killed have ended.
const END: Duration = Duration::from_secs(20);

/// The script of the first process's child inside the namespaces. Arguments: the directory, the cgroup, the engine, and
/// more arguments for it.
///
/// /sys shows the network namespace it was mounted in, so it is mounted afresh, without losing the cgroups below it.
/// Standard input is a pipe from us: once it closes, for whatever reason, the shell is killed, then its init ends, and
/// with it the pid namespace. While there is a file `down`, the engine may be so, too, and a
/// file `is-down` says when it is.
const INIT: &str = r#"
set -e
dir=$1 cgroup=$2 engine=$3
shift 3
mkdir "$dir/cgroup" "$dir/data"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$dir/cgroup" /sys/fs/cgroup
umount -l "$dir/cgroup"
mount -t bpf bpf /sys/fs/bpf
# The host's, if it has one: Docker would take it for what the mount on top of it hides.
umount -l /run/netns 2>/dev/null || true
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$dir/data"
ip link set lo up
exec 3<&0
(read -r _ <&3 || true; kill -KILL $$) &
dockerd() {
    command dockerd --data-root "$dir/data" --exec-root /run/docker --pidfile /run/docker.pid \
        --cgroup-parent "/$cgroup" -H "unix://$dir/docker.sock" "$@" 3<&- </dev/null
}
podman() {
    # Its caches stay there, wherever its root is.
    mount -t tmpfs tmpfs /var/lib/containers
    command podman --root "$dir/data" --runroot /run/containers/storage --runtime "$(command -v runc)" \
        --cgroup-manager cgroupfs --events-backend file --network-backend netavark \
        --network-config-dir "$dir/networks" system service -t 0 "unix://$dir/docker.sock" 3<&- </dev/null
}
"$engine" "$@" || true
while [ -e "$dir/down" ]; do
    : > "$dir/is-down"
    while [ -e "$dir/down" ]; do sleep 0.1; done
    "$engine" "$@" || true
done
exit 1
"#;

/// The engine. Dropping it ends it, its containers and everything else in its namespaces.
#[derive(Debug)]
pub struct DockerDaemon {
    /// `unshare`, which kills the namespaces' first process when it ends.
    unshare: Child,
    pid: u32,
    cgroup: String,
    dir: TempDir,
}

impl DockerDaemon {
    /// Starts the engine, waits until it answers, and gives it [`IMAGE`].
    ///
    /// # Errors
    ///
    /// When it cannot be started, with the end of its log; needs root, and Debian's packages `docker.io`, `iptables`,
    /// `tini` and `busybox-static`.
    pub fn start() -> Result<Self> {
        Self::start_engine("dockerd", &["--live-restore"])
    }

    /// The same, of an engine whose containers end with it (without `--live-restore`, as most are).
    ///
    /// # Errors
    ///
    /// The errors of [`DockerDaemon::start`].
    pub fn start_with_mortal_containers() -> Result<Self> {
        Self::start_engine("dockerd", &[])
    }

    /// Starts Podman in place of the engine.
    ///
    /// # Errors
    ///
    /// When it cannot be started; needs Debian's packages `podman` and `netavark` besides.
    pub fn podman() -> Result<Self> {
        Self::start_engine("podman", &[])
    }

    fn start_engine(engine: &str, arguments: &[&str]) -> Result<Self> {
        // Not where TMPDIR says, which may be below /run.
        let dir = tempfile::Builder::new().prefix("shaper-docker-").tempdir_in("/tmp");
        let dir = dir.context("make a directory in /tmp")?;
        let name =
            dir.path().file_name().and_then(OsStr::to_str).context("name a cgroup after the directory")?;
        let cgroup = name.to_owned();
        let unshare = spawn(dir.path(), &cgroup, engine, arguments)?;
        let mut daemon = Self { pid: 0, unshare, cgroup, dir };
        daemon.pid = daemon.wait_until_ready()?;
        daemon.import_image()?;
        Ok(daemon)
    }

    /// A process inside the namespaces, for `nsenter -t PID -n -m -p`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The engine's socket; the path is the same inside and outside.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Where its socket is, in and outside of the namespaces; the place for other sockets, gone with the engine.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// The cgroup of its containers, below the root.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// A command that runs `program` inside the namespaces, with `DOCKER_HOST` set.
    ///
    /// Its process is `nsenter`, which waits for the program and passes on how it ended, but no signals: those go to
    /// [`child_of`] it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-n", "-m", "-p", "--"]).arg(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command
    }

    /// Runs Docker's own command and returns what it printed, without the last newline.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let what = format!("docker {}", args.join(" "));
        let output = self.command("docker").args(args).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("run {what}"))?;
        let Output { status, stdout, stderr } = output;
        ensure!(status.success(), "{what}: {status}: {}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)
            .with_context(|| format!("read what {what} printed"))?
            .trim_end()
            .to_owned())
    }

    /// Starts a container that sleeps, with more arguments for `docker run`, and returns its id.
    ///
    /// # Errors
    ///
    /// As [`DockerDaemon::docker`].
    pub fn run(&self, name: &str, extra_args: &[&str]) -> Result<String> {
        // A first process has no default action for SIGTERM: without another signal, stopping takes ten seconds.
        let parent = format!("--cgroup-parent=/{}", self.cgroup);
        let start = ["run", "-d", "--name", name, &parent, "--stop-signal", "KILL"];
        self.docker(&[&start, extra_args, &[IMAGE, "sleep", "1000000"]].concat())
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    ///
    /// As [`DockerDaemon::docker`].
    pub fn rm(&self, name: &str) -> Result<()> {
        self.docker(&["rm", "-f", name]).map(drop)
    }

    /// Kills the engine, not its containers, and starts it again after `meanwhile`.
    ///
    /// # Errors
    ///
    /// When it cannot be killed, or does not start.
    pub fn restart(&mut self, meanwhile: impl FnOnce()) -> Result<()> {
        self.restart_after("KILL", |_| meanwhile())
    }

    /// Has the engine end with a signal, such as `TERM`, and starts it again after `meanwhile`: at a new socket.
    ///
    /// # Errors
    ///
    /// The errors of [`DockerDaemon::restart`].
    pub fn restart_after(&mut self, signal: &str, meanwhile: impl FnOnce(&Self)) -> Result<()> {
        let down = self.dir.path().join("down");
        fs::write(&down, "").context("have the engine stay down")?;
        let kill = r#"kill "-$1" "$(cat /run/docker.pid)""#;
        ensure!(
            self.command("sh").args(["-c", kill, "sh", signal]).status()?.success(),
            "kill dockerd: {}",
            self.log()
        );
        let is_down = self.dir.path().join("is-down");
        eventually("dockerd is down", || fs::remove_file(&is_down).ok());
        meanwhile(self);
        fs::remove_file(&down).context("have the engine start")?;
        self.wait_until_ready().map(drop)
    }

    fn wait_until_ready(&mut self) -> Result<u32> {
        let deadline = Instant::now() + READY;
        while !answers(&self.socket()) {
            if let Some(status) = self.unshare.try_wait().context("look after unshare")? {
                bail!("start dockerd: {status}; {}", self.log());
            }
            ensure!(Instant::now() < deadline, "start dockerd: no answer within {READY:?}; {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
        child_of(self.unshare.id())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        format!("its log ends:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    fn import_image(&self) -> Result<()> {
        let (root, tar) = (self.dir.path().join("root"), self.dir.path().join("image.tar"));
        make_root(&root).context("make an image of busybox")?;
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
        ensure!(packed.context("run tar")?.success(), "tar could not pack {}", root.display());
        // Something to run by itself, as a pod's sandbox is to.
        let command = r#"CMD ["/bin/sleep", "1000000"]"#;
        self.docker(&["import", "--change", command, &tar.to_string_lossy(), IMAGE]).map(drop)
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        // The kernel ends every process of a pid namespace with its first; unshare reaps that one and then ends too.
        // Killed itself, it would leave a zombie to a machine whose init may not care.
        let first = child_of(self.unshare.id()).ok().and_then(|pid| pid.try_into().ok());
        let killed = first.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        let ended = if killed { Ok(()) } else { self.unshare.kill() }.and_then(|()| self.unshare.wait());
        if let Err(error) = ended {
            eprintln!("end dockerd: {error}");
        }
        if let Err(error) = remove_cgroups(&self.cgroup) {
            eprintln!("remove the cgroups of dockerd: {error:#}");
        }
    }
}

fn spawn(dir: &Path, cgroup: &str, engine: &str, arguments: &[&str]) -> Result<Child> {
    let log = fs::File::create(dir.join("log")).context("make a log for dockerd")?;
    Command::new("setsid")
        .args(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"])
        .args(["tini", "-s", "--", "sh", "-c", INIT, "init"])
        .arg(dir)
        .args([cgroup, engine])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().context("share dockerd's log")?)
        .stderr(log)
        .spawn()
        .context("run setsid and unshare (package util-linux)")
}

/// The only child of a process: the program that `nsenter` runs, for instance.
///
/// # Errors
///
/// When it has none, or several.
pub fn child_of(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    children.trim().parse().with_context(|| format!("expected one pid in {path}, not {children:?}"))
}

fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

/// A root file system that is busybox, and a link for each program it can be.
fn make_root(root: &Path) -> Result<()> {
    let bin = root.join("bin");
    fs::create_dir_all(&bin)?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("find busybox (package busybox-static)")?;
    fs::copy(busybox, bin.join("busybox"))?;
    let listed = Command::new(busybox).arg("--list").output().context("run busybox --list")?;
    for applet in String::from_utf8(listed.stdout)?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", bin.join(applet)).with_context(|| format!("link {applet}"))?;
    }
    Ok(())
}

/// Removes the cgroups that containers leave behind, once their processes are gone: of each hierarchy in version 1.
fn remove_cgroups(name: &str) -> Result<()> {
    let deadline = Instant::now() + END;
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path()));
    for cgroup in roots.into_iter().map(|root| root.join(name)).filter(|cgroup| cgroup.is_dir()) {
        while let Err(error) = remove_cgroup(&cgroup) {
            ensure!(Instant::now() < deadline, "{}: {error}", cgroup.display());
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// A cgroup's files go with it; only its directories are removed one by one.
fn remove_cgroup(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups(name: &str) -> Vec<PathBuf> {
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path());
        let roots = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.map(|root| root.join(name)).filter(|cgroup| cgroup.exists()).collect()
    }

    #[test]
    fn the_engine_runs_containers_and_leaves_nothing_behind() {
        let required = std::env::var("SHAPER_REQUIRE").unwrap_or_default();
        if !nix::unistd::geteuid().is_root() || Command::new("dockerd").arg("--version").output().is_err() {
            assert!(!required.split(',').any(|one| one == "docker"), "SHAPER_REQUIRE asks for docker");
            println!("skipped: needs root and dockerd");
            return;
        }
        let started = Instant::now();
        let docker = DockerDaemon::start().expect("dockerd");
        println!("ready after {:?}", started.elapsed());
        let id = docker.run("web", &["--hostname", "web"]).expect("a container");
        assert_eq!(docker.docker(&["exec", &id, "hostname"]).expect("its host name"), "web");
        let bpffs = docker.command("stat").args(["-fc", "%T", "/sys/fs/bpf"]).output().expect("stat");
        assert_eq!(String::from_utf8_lossy(&bpffs.stdout), "bpf_fs\n");
        let pid = docker.command("cat").arg(format!("/proc/{}/cgroup", docker_pid(&docker))).output();
        assert!(
            String::from_utf8_lossy(&pid.expect("cat").stdout).contains(&id),
            "pids are those of the engine"
        );
        docker.rm("web").expect("removed");
        docker.run("left", &[]).expect("a container that is left running");
        docker.docker(&["inspect", "web"]).expect_err("it was removed");

        let (dir, init, cgroup) = (docker.dir.path().to_owned(), docker.pid(), docker.cgroup.clone());
        assert_ne!(
            cgroups(&cgroup),
            [""; 0].map(PathBuf::from),
            "the containers' cgroups are where they are sought"
        );
        drop(docker);
        assert!(!dir.exists(), "{}", dir.display());
        assert!(!Path::new(&format!("/proc/{init}")).exists(), "the namespaces' first process has ended");
        assert_eq!(cgroups(&cgroup), [""; 0].map(PathBuf::from));
    }

    fn docker_pid(docker: &DockerDaemon) -> String {
        docker.docker(&["inspect", "--format", "{{.State.Pid}}", "web"]).expect("its pid")
    }
}
