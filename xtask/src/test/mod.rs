//! Builds the tests once and runs them: on this machine all but those named `vm_*`; these, and some of the others
//! again, in the virtual machine, which counts instructions for a clock: no load of the machine can disturb them. A suite
//! there fails if the kernel complains in its log meanwhile.

mod report;
mod vm;

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use self::report::{Report, Row, Tally};
use self::vm::{Boot, Suites};
use crate::artifacts::{self, Artifact};
use crate::capabilities::{REQUIRE, required_on_host};
use crate::process::{cargo, output, shell_line};
use crate::progress::say;
use crate::setup::kernel::Series;
use crate::setup::{self, Component, is_root};
use crate::vm::show;
use crate::workspace::Workspace;

/// Runs all tests: on this machine, and those that need Debian's kernel in a virtual machine
///
/// Sets up what is missing first. The variable SHAPER_REQUIRE (such as root,docker,fq,netem) lists what tests must not
/// be skipped for; on this machine root, docker, compose and podman are in it when it is run as root, and fq and netem
/// only where the kernel has them. In the virtual machine root, docker, fq, netem and nic are.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only what runs on this machine
    #[arg(long, conflicts_with = "vm")]
    host: bool,
    /// Run only what runs in the virtual machine: tests/tests/vm_*.rs, and those that both kernels have to pass
    #[arg(long)]
    vm: bool,
    /// Boot only this series of kernels (default: 6.1, and 6.12 for the suites about packets)
    #[arg(long, value_enum, conflicts_with = "host")]
    kernel: Option<Series>,
    /// Run every suite of the virtual machine on each series of kernels
    #[arg(long, conflicts_with_all = ["host", "kernel"])]
    full: bool,
    /// Run only tests whose names contain this
    filter: Option<String>,
}

/// `cargo xtask test`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let Arguments { host, vm, kernel, full, filter } = arguments;
    let components = [Component::Bpf, Component::Test, Component::Vm];
    setup::ensure(workspace, if *host { &components[..2] } else { &components })?;
    let filter = filter.as_deref();
    let (tests, daemon) = build(workspace)?;
    let with_matches: Vec<_> = tests.iter().filter(|test| has_matches(test, filter)).collect();
    let select = |wanted: fn(&Artifact) -> bool| -> Vec<_> {
        with_matches.iter().copied().filter(|test| wanted(test)).collect()
    };
    let (in_vm, on_host) = (select(runs_in_vm), select(|test| !needs_vm(test)));

    let mut report = Report::default();
    if !vm {
        run_on_host(workspace, &on_host, &daemon, filter, &mut report)?;
    }
    if *host && !in_vm.is_empty() {
        let names: Vec<_> = in_vm.iter().map(|test| test.title()).collect();
        say(&format!("left out, since they run in the virtual machine: {}", names.join(", ")));
    } else if !host {
        Suites { workspace, daemon: &daemon, filter, boots: boots(&in_vm, *kernel, *full) }
            .run(&mut report)?;
    }
    if report.0.is_empty() {
        bail!("no test fits: see `cargo xtask test --help`, or run without a filter");
    }
    println!("\n{report}");
    say("all tests done");
    if !report.succeeded() {
        bail!("tests failed");
    }
    Ok(())
}

/// Builds everything; returns the test executables, and the daemon's for the variable that names it.
fn build(workspace: &Workspace) -> Result<(Vec<Artifact>, String)> {
    say("building the workspace and its tests");
    let mut tests = artifacts::build(workspace, &["test", "--no-run"])?;
    tests.retain(|artifact| artifact.is_test);
    // Cargo names them in the order in which they got ready.
    tests.sort_by_key(Artifact::title);
    let binaries = artifacts::build(workspace, &["build"])?;
    let daemon = artifacts::binary(&binaries, "shaper", "shaper")?;
    Ok((tests, daemon.to_string_lossy().into_owned()))
}

/// Tests that run on this machine's kernel and on Debian's, some of them only where there is fq.
const ON_BOTH: [&str; 5] = ["hooks", "scope", "segments", "shaping", "verdicts"];

