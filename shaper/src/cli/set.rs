//! `shaper set`: changes a container's shaping.

use std::{io::Write as _, time::SystemTime};

use anyhow::Result;

use super::{
    Client, Streams, print_json,
    request::{self, RequestArgs},
    results::{self, Done},
    rules,
    select::{Bounds, Selected},
    text,
};
use crate::shaping::Lifetime;

/// The arguments of `shaper set`.
#[derive(Debug, clap::Args)]
#[command(
    group(request::group(&["for"])),
    mut_arg("selector", |selector| selector.required(true)),
    override_usage = "shaper set [OPTIONS] <SELECTOR>...",
    after_help = "\
Effects are in the words of tc-netem. What a flag says replaces that effect, and 0 takes it away;
--netem replaces all of them, and takes a whole line of tc's. Where a distribution is named, it may
also be a file: a table if it ends in .dist, else measured times, one a line.

Examples:
  shaper set web --latency 120ms
  shaper set web --loss 2.5% --direction both
  shaper set 3f2a9c --latency 2s --for 10m
  shaper set web --latency 0 --for forever
  shaper set web --jitter '20ms 25% distribution normal' --loss 'gemodel 1% 10%'
  shaper set web --rate 5mbit --queue 100ms --mark 20ms
  shaper set web --netem 'delay 100ms 20ms 25% loss 1% duplicate 0.5%'
  shaper set web --to '10.0.0.0/8 !10.1.0.0/16 tcp port 443,8000-8080' --latency 50ms
  shaper set web --latency 300ms --ramp 30s
  shaper set web --interface 'lan*' --latency 20ms
  shaper set web --network shop_front --loss 1%
  shaper set web --preset lte
  shaper set web --policy commute.toml
  shaper set 'shop-*' --loss 1% --dry-run
  shaper set service:db --latency 20ms --keep slow-db
  shaper set label:app=web+!ns:test --count 30% --latency 100ms"
)]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    #[command(flatten)]
    request: RequestArgs,
    /// When it ends by itself: after 10m, or not (forever)
    #[arg(
        long,
        visible_alias = "duration",
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = str::parse::<Lifetime>
    )]
    r#for: Option<Lifetime>,
    #[command(flatten)]
    bounds: Bounds,
    /// Shape protected containers as well: the daemon's own, Scope's, those in kube-system, those of serve's --protect
    #[arg(long)]
    force: bool,
    /// Make it a rule of this name: containers that fit have it from now on, also those that come later
    #[arg(long, value_name = "RULE", conflicts_with_all = ["dry_run", "partial", "max_containers", "force", "allow_none"])]
    keep: Option<String>,
    /// Priority of the rule among those that fit one container: the highest is in force
    #[arg(long, value_name = "NUMBER", default_value_t, allow_negative_numbers = true, requires = "keep")]
    priority: i32,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let Args { selected, request, r#for, bounds, force, keep, priority, json } = args;
    let (request, notes) = request.request(r#for)?;
    for note in notes {
        writeln!(streams.err, "{note}")?;
    }
    if let Some(rule) = keep {
        let rule = rules::kept(&rule, priority, &selected, request, SystemTime::now())?;
        return rules::print_kept(&client.put_rule(&rule).await?, json, streams);
    }
    let Some(name) = selected.as_name().filter(|_| bounds.is_nothing()) else {
        let query = selected.query_of_change(&bounds, force);
        return results::print(client.set_many(&query, &request).await?, Done::Set, json, streams);
    };
    let view = client.set(&name, &request, force).await?;
    if json {
        return print_json(&view, streams);
    }
    Ok(write!(streams.out, "{}", text::in_force(&view))?)
}
