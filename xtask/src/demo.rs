//! Shows the product at work, on this kernel or on Debian's.

use std::env;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::artifacts::{self, Artifact};
use crate::capabilities::has_qdisc;
use crate::process::shell_line;
use crate::progress::say;
use crate::setup::kernel::Series;
use crate::setup::{self, Component, is_root};
use crate::vm::{self, GuestCommand, Machine};
use crate::workspace::Workspace;

/// Demonstrates shaper on containers of its own: installs what it needs, builds, runs
///
/// Runs on this machine's kernel if that has the fq queueing discipline and this is root; else in a virtual machine.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run in a virtual machine even if this kernel could do
    #[arg(long)]
    vm: bool,
}

/// `cargo xtask demo`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    say("installing what is missing for the demo, and building it meanwhile");
    let vm = if arguments.vm { &[Component::Vm][..] } else { &[] };
    let components = [&[Component::Bpf, Component::Demo], vm].concat();
    let built = setup::ensure_beside(workspace, &components, || build(workspace))?;
    let obstacle = obstacle();
    let in_vm = arguments.vm || obstacle.is_some();
    let path =
        |package, name| anyhow::Ok(artifacts::binary(&built, package, name)?.to_string_lossy().into_owned());
    let (shaper, demo) = (path("shaper", "shaper")?, path("shaper-tests", "demo")?);
    if !in_vm {
        return run_here(&demo, &shaper);
    }
    if let Some(obstacle) = obstacle {
        say(obstacle);
        say(
            "So the demo runs in a virtual machine with Debian's kernel. Its clock counts the emulated processor's",
        );
        say(
            "instructions, one a nanosecond: times are exact whatever else this machine does, and throughputs are that",
        );
        say("processor's.");
    }
    run_in_vm(workspace, demo, &shaper)
}

fn build(workspace: &Workspace) -> Result<Vec<Artifact>> {
    // One more than there are processors, as one waits for the setup.
    let jobs = format!("--jobs={}", thread::available_parallelism()?.get() + 1);
    let what = [
        "--profile=demo",
        "--no-default-features",
        "-p=shaper",
        "-p=shaper-tests",
        "--bin=shaper",
        "--bin=demo",
    ];
    artifacts::build(workspace, &[&["build", &jobs], &what[..]].concat())
}

/// Returns the reason why the demo cannot run on this kernel.
fn obstacle() -> Option<&'static str> {
    if !is_root() {
        return Some("This is not root, who alone may shape.");
    }
    (!has_qdisc("fq"))
        .then_some("This kernel has no fq queueing discipline, which holds packets until they are due.")
}

fn run_here(demo: &str, shaper: &str) -> Result<ExitCode> {
    say("starting the demo");
    let mut command = Command::new(demo);
    command.env("SHAPER_BIN", shaper);
    let status = command.status().with_context(|| format!("start `{}`", shell_line(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    say(&format!("the demo is over ({status})"));
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn run_in_vm(workspace: &Workspace, demo: String, shaper: &str) -> Result<ExitCode> {
    say("booting the virtual machine (about 10 s), then starting the demo in it");
    let machine = Machine {
        kernel: Series::default(),
        memory: 4096,
        icount: true,
        cpu: vm::ALL_FEATURES,
        timeout: Duration::from_secs(1800),
    };
    let directory = env::current_dir().context("find the current directory")?;
    let command = GuestCommand::new(vec![demo], &directory).env("SHAPER_BIN", shaper);
    let code = vm::run_one(workspace, &machine, command)?;
    say("the demo is over");
    Ok(code)
}
