//! Debian's package tools: asked only when something is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Action;
use crate::process::{find_program, output, run_logged};
use crate::progress::step;
use crate::workspace::Workspace;

/// Returns true on a machine of the Debian family.
pub(super) fn exists() -> bool {
    find_program("apt-get").is_some()
}

/// Returns true if dpkg has this package installed.
pub(super) fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    output(query.args(["--show", "--showformat=${db:Status-Status}", package]))
        .is_ok_and(|it| it == "installed")
}

/// The packages whose programs are missing, as an action; `busybox-static` too, which must be statically linked.
pub(super) fn missing(needs: &[(&str, &str)]) -> Vec<Action> {
    let absent = needs.iter().filter(|(program, _)| find_program(program).is_none());
    let mut packages: Vec<_> = absent.map(|(_, package)| (*package).to_owned()).collect();
    if !find_program("busybox").is_some_and(|busybox| is_static(&busybox)) {
        packages.push("busybox-static".to_owned());
    }
    packages.dedup();
    if packages.is_empty() { Vec::new() } else { vec![Action::Packages(packages)] }
}

/// Returns true if a program runs where there are no libraries: its head, where the ELF interpreter is named, names
/// none.
fn is_static(program: &Path) -> bool {
    use std::io::Read as _;
    let mut head = Vec::new();
    let read = std::fs::File::open(program).and_then(|file| file.take(4096).read_to_end(&mut head));
    read.is_ok() && !head.windows(4).any(|window| window == b"/ld-")
}

/// Runs apt, with its output in a log file.
pub(crate) struct Apt {
    log: PathBuf,
    lists_are_fresh: bool,
}

impl Apt {
    pub(super) fn new(workspace: &Workspace) -> Self {
        Self { log: workspace.target.join("setup/apt.log"), lists_are_fresh: false }
    }

    /// Fetches the package lists, once in the life of this value.
    pub(crate) fn update(&mut self) -> Result<()> {
        if !self.lists_are_fresh {
            step("fetching the package lists", || self.with_retry(|| apt_get(&["update"])))?;
            self.lists_are_fresh = true;
        }
        Ok(())
    }

    /// Installs packages. Nothing is removed for them, but QEMU's tools are brought to the version of its emulator.
    pub(super) fn install(&mut self, packages: &[String]) -> Result<()> {
        self.update()?;
        let mut packages = packages.to_vec();
        if packages.iter().any(|package| package == QEMU) {
            packages.extend(qemu_utils_to_match()?);
        }
        let mut arguments =
            vec!["install", "-y", "--no-install-recommends", "--no-remove", "--allow-downgrades"];
        arguments.extend(packages.iter().map(String::as_str));
        let what = format!("installing {}", packages.join(" "));
        step(&what, || self.with_retry(|| apt_get(&arguments)))
    }

    /// Downloads a package into a directory, without installing it.
    pub(crate) fn download(&mut self, package: &str, directory: &Path) -> Result<()> {
        self.with_retry(|| {
            let mut command = apt_get(&["download", package]);
            command.current_dir(directory);
            command
        })
    }

    /// The names of the known packages that match a regular expression.
    pub(crate) fn search(&mut self, pattern: &str) -> Result<Vec<String>> {
        let found = output(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(found.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Runs a command that may fail once: mirrors do, now and then.
    fn with_retry(&self, command: impl Fn() -> Command) -> Result<()> {
        if run_logged(&mut command(), &self.log).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_secs(3));
        run_logged(&mut command(), &self.log).context("in two attempts")
    }
}

/// The emulator's package; it cannot be installed beside a `qemu-utils` of another version, as from backports.
const QEMU: &str = "qemu-system-x86";

/// Returns the `qemu-utils` to install with the emulator, where another version of it is installed.
fn qemu_utils_to_match() -> Result<Option<String>> {
    if !is_installed("qemu-utils") {
        return Ok(None);
    }
    let shown = output(Command::new("apt-cache").args(["show", "--no-all-versions", QEMU]))?;
    let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version.map(|version| format!("qemu-utils={}", version.trim())))
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "Dpkg::Use-Pty=0"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}
