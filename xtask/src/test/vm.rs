//! Runs suites in virtual machines, as many machines at once as there are processors: each emulates one processor, whose
//! clock counts instructions, so that no machine disturbs another.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::report::{Report, Tally};
use crate::artifacts::Artifact;
use crate::capabilities::{REQUIRE, required_in_vm};
use crate::progress::say;
use crate::setup::kernel::Series;
use crate::vm::{ALL_FEATURES, Event, GuestCommand, Machine, show};
use crate::workspace::Workspace;

/// The most suites that a machine runs before another one is booted, which takes some ten seconds; fewer keep all processors
/// busy to the end.
const SUITES: usize = 3;

/// All that runs in virtual machines.
pub(super) struct Suites<'a> {
    pub(super) workspace: &'a Workspace,
    /// The path of the daemon's executable.
    pub(super) daemon: &'a str,
    /// Only tests whose names contain this are run.
    pub(super) filter: Option<&'a str>,
    pub(super) boots: Vec<Boot<'a>>,
}

/// A kind of machine, and the suites that run in it.
pub(super) struct Boot<'a> {
    pub(super) kernel: Series,
    /// True for one processor whose clock counts instructions, false for two.
    pub(super) icount: bool,
    pub(super) tests: Vec<&'a Artifact>,
}

impl Suites<'_> {
    /// Runs all suites and puts their results in the report.
    pub(super) fn run(&self, report: &mut Report) -> Result<()> {
        let batches =
            self.boots.iter().flat_map(|boot| boot.tests.chunks(SUITES).map(move |tests| (boot, tests)));
        let batches = Mutex::new(batches);
        let rows = Mutex::new(report);
        let machines = thread::available_parallelism().context("count the processors")?.get();
        say(&format!(
            "running tests in up to {machines} virtual machines at once, {REQUIRE}={}",
            required_in_vm()
        ));
        let next = || batches.lock().expect("nobody panics with it").next();
        thread::scope(|scope| {
            for _ in 0..machines {
                scope.spawn(|| {
                    while let Some((boot, tests)) = next() {
                        self.run_in_one(boot, tests, &rows);
                    }
                });
            }
        });
        Ok(())
    }

    /// Boots a kernel and runs the suites one after the other. Their tests run one at a time: they measure times.
    fn run_in_one(&self, boot: &Boot<'_>, tests: &[&Artifact], rows: &Mutex<&mut Report>) {
        let Boot { kernel, icount, .. } = *boot;
        // When the first command ends, the machine is up. It reads what will run: the guest's clock runs ahead while the
        // guest waits for files of the host.
        let mut commands = vec![GuestCommand::new(read_ahead(tests, self.daemon), &self.workspace.root)];
        let required = required_in_vm();
        commands.extend(tests.iter().map(|test| guest_command(test, self.daemon, self.filter, &required)));
        let timeout = Duration::from_secs(4000);
        let machine = Machine { kernel, memory: 4096, icount, cpu: ALL_FEATURES, timeout };
        let mut suites = tests.iter();
        let mut current = Running::of("boot".to_owned(), kernel);
        let ran = machine.run(self.workspace, &commands, |event| {
            match event {
                Event::Output(bytes) => current.feed(&bytes),
                Event::Exit(code) => {
                    let next = suites.next().map_or_else(String::new, |test| test.title());
                    let ended = std::mem::replace(&mut current, Running::of(next, kernel));
                    ended.end(code == 0, rows)?;
                }
            }
            Ok(())
        });
        if let Err(error) = ran {
            current.feed(format!("error: {error:#}\n").as_bytes());
            // The table must still show what came before.
            drop(current.end(false, rows));
        }
    }
}

/// A suite that runs. Its output is shown when it ends, as others run meanwhile.
struct Running {
    title: String,
    tally: Tally,
    output: Vec<u8>,
    start: Instant,
}

impl Running {
    fn of(name: String, kernel: Series) -> Self {
        let title = format!("vm {}* {name}", kernel.prefix());
        if !name.is_empty() {
            say(&format!("{title} ..."));
        }
        Self { title, tally: Tally::default(), output: Vec::new(), start: Instant::now() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.tally.feed(bytes);
        self.output.extend_from_slice(bytes);
    }

    fn end(self, succeeded: bool, rows: &Mutex<&mut Report>) -> Result<()> {
        let mut rows = rows.lock().expect("nobody panics with it");
        println!("\n=== {}", self.title);
        let is_boot = self.title.ends_with(" boot");
        if !(is_boot && succeeded) {
            rows.0.push(self.tally.finish(self.title, succeeded, self.start.elapsed()));
        }
        show(&self.output)
    }
}

fn read_ahead(tests: &[&Artifact], daemon: &str) -> Vec<String> {
    let script = ["sh", "-c", "exec cat -- \"$@\" > /dev/null", "sh", daemon].map(str::to_owned);
    let executables = tests.iter().map(|test| test.executable.to_string_lossy().into_owned());
    script.into_iter().chain(executables).collect()
}

/// Runs a command, and fails if the kernel complained in its log meanwhile.
const UNDER_WATCH: &str = include_str!("under_watch.sh");

fn guest_command(test: &Artifact, daemon: &str, filter: Option<&str>, required: &str) -> GuestCommand {
    let mut words = ["sh", "-c", UNDER_WATCH, "sh"].map(str::to_owned).to_vec();
    words.extend([test.executable.to_string_lossy().into_owned(), "--test-threads=1".to_owned()]);
    words.extend(filter.map(str::to_owned));
    let mut command = GuestCommand::new(words, Path::new(&test.directory));
    for (name, value) in test.environment() {
        command = command.env(name, &value);
    }
    command.env("SHAPER_BIN", daemon).env(REQUIRE, required)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};
    use std::{env, fs};

    use super::*;

    /// The exit code of a suite that ended with `code` while a kernel wrote `line`.
    fn watched(code: &str, line: &str) -> Option<i32> {
        let directory = tempfile::tempdir().expect("a directory");
        let dmesg = directory.path().join("dmesg");
        fs::write(&dmesg, format!("#!/bin/sh\n[ \"$1\" = --clear ] || echo '{line}'\n"))
            .expect("it is empty");
        fs::set_permissions(&dmesg, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let path = format!("{}:{}", directory.path().display(), env::var("PATH").expect("there is one"));
        let mut command = Command::new("sh");
        command.args(["-c", UNDER_WATCH, "sh", "sh", "-c", code]).env("PATH", path).stdout(Stdio::null());
        command.status().expect("sh runs everywhere").code()
    }

    #[test]
    fn a_suite_during_which_the_kernel_complains_fails() {
        let harmless = "[    1.0] veth0: entered promiscuous mode";
        assert_eq!(watched("exit 0", harmless), Some(0));
        assert_eq!(watched("exit 3", harmless), Some(3));
        for line in [
            "[    1.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:3000 skb_warn_bad_offload+0xbc",
            "[    1.0] kernel BUG at net/core/skbuff.c:4270!",
            "[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "[    1.0] Oops: 0002 [#1] PREEMPT SMP NOPTI",
        ] {
            assert_eq!(watched("exit 0", line), Some(97), "{line}");
        }
    }
}
