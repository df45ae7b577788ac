//! The daemon under test, and its commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::world::World;

/// How long anything may take before a test gives up on it; the emulated machine is slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
///
/// # Panics
///
/// When it has not by the end of [`PATIENCE`].
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test: what `SHAPER_BIN` names, or what cargo built beside the test.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SHAPER_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test is a program");
    let beside = test.ancestors().nth(2).expect("cargo puts tests into a folder of a folder").join("shaper");
    assert!(beside.exists(), "there is no {}: run `cargo build`, or set SHAPER_BIN", beside.display());
    beside
}

/// A running daemon; killed when dropped, which leaves its shaping.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, which is to end with the program, as a daemon that watches the world's containers.
    ///
    /// # Errors
    ///
    /// When it ends instead of answering.
    pub fn spawn(mut command: Command, world: &World, pin_dir: &Path, runtime: &[&str]) -> Result<Self> {
        let log = world.socket().ancestors().nth(3).context("the socket lies deep")?.join("daemon.log");
        let stderr = fs::File::options().append(true).create(true).open(&log)?;
        command.arg("serve").arg("--plugin-socket").arg(world.socket()).arg("--pin-dir").arg(pin_dir);
        command.arg("--netns-dir").arg(world.netns_dir()).args(runtime).stdin(Stdio::null()).stderr(stderr);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut this = Self { child, socket: world.socket(), log };
        let begin = Instant::now();
        while this.shaper("list").output()?.status.code() != Some(0) {
            if let Some(status) = this.child.try_wait()? {
                bail!("the daemon ended with {status}: {}", this.log());
            }
            ensure!(begin.elapsed() < PATIENCE, "the daemon does not answer: {}", this.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(this)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged, and those before it in the same world.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `shaper` with the words of `line`, to be run.
    #[must_use]
    pub fn shaper(&self, line: &str) -> Command {
        let mut command = Command::new(program());
        command.args(line.split_whitespace()).arg("--plugin-socket").arg(&self.socket);
        command
    }

    /// Runs `shaper` with the words of `line`, and gives what it wrote.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, line: &str) -> String {
        let output = self.output(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "`shaper {line}` failed: {stderr}\nthe daemon's log:\n{}",
            self.log()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `shaper` with the words of `line`, which must fail, and gives what it complained of.
    ///
    /// # Panics
    ///
    /// When it does not fail.
    pub fn complaint(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(!output.status.success(), "`shaper {line}` did not fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn output(&self, line: &str) -> Output {
        self.shaper(line).output().expect("the program can be run")
    }

    /// What `shaper list --json` says of a container, once it is there.
    ///
    /// # Panics
    ///
    /// When it never is.
    #[expect(clippy::must_use_candidate, reason = "it is also called to wait")]
    pub fn view(&self, name: &str) -> serde_json::Value {
        eventually(&format!("{name} is listed"), || {
            let list: serde_json::Value = serde_json::from_str(&self.run("list --json")).expect("it is JSON");
            let containers = list.as_array().expect("a list").clone();
            containers.into_iter().find(|view| view["container"]["name"] == name)
        })
    }

    /// Sends it a signal, as `kill` does, and waits for its end.
    ///
    /// # Panics
    ///
    /// When it has ended before.
    pub fn kill(mut self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("it runs");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
