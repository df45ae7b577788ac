//! `shaper presets`: the networks that can be asked for by name.

use std::{collections::BTreeMap, io::Write as _};

use anyhow::Result;
use comfy_table::{Table, presets};

use super::{Client, Streams, print_json};
use crate::shaping::Preset;

/// The arguments of `shaper presets`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EGRESS is what a container sends, INGRESS what it receives, in netem's words.
A file of your own adds to them: shaper serve --presets FILE.

Examples:
  shaper presets
  shaper presets --json | jq -r '.lte.sources[]'")]
pub(super) struct Args {
    /// Print the daemon's answer as JSON, with the sources of the figures
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let all = client.presets().await?;
    if args.json {
        return print_json(&all, streams);
    }
    Ok(writeln!(streams.out, "{}", table(&all))?)
}

fn table(all: &BTreeMap<String, Preset>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["NAME", "TITLE", "EGRESS", "INGRESS"]);
    table.add_rows(all.iter().map(|(name, preset)| [name, &preset.title, &preset.egress, &preset.ingress]));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