/// Suites in the virtual machine that run on the first series of kernels only, but with `--full`: what they show does not
/// depend on the kernel's network.
const ON_ONE_KERNEL: [&str; 8] =
    ["scope", "segments", "shaping", "vm_docker", "vm_moves", "vm_paste", "vm_state", "vm_torture"];

/// Suites that run on two processors, where no clock counts instructions.
const ON_TWO_PROCESSORS: [&str; 2] = ["vm_parallel", "vm_torture"];

/// The machines to boot, each with the tests that run in it.
fn boots<'a>(tests: &[&'a Artifact], asked: Option<Series>, full: bool) -> Vec<Boot<'a>> {
    let runs_on = |series, test: &Artifact| match asked {
        Some(asked) => asked == series,
        None => full || series == Series::default() || !ON_ONE_KERNEL.contains(&test.target.as_str()),
    };
    let boots = Series::value_variants().iter().flat_map(|series| {
        let tests = tests.iter().copied().filter(|test| runs_on(*series, test));
        let (parallel, others) =
            tests.partition(|test: &&Artifact| ON_TWO_PROCESSORS.contains(&test.target.as_str()));
        [(true, others), (false, parallel)].map(|(icount, tests)| Boot { kernel: *series, icount, tests })
    });
    boots.filter(|boot| !boot.tests.is_empty()).collect()
}

fn runs_in_vm(test: &Artifact) -> bool {
    let integration = test.package == "shaper-tests" && test.is_integration_test;
    integration && (needs_vm(test) || ON_BOTH.contains(&test.target.as_str()))
}

fn needs_vm(test: &Artifact) -> bool {
    test.package == "shaper-tests" && test.is_integration_test && test.target.starts_with("vm_")
}

/// Returns true if an executable has a test that the filter lets through. One that cannot list its tests is run to
/// tell.
fn has_matches(test: &Artifact, filter: Option<&str>) -> bool {
    let mut list = Command::new(&test.executable);
    list.args(["--list", "--format=terse"]).args(filter);
    output(&mut list).map_or(true, |listing| listing.lines().any(|line| line.ends_with(": test")))
}

fn run_on_host(
    workspace: &Workspace,
    tests: &[&Artifact],
    daemon: &str,
    filter: Option<&str>,
    report: &mut Report,
) -> Result<()> {
    let defaults: &[&str] = if is_root() {
        &["root", "docker", "compose", "podman", "containerd", "strace", "prometheus"]
    } else {
        &[]
    };
    let required = required_on_host(defaults);
    say(&format!("running the tests on this machine, {REQUIRE}={required}"));
    for test in tests {
        let mut command = Command::new(&test.executable);
        command.args(filter).current_dir(&test.directory).envs(test.environment());
        command.env("SHAPER_BIN", daemon).env(REQUIRE, &required);
        report.0.push(run_one(command, format!("host {}", test.title()))?);
    }
    let libraries = workspace.default_libraries();
    if filter.is_none() && !libraries.is_empty() {
        let mut command = cargo();
        command.args(["test", "--doc"]).current_dir(&workspace.root);
        command.args(libraries.iter().map(|library| format!("--package={library}")));
        report.0.push(run_one(command, "host documentation".to_owned())?);
    }
    Ok(())
}

/// Runs a test executable with its output shown as it comes.
fn run_one(mut command: Command, title: String) -> Result<Row> {
    println!("\n=== {title}");
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("start `{}`", shell_line(&command)))?;
    let mut stdout = child.stdout.take().context("take the output of a test")?;
    let mut tally = Tally::default();
    let mut buffer = [0; 1 << 14];
    loop {
        let length = stdout.read(&mut buffer).context("read the output of a test")?;
        if length == 0 {
            break;
        }
        show(&buffer[..length])?;
        tally.feed(&buffer[..length]);
    }
    let status = child.wait().with_context(|| format!("wait for `{}`", shell_line(&command)))?;
    if !status.success() {
        println!("{title}: {status}");
    }
    Ok(tally.finish(title, status.success(), start.elapsed()))
}
