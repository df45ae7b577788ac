//! `shaper set`: changes a container's shaping.

use anyhow::Result;
use clap::{ArgGroup, builder::NonEmptyStringValueParser};

use super::{Client, Streams, client::Shaping, print_json, text};
use crate::shaping::{Directions, Latency, Lifetime, Loss};

/// What `shaper set` can be told. Values are checked here and sent as they were written.
#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("change").args(["latency", "loss", "for"]).required(true).multiple(true)),
    after_help = "\
Examples:
  shaper set web --latency 120ms
  shaper set web --loss 2.5% --direction both
  shaper set 3f2a9c --latency 2s --for 10m
  shaper set web --latency 0 --for forever"
)]
pub(super) struct Args {
    /// The container's name, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// How long each packet is delayed: 120ms, 1.5s, at most 5m; 0 for not at all
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = latency)]
    latency: Option<String>,
    /// How many packets are lost: 2.5%, at most 100%; 0 for none
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true, value_parser = loss)]
    loss: Option<String>,
    /// Which packets: those that the container sends, those that it receives, or both
    #[arg(long, value_enum, default_value_t)]
    direction: Directions,
    /// When it ends by itself: after 10m, or not (forever)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = lifetime)]
    r#for: Option<String>,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let Args { name, latency, loss, direction, r#for, json } = args;
    let view = client.set(&name, &Shaping { latency, loss, direction: Some(direction), r#for }).await?;
    if json {
        return print_json(&view, streams);
    }
    Ok(write!(streams.out, "{}", text::in_force(&view))?)
}

fn latency(text: &str) -> Result<String, String> {
    Latency::parse(text).map(|_| text.to_owned())
}

fn loss(text: &str) -> Result<String, String> {
    Loss::parse(text).map(|_| text.to_owned())
}

fn lifetime(text: &str) -> Result<String, String> {
    text.parse::<Lifetime>().map(|_| text.to_owned())
}
