//! `shaper run`: shapes a container while a command runs.
//!
//! The shaping has a lifetime of some seconds, which is renewed while the command runs: if nobody is left to do so, the
//! kernel ends it.

use std::{
    convert::Infallible,
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap_complete::engine::ArgValueCompleter;
use tokio::{
    process::Command,
    time::{self, Instant},
};

use super::{
    Client, Streams, clear, complete,
    request::{self, RequestArgs},
    signals::Signals,
    text::title,
};
use crate::shaping::{ContainerView, Directions, Lifetime, Request, Shaping};

/// The time after which the shaping ends by itself.
const LIFETIME: Duration = Duration::from_secs(10);
/// The time between renewals: two of them may fail.
const RENEWAL: Duration = Duration::from_secs(3);

/// Added to the number of the signal that ended a command, as shells do.
const SIGNALLED: i32 = 128;
/// The exit codes that shells have for commands that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// The arguments of `shaper run`.
#[derive(Debug, clap::Args)]
#[command(
    group(request::group(&[])),
    override_usage = "shaper run [OPTIONS] <CONTAINER> -- <COMMAND>...",
    after_help = "\
Afterwards, what shaped the container before is put back, however the command
ends. If shaper itself is killed, the kernel ends the shaping within 10 seconds,
and nothing is put back. The exit code is the command's, or 128 and the number
of the signal that ended it.

Examples:
  shaper run web --latency 120ms -- curl -s http://web.test/
  shaper run db --preset 3g -- ./run-tests.sh
  shaper run web --loss 5% --direction both -- sleep 60"
)]
pub(super) struct Args {
    /// A container, by its name, its id or the beginning of its id
    #[arg(value_name = "CONTAINER", add = ArgValueCompleter::new(complete::selectors))]
    container: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Shape it though it is protected, as the daemon's own and Scope's are
    #[arg(long)]
    force: bool,
    /// The command with its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<ExitCode> {
    // From here on no signal ends this before it has put back what was there.
    let mut signals = Signals::new().context("listen for signals")?;
    let Args { container, request, force, command } = args;
    let (request, notes) = request.request(Some(Lifetime::For(LIFETIME)))?;
    for note in notes {
        writeln!(streams.err, "{note}")?;
    }
    let before = client.inspect(&container).await?.view;
    let begin = Instant::now();
    client.set(&container, &request, force).await?;
    let renewing = renew(client, &before, request.directions, streams);
    let ended = tokio::select! {
        ended = carry_out(&command, &mut signals) => ended,
        never = renewing => match never {},
    };
    let is_done = put_back(client, &before, begin.elapsed(), &mut signals)
        .await
        .with_context(|| format!("put back what shaped {}", title(&before)));
    match (ended, is_done) {
        (Ok(0), is_done) => is_done.map(|()| ExitCode::SUCCESS),
        (ended, is_done) => {
            if let Err(error) = is_done {
                writeln!(streams.err, "error: {error:#}")?;
            }
            ended.map(ExitCode::from).or_else(|error| not_run(&command, &error, streams))
        }
    }
}

/// Says why a command could not be run, with the exit code that tells it.
fn not_run(command: &[OsString], error: &io::Error, streams: &mut Streams<'_>) -> Result<ExitCode> {
    let name = command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    writeln!(streams.err, "error: run {name}: {error}")?;
    Ok(ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN }))
}

/// Runs the command, which gets the signals that come, and returns its exit code.
async fn carry_out(command: &[OsString], signals: &mut Signals) -> io::Result<u8> {
    let Some((program, arguments)) = command.split_first() else { return Ok(0) };
    if let Some(signal) = signals.pending() {
        return Ok(code(SIGNALLED + signal as i32));
    }
    let mut child = Command::new(program).args(arguments).spawn()?;
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map(exit_code),
            signal = signals.next() => if let Some(pid) = child.id() {
                signals.pass_on(signal, pid);
            },
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    code(status.code().or_else(|| Some(SIGNALLED + status.signal()?)).unwrap_or(1))
}

fn code(number: i32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Renews the lifetime of the shaping for ever. What goes wrong with it is said once.
async fn renew(
    client: &Client,
    container: &ContainerView,
    directions: Directions,
    streams: &mut Streams<'_>,
) -> Infallible {
    let id = container.container.id.as_str();
    let request = Request { directions, lifetime: Some(Lifetime::For(LIFETIME)), ..Request::default() };
    let (mut said_failed, mut said_gone) = (false, false);
    loop {
        time::sleep(RENEWAL).await;
        // If nobody reads it, the command goes on all the same.
        match client.set(id, &request, true).await {
            Ok(view) if is_shaped(&view, directions) => {}
            Ok(view) if !said_gone => {
                said_gone = true;
                let name = title(&view);
                let _ = writeln!(
                    streams.err,
                    "warning: {name} is no longer shaped: it has restarted, or was cleared"
                );
            }
            Err(error) if !said_failed => {
                said_failed = true;
                let name = title(container);
                let _ = writeln!(
                    streams.err,
                    "warning: {name} may lose its shaping before the command ends: {error}"
                );
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn is_shaped(view: &ContainerView, directions: Directions) -> bool {
    let shapes = |interface: &crate::shaping::InterfaceView| {
        directions.each().contains(&interface.direction) && interface.shaping != Shaping::default()
    };
    view.interfaces.iter().any(shapes)
}

/// Gives a container what shaped it `time` ago, and waits for the last delayed packets if that is nothing, or until a
/// signal comes. One that has gone needs nothing.
async fn put_back(
    client: &Client,
    before: &ContainerView,
    time: Duration,
    signals: &mut Signals,
) -> Result<()> {
    let id = before.container.id.as_str();
    let whole = before.whole().after(time);
    // Where a rule shaped it, the daemon carries it out again once nothing was done by hand.
    let done = match whole.is_empty() || before.rule.is_some() {
        true => client.clear(id).await.map(|cleared| Some(cleared.view)),
        false => client.replace(id, &whole).await.map(|_| None),
    };
    let cleared = match done {
        Err(error) if error.is_not_found() => return Ok(()),
        done => done?.filter(|_| before.rule.is_none()),
    };
    let Some(cleared) = cleared else { return Ok(()) };
    tokio::select! {
        left = clear::wait(cleared, client) => left.map(drop),
        _ = signals.next() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands_or_tells_the_signal() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }
}
