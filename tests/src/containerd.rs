//! A real containerd, with CRI and its own network plugins, beside whatever engine the namespaces have.

mod cri;

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use cri::{Pod, Pods};

use crate::{
    daemon::{PATIENCE, eventually},
    docker::{DockerDaemon, IMAGE, child_of},
};

/// The socket, where it always is, in the namespaces of the engine.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// [`IMAGE`], as containerd names it.
const FULL_IMAGE: &str = "docker.io/library/busybox:local";

/// The configuration; `{}` is a directory of the test's. Out-of-memory scores need a capability that not every machine
/// gives.
const CONFIG: &str = r#"
version = 2
root = "{}/root"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/busybox:local"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{}/net.d"
"#;

/// The network of pods: a bridge on the engine's host.
const NETWORK: &str = r#"{
  "cniVersion": "0.4.0", "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true,
    "ipam": {"type": "host-local", "dataDir": "{}/ipam", "subnet": "10.77.0.0/16"}
  }]
}"#;

/// A containerd in the namespaces of an engine, with which it ends.
#[derive(Debug)]
pub struct Containerd<'a> {
    engine: &'a DockerDaemon,
    dir: PathBuf,
    child: Child,
}

impl<'a> Containerd<'a> {
    /// Starts it, waits until it answers, and gives it the engine's image, for CRI and in the namespaces `default` and `other`.
    ///
    /// # Errors
    ///
    /// When it does not start; needs Debian's packages `containerd`, `runc` and `containernetworking-plugins`.
    pub fn start(engine: &'a DockerDaemon) -> Result<Self> {
        let dir = engine.directory().join("containerd");
        let place = dir.display().to_string();
        fs::create_dir_all(dir.join("net.d")).with_context(|| format!("make {place}"))?;
        fs::write(dir.join("config.toml"), CONFIG.replace("{}", &place)).context("write a configuration")?;
        fs::write(dir.join("net.d/pods.conflist"), NETWORK.replace("{}", &place))
            .context("write a network")?;
        let child = spawn(engine, &dir)?;
        let mut this = Self { engine, dir, child };
        this.wait_until_ready()?;
        let image = this.dir.join("image.tar");
        this.engine.docker(&["save", "-o", &image.to_string_lossy(), IMAGE])?;
        for namespace in ["k8s.io", "default", "other"] {
            let import = ["images", "import", "--snapshotter", "native", &image.to_string_lossy()];
            this.ctr(namespace, &import)?;
        }
        Ok(this)
    }

    /// A client of its CRI.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn pods(&self) -> Result<Pods> {
        Pods::connect(&self.socket())
    }

    /// Kills it, not what it runs, and starts it again after `meanwhile`.
    ///
    /// # Errors
    ///
    /// When it cannot be killed, or does not start.
    pub fn restart(&mut self, meanwhile: impl FnOnce()) -> Result<()> {
        let pid = child_of(self.child.id())?;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).context("kill containerd")?;
        self.child.wait().context("wait for containerd")?;
        meanwhile();
        self.child = spawn(self.engine, &self.dir)?;
        self.wait_until_ready()
    }

    /// Runs a container that is in no pod, without a network, in a namespace of containerd's.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run(&self, namespace: &str, id: &str, labels: &[&str]) -> Result<()> {
        let cgroup = format!("/{}/{id}", self.engine.cgroup());
        let mut arguments = vec!["run", "-d", "--snapshotter", "native", "--cgroup", &cgroup];
        arguments.extend(labels.iter().flat_map(|label| ["--label", label]));
        arguments.extend([FULL_IMAGE, id, "/bin/sleep", "1000000"]);
        self.ctr(namespace, &arguments).map(drop)
    }

    /// Runs containerd's own command in a namespace of its, and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said.
    pub fn ctr(&self, namespace: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.engine.command("ctr");
        command.args(["-a", SOCKET, "-n", namespace]).args(arguments).stdin(Stdio::null());
        let output = command.output().context("run ctr")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {}: {said}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The socket, as seen from outside of the namespaces.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        format!("/proc/{}/root{SOCKET}", self.engine.pid()).into()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begin = std::time::Instant::now();
        let is_ready = |socket: &Path| {
            UnixStream::connect(socket).is_ok() && Pods::connect(socket).is_ok_and(|pods| pods.is_ready())
        };
        while !is_ready(&self.socket()) {
            let ended = self.child.try_wait().context("look after containerd")?;
            ensure!(
                ended.is_none() && begin.elapsed() < PATIENCE,
                "containerd does not answer: {}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // What it runs ends with the engine's namespaces.
        if let Some(pid) = child_of(self.child.id()).ok().and_then(|pid| pid.try_into().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

fn spawn(engine: &DockerDaemon, dir: &Path) -> Result<Child> {
    let log = fs::File::options().append(true).create(true).open(dir.join("log")).context("make a log")?;
    let mut command: Command = engine.command("containerd");
    command.arg("--config").arg(dir.join("config.toml")).stdin(Stdio::null());
    command.stdout(log.try_clone().context("share the log")?).stderr(log);
    let child = command.spawn().context("run containerd")?;
    eventually("nsenter has started containerd", || child_of(child.id()).ok());
    Ok(child)
}
