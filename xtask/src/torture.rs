//! Kills, starves and hurries the daemon, and shows what was left behind.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::artifacts;
use crate::process::shell_line;
use crate::progress::say;
use crate::setup::{self, Component, is_root};
use crate::workspace::Workspace;

/// Kills the daemon at its system calls, denies it what it needs, and shows what was left behind
///
/// Runs on this machine's kernel, in namespaces of its own. `kill-*` scenarios kill the daemon at one system call of a
/// change after the other, and start the next one; the others carry out random operations.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kills, or rounds of random operations, per scenario; of the calls that outlast the daemon those are picked evenly
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Kill at every system call of every change, and run 1000 rounds of random operations: hours
    #[arg(long, conflicts_with = "rounds")]
    all: bool,
    /// Seed of the random operations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Scenarios; all if none is named (an unknown name lists them)
    scenario: Vec<String>,
}

/// `cargo xtask torture`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    if !is_root() {
        bail!("torture makes network namespaces and kills daemons in them: run it as root");
    }
    setup::ensure(workspace, &[Component::Bpf, Component::Test])?;
    say("building shaper and its torture");
    let built = artifacts::build(workspace, &["build", "-p=shaper", "-p=shaper-tests", "--bins"])?;
    let torture = artifacts::binary(&built, "shaper-tests", "torture")?;
    let mut command = Command::new(torture);
    command.arg(if arguments.all { "all".to_owned() } else { arguments.rounds.to_string() });
    command.args(&arguments.scenario).env("SHAPER_SEED", arguments.seed.to_string());
    command.env("SHAPER_BIN", artifacts::binary(&built, "shaper", "shaper")?);
    let status = command.status().with_context(|| format!("start `{}`", shell_line(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
