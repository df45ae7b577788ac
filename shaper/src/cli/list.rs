//! `shaper list`: all containers in a table.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};

use super::{Client, Streams, as_json, select::Selected, text, watch};
use crate::shaping::{ContainerView, Direction, Shaping};

/// The arguments of `shaper list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EGRESS is what a container sends, INGRESS what it receives: latency and loss, or netem's words.
`broken` and a reason stand there when somebody else took a part of it off the device.
DELAYED packets are part of those that PASSED. RULE is there where a rule or a label shapes one.

Examples:
  shaper list
  shaper list 'shop-*' label:app=web
  shaper list --watch
  shaper list label:app=web --output name | xargs -n 1 docker logs --tail 5
  shaper list --json | jq -r '.[] | select(.interfaces != []) | .container.name'")]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// The format of the answer
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
    /// Print the daemon's answer as JSON, as --output json does
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Show the answer again each second, until interrupted
    #[arg(long, short)]
    watch: bool,
}

/// A value of `--output`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// A table for people
    #[default]
    Table,
    /// The daemon's answer
    Json,
    /// The same in YAML
    Yaml,
    /// The names of containers, a line each
    Name,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let output = if args.json { Output::Json } else { args.output };
    let frame = async || shown(&args.selected.views(client).await?, output);
    if args.watch {
        return watch::each_second(frame, streams).await;
    }
    Ok(write!(streams.out, "{}", frame().await?)?)
}

fn shown(views: &[ContainerView], output: Output) -> Result<String> {
    Ok(match output {
        Output::Table => table(views) + "\n",
        Output::Json => as_json(&views)?,
        Output::Yaml => serde_saphyr::to_string(&views).context("write the answer as YAML")?,
        Output::Name => views.iter().map(|view| format!("{}\n", view.container.name)).collect(),
    })
}

const HEADER: [&str; 11] = [
    "NAME",
    "ID",
    "RUNTIME",
    "STATE",
    "EGRESS",
    "INGRESS",
    "REMAINING",
    "PASSED",
    "DELAYED",
    "DROPPED",
    "RULE",
];
const FIRST_COUNT: usize = 7;
const RULE: usize = 10;

/// The table; without a column for rules where none is in force.
fn table(views: &[ContainerView]) -> String {
    let mut table = Table::new();
    let has_rules = views.iter().any(|view| view.rule.is_some());
    let columns = if has_rules { HEADER.len() } else { RULE };
    table.load_preset(presets::NOTHING).set_header(HEADER.into_iter().take(columns));
    table.add_rows(views.iter().map(|view| row(view).into_iter().take(columns)));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if (FIRST_COUNT..RULE).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn row(view: &ContainerView) -> [String; 11] {
    let container = &view.container;
    let totals = view.totals();
    let count = |packets: u64| if view.interfaces.is_empty() { NONE.to_owned() } else { packets.to_string() };
    [
        container.name.clone(),
        container.id.short().to_owned(),
        container.runtime.to_string(),
        container.state.to_string(),
        shaping(view, Direction::Egress),
        shaping(view, Direction::Ingress),
        view.remaining().map_or_else(|| NONE.to_owned(), text::duration),
        count(totals.passed),
        count(totals.delayed),
        count(totals.dropped),
        view.rule.clone().unwrap_or_else(|| NONE.to_owned()),
    ]
}

/// Stands for nothing in a table.
pub(super) const NONE: &str = "-";

/// `120ms, 2.5%`, or netem's words; `broken: queue removed`, or `ending` while the last packets of a cleared shaping leave.
pub(super) fn shaping(view: &ContainerView, direction: Direction) -> String {
    if let Some(fault) = view.fault(direction) {
        return fault.to_string();
    }
    let effects = |shaping: &Shaping| text::short(shaping);
    match view.shaping(direction).map(effects) {
        Some(effects) if !effects.is_empty() => effects,
        _ if view.interfaces.iter().any(|view| view.direction == direction) => "ending".to_owned(),
        _ => NONE.to_owned(),
    }
}
