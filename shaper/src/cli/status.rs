//! `shaper status`: tells whether the daemon works and can shape, for people and for probes.

use std::io::{self, Write as _};

use anyhow::{Result, bail};

use super::{Client, Streams, print_json};
use crate::shaping::{RuntimeStatus, Status};

/// The arguments of `shaper status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is 0 if containers can be shaped, and 1 if not. With --live it is 0 as long as the daemon works.

Examples:
  shaper status
  shaper status --json | jq .problem
  shaper status --live")]
pub(super) struct Args {
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    /// Only ask whether the daemon works, or has to be started again
    #[arg(long, conflicts_with = "json")]
    live: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    if args.live {
        client.live().await?;
        return Ok(writeln!(streams.out, "the daemon works")?);
    }
    let status = client.status().await?;
    if args.json {
        print_json(&status, streams)?;
    } else {
        print(&status, streams)?;
    }
    match (status.problem, status.problem_since) {
        (None, _) => Ok(()),
        (Some(problem), since) => {
            bail!("nothing can be shaped since {}: {problem}", since.unwrap_or(status.started))
        }
    }
}

fn print(status: &Status, streams: &mut Streams<'_>) -> io::Result<()> {
    let Status { version, started, containers, shaped, broken, unknown, .. } = status;
    writeln!(
        streams.out,
        "shaper {version} since {started}: {containers} containers, {shaped} shaped, {broken} broken, \
         {unknown} unknown"
    )?;
    for RuntimeStatus { runtime, socket, containers, problem } in &status.runtimes {
        // Several sockets of one runtime are told apart.
        let is_one_of_several = status.runtimes.iter().filter(|other| other.runtime == *runtime).count() > 1;
        let socket = socket.as_ref().filter(|_| is_one_of_several);
        let socket = socket.map(|socket| format!(" at {socket}")).unwrap_or_default();
        match problem {
            None => writeln!(streams.out, "{runtime}{socket}: {containers} containers")?,
            Some(problem) => writeln!(streams.out, "{runtime}{socket}: not watched: {problem}")?,
        }
    }
    Ok(())
}
