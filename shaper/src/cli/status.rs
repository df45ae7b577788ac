//! `shaper status`: tells whether the daemon can shape, for people and for probes.

use std::io::Write as _;

use anyhow::{Result, bail};

use super::{Client, Streams, print_json};

/// The arguments of `shaper status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is 0 if containers can be shaped, and 1 if not.

Examples:
  shaper status
  shaper status --json | jq .problem")]
pub(super) struct Args {
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let status = client.status().await?;
    if args.json {
        print_json(&status, streams)?;
    } else {
        writeln!(
            streams.out,
            "shaper {}: {} containers, {} shaped, {} broken, {} unknown",
            status.version, status.containers, status.shaped, status.broken, status.unknown
        )?;
    }
    match status.problem {
        None => Ok(()),
        Some(problem) => bail!("nothing can be shaped: {problem}"),
    }
}
