//! Runs commands on Debian's kernel, which has what this machine's kernel may lack, with all files of this machine.

mod guest;
mod machine;
mod stream;

use std::env;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub(crate) use self::guest::GuestCommand;
pub(crate) use self::machine::{ALL_FEATURES, Machine};
pub(crate) use self::stream::Event;
use crate::setup::kernel::Series;
use crate::setup::{self, Component};
use crate::workspace::Workspace;

/// Runs a command as root in a virtual machine with Debian's kernel
///
/// The machine has all files of this one, at the same places; what is written to them is thrown away at the end. The
/// command starts in the current directory, with PATH, HOME and every variable whose name starts with SHAPER_ or
/// RUST_; TMPDIR names a tmpfs. There is a loopback interface and no other, and no standard input. What the command
/// prints (both streams) appears here, and its exit code is this command's.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Series of the kernel to boot
    #[arg(long, value_enum, default_value_t)]
    kernel: Series,
    /// Memory of the machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u32,
    /// Let every instruction take one nanosecond of guest time, on one processor: timings then repeat exactly
    #[arg(long)]
    icount: bool,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    /// The command to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `cargo xtask vm`.
pub(crate) fn run(workspace: &Workspace, arguments: Arguments) -> Result<ExitCode> {
    setup::ensure(workspace, &[Component::Vm])?;
    let Arguments { kernel, memory, icount, timeout, command } = arguments;
    let timeout = Duration::from_secs(timeout);
    let machine = Machine { kernel, memory, icount, cpu: ALL_FEATURES, timeout };
    let directory = env::current_dir().context("find the current directory")?;
    run_one(workspace, &machine, GuestCommand::new(command, &directory))
}

/// Runs one command with its output shown as it comes; its exit code is the result.
pub(crate) fn run_one(workspace: &Workspace, machine: &Machine, command: GuestCommand) -> Result<ExitCode> {
    let mut code = ExitCode::FAILURE;
    machine.run(workspace, &[command], |event| {
        match event {
            Event::Output(bytes) => show(&bytes)?,
            Event::Exit(number) => code = ExitCode::from(number),
        }
        Ok(())
    })?;
    Ok(code)
}

/// Writes to standard output at once.
pub(crate) fn show(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).context("write to standard output")
}
