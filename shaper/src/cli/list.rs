//! `shaper list`: all containers in a table.

use std::io::Write as _;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use super::{Client, Streams, print_json, select::Selected, text};
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
  shaper list --json | jq -r '.[] | select(.interfaces != []) | .container.name'")]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let views = match args.selected.is_nothing() {
        true => client.list().await?,
        false => client.select(&args.selected.query()).await?,
    };
    if args.json {
        return print_json(&views, streams);
    }
    Ok(writeln!(streams.out, "{}", table(&views))?)
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

const NONE: &str = "-";

/// `120ms, 2.5%`, or netem's words; `broken: queue removed`, or `ending` while the last packets of a cleared shaping leave.
fn shaping(view: &ContainerView, direction: Direction) -> String {
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
