//! `shaper top`: the containers that are shaped, those with the most packets first.

use std::io::Write as _;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use super::{
    Client, Streams,
    list::{NONE, shaping},
    select::Selected,
    watch,
};
use crate::shaping::{ContainerView, Direction};

/// The widths of columns whose texts may be long, so that a line has at most 80.
const NAME_WIDTH: usize = 20;
const SHAPING_WIDTH: usize = 14;

/// The arguments of `shaper top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows the packets of the last second, by container, each second again: in place
on a terminal, else below one another. LOST is the share of them that was
dropped, by a loss or by a queue.

Examples:
  shaper top
  shaper top 'shop-*'
  shaper top --once")]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Show it once, and end
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let frame = async || Ok(table(args.selected.views(client).await?));
    if args.once {
        return Ok(write!(streams.out, "{}", frame().await?)?);
    }
    watch::each_second(frame, streams).await
}

/// The packets of a container in the last second.
#[derive(Clone, Copy, Default)]
struct Rates {
    passed: f64,
    dropped: f64,
}

impl Rates {
    fn of(view: &ContainerView) -> Self {
        let last = view.samples.last();
        last.map(|last| Self { passed: last.passed, dropped: last.dropped }).unwrap_or_default()
    }

    fn all(self) -> f64 {
        self.passed + self.dropped
    }

    fn lost(self) -> String {
        match self.all() {
            all if all > 0.0 => format!("{:.1}%", self.dropped * 100.0 / all),
            _ => NONE.to_owned(),
        }
    }
}

/// The table of those that are shaped, by rate and then by name.
fn table(mut views: Vec<ContainerView>) -> String {
    views.retain(|view| !view.interfaces.is_empty());
    if views.is_empty() {
        return "no container is shaped\n".to_owned();
    }
    let rate = |view: &ContainerView| Rates::of(view).all();
    views.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then_with(|| a.container.name.cmp(&b.container.name)));
    let mut table = Table::new();
    let header = ["NAME", "EGRESS", "INGRESS", "PASSED/S", "DROPPED/S", "LOST"];
    table.load_preset(presets::NOTHING).set_header(header);
    table.add_rows(views.iter().map(row));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 2 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

fn row(view: &ContainerView) -> [String; 6] {
    let rates = Rates::of(view);
    [
        cut(&view.container.name, NAME_WIDTH),
        cut(&shaping(view, Direction::Egress), SHAPING_WIDTH),
        cut(&shaping(view, Direction::Ingress), SHAPING_WIDTH),
        format!("{:.0}", rates.passed),
        format!("{:.0}", rates.dropped),
        rates.lost(),
    ]
}

/// A text of at most so many characters, with an ellipsis in place of the rest.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['\u{2026}']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{Sample, fake};

    #[test]
    fn the_busiest_container_is_the_first_in_eighty_columns() {
        let view = |name: &str, rates: Option<(f64, f64)>| {
            let mut view = fake::shaped_web();
            view.container.name = name.to_owned();
            view.samples =
                rates.map(|(passed, dropped)| Sample { at_ms: 1, passed, dropped }).into_iter().collect();
            view
        };
        let mut long = view("a-container-with-a-long-name", Some((812_345.0, 90_261.4)));
        long.interfaces[0].shaping = fake::shaping("delay 100ms 20ms distribution normal loss 10%");
        let idle = fake::web();
        let views = vec![
            view("quiet", Some((0.0, 0.0))),
            view("new", None),
            idle,
            view("web", Some((90.0, 10.0))),
            long,
        ];
        let shown = table(views);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        insta::assert_snapshot!(shown);
        assert_eq!(table(vec![fake::web()]), "no container is shaped\n");
    }
}
