//! The daemon under test, and its commands.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};

/// The longest time until a test gives up on anything; the emulated machine is slow.
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
    /// The daemon itself, or what runs it and ends with it.
    child: Child,
    pid: u32,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, which is to run `shaper serve`, perhaps by way of another program, and has it listen on
    /// `socket`. Its log is three levels above.
    ///
    /// # Errors
    ///
    /// When it ends instead of answering.
    pub fn listening_on(socket: PathBuf, mut command: Command) -> Result<Self> {
        let log = socket.ancestors().nth(3).context("the socket lies deep")?.join("daemon.log");
        let stderr = fs::File::options().append(true).create(true).open(&log)?;
        command.arg("--plugin-socket").arg(&socket).stdin(Stdio::null()).stderr(stderr);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut this = Self { pid: child.id(), child, socket, log };
        let begin = Instant::now();
        while this.shaper("list").output()?.status.code() != Some(0) {
            if let Some(status) = this.child.try_wait()? {
                bail!("the daemon ended with {status}: {}", this.log());
            }
            ensure!(begin.elapsed() < PATIENCE, "the daemon does not answer: {}", this.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        this.pid = listener(&this.socket)?;
        Ok(this)
    }

    /// Returns its process id, also where another program runs it.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns true if it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns its log, with that of those before it in the same world.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `shaper` with the words of `line`, to be run.
    #[must_use]
    pub fn shaper(&self, line: &str) -> Command {
        self.command(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// `shaper` with these words, in which there may be spaces, to be run.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        // In front, as `shaper run` takes all that is at the end for its command.
        command.arg("--plugin-socket").arg(&self.socket).args(words);
        command
    }

    /// Runs `shaper` with the words of `line`, and gives what it wrote.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, line: &str) -> String {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `shaper` with these words, in which there may be spaces, and gives what it wrote.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[expect(clippy::must_use_candidate, reason = "most commands are run for what they do")]
    pub fn words(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("the program can be run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "`shaper {}` failed: {stderr}\nthe daemon's log:\n{}",
            words.join(" "),
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
        self.complaint_about(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `shaper` with these words, in which there may be spaces, which must fail, and gives what it complained of.
    ///
    /// # Panics
    ///
    /// When it does not fail.
    #[must_use]
    pub fn complaint_about(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("the program can be run");
        assert!(!output.status.success(), "`shaper {}` did not fail", words.join(" "));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Returns the container in `shaper list --json`, once it is there.
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
    pub fn kill(mut self, signal: Signal) {
        self.end(signal);
    }

    /// The same, for one in whose place another is to be.
    ///
    /// # Panics
    ///
    /// When it has ended before.
    pub fn end(&mut self, signal: Signal) {
        self.signal(signal).expect("it runs");
        self.child.wait().expect("it is our child");
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(Pid::from_raw(self.pid.cast_signed()), signal)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Not the child, which may be another program: the daemon would outlive it.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.signal(Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The process that listens on a socket (`unix(7)`, `SO_PEERCRED`), by the number that it has here.
fn listener(socket: &Path) -> Result<u32> {
    let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    let listener = getsockopt(&stream, PeerCredentials).context("ask who listens")?;
    Ok(listener.pid().try_into()?)
}
