//! Network namespaces: those made here end with their guard.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    net::if_::if_nameindex,
    sched::{CloneFlags, setns, unshare},
};

use crate::tcx;

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    /// True if a bind mount of ours on the path keeps it, as `ip netns` does.
    mounted: bool,
}

impl Netns {
    /// Makes a namespace, its loopback up, that `path` leads to.
    ///
    /// # Errors
    ///
    /// Without root, or when `path` is taken.
    pub fn create(path: PathBuf) -> Result<Self> {
        fs::File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        let keep = || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        };
        thread::scope(|scope| scope.spawn(keep).join().expect("it does not panic"))
            .context("make a namespace")?;
        let this = Self { path, mounted: true };
        this.run("ip link set lo up")?;
        Ok(this)
    }

    /// Another name for a namespace that is there already.
    ///
    /// # Errors
    ///
    /// Without root, or when `path` is taken.
    pub fn alias(&self, path: PathBuf) -> Result<Self> {
        fs::File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        mount(Some(&self.path), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Self { path, mounted: true })
    }

    /// The namespace that `path` leads to, which somebody else keeps.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path, mounted: false }
    }

    /// The file that leads to it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in it, on a thread of its own.
    ///
    /// # Panics
    ///
    /// When it cannot be entered, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let netns = fs::File::open(&self.path).expect("it is still there");
                setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).expect("tests that make namespaces are root");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run in it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display())).arg(program);
        command
    }

    /// Runs a command line of plain words in it, and gives its output.
    ///
    /// # Errors
    ///
    /// When it fails, with what it wrote.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        let output = command.args(words).output().with_context(|| format!("run `{line}`"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` failed: {stderr}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All that can be seen of its devices, qdiscs and classifiers, without counters.
    ///
    /// # Panics
    ///
    /// When `ip` or `tc` fail.
    #[must_use]
    pub fn traces(&self) -> String {
        let devices = self.run("ip -d link show").expect("ip works");
        let qdiscs = self.run("tc qdisc show").expect("tc works");
        let programs = self.enter(|| {
            let devices = if_nameindex().expect("the kernel lists them");
            let names = devices.iter().filter_map(|device| device.name().to_str().ok());
            let programs = names.map(|name| (name, tcx::programs(name).unwrap_or_default()));
            let some = programs.filter(|(_, programs)| !programs.is_empty());
            some.map(|(name, programs)| format!("tcx {name}: {programs:?}\n")).collect::<String>()
        });
        format!("{devices}{qdiscs}{programs}")
    }

    /// Returns what classifies on both hooks of a device, one a line: TCX programs, and classifiers as `tc` shows them.
    ///
    /// # Panics
    ///
    /// When there is no such device, or `tc` fails.
    #[must_use]
    pub fn classifiers(&self, device: &str) -> Vec<String> {
        let programs = self.enter(|| tcx::programs(device)).unwrap_or_default();
        let filters = ["egress", "ingress"]
            .map(|side| self.run(&format!("tc filter show dev {device} {side}")).expect("tc works"));
        let filters = filters.concat();
        let filters = filters.lines().filter(|line| line.contains("handle")).map(str::to_owned);
        programs.into_iter().map(|id| format!("TCX program {id}")).chain(filters).collect()
    }

    /// Takes all classifiers off a device, and clsact with them, as anybody may who may change the device.
    ///
    /// # Panics
    ///
    /// When there is no such device.
    pub fn remove_classifiers(&self, device: &str) {
        self.enter(|| tcx::detach_all(device));
        let _ = self.run(&format!("tc qdisc del dev {device} clsact"));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}
