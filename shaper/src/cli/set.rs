//! `shaper set`: changes a container's shaping.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::{ArgGroup, ValueEnum, builder::NonEmptyStringValueParser};
use serde::Serialize;
use serde_json::json;

use super::{Client, Streams, client::Shaping, print_json, tables::FilesIn, text};
use crate::{
    files,
    shaping::{
        Clauses, Effects, Files as _, Format, Lifetime, Named, Plan, Selector, check_interface,
        parse_duration,
    },
};

/// A value of `--direction`, which the API takes as it is.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Direction {
    /// Packets that the container sends
    Egress,
    /// Packets that the container receives
    Ingress,
    /// Both, each with the whole of what is asked: a latency of 50 ms adds 100 ms to a round trip
    Both,
}

/// The arguments of `shaper set`. Values are checked here and sent as they were written.
#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("change").args(SINGLE).args(OTHERS).required(true).multiple(true)),
    override_usage = "shaper set [OPTIONS] <NAME|ID>",
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
  shaper set web --preset lte
  shaper set web --policy commute.toml"
)]
pub(super) struct Args {
    /// The container's name, its id, or the beginning of its id
    #[arg(value_name = "NAME|ID", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Delay of each packet: 120ms, 1.5s, at most 5m; 0 for none
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = latency, help_heading = EFFECTS)]
    latency: Option<String>,
    /// Delay variation: 20ms, '20ms 25% distribution normal reordering'
    #[arg(long, value_name = "JITTER", allow_hyphen_values = true, value_parser = jitter, help_heading = EFFECTS)]
    jitter: Option<String>,
    /// Share of packets to lose: 2.5%, 'gemodel 1% 10%', 'state 1%', 'every 10', each with 'ecn' to mark instead
    #[arg(long, value_name = "LOSS", allow_hyphen_values = true, value_parser = loss, help_heading = EFFECTS)]
    loss: Option<String>,
    /// Share of packets to duplicate: 1%, or '1% 25%' with a correlation
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true, value_parser = duplicate, help_heading = EFFECTS)]
    duplicate: Option<String>,
    /// Share of packets to flip a bit in: 0.1%, or '0.1% fixed' to correct checksums
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true, value_parser = corrupt, help_heading = EFFECTS)]
    corrupt: Option<String>,
    /// Share of packets to send without delay, ahead of others: 25%, '25% 50% gap 5'
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true, value_parser = reorder, help_heading = EFFECTS)]
    reorder: Option<String>,
    /// Rate limit: 5mbit, 640kbps, '256kbit OVERHEAD CELLSIZE CELLOVERHEAD'
    #[arg(long, value_name = "RATE", allow_hyphen_values = true, value_parser = rate, help_heading = EFFECTS)]
    rate: Option<String>,
    /// A delivery trace, as Mahimahi has them, in place of a rate
    #[arg(long, value_name = "FILE", conflicts_with = "rate", help_heading = EFFECTS)]
    trace: Option<PathBuf>,
    /// Queue of the rate limit: 100ms, 64kb, 50packets, or several of these; the excess is lost [default: 1514000b]
    #[arg(long, value_name = "BOUND", allow_hyphen_values = true, value_parser = queue, help_heading = EFFECTS)]
    queue: Option<String>,
    /// Queue beyond which packets are marked (ECN): as with --queue
    #[arg(long, value_name = "BOUND", allow_hyphen_values = true, value_parser = mark, help_heading = EFFECTS)]
    mark: Option<String>,
    /// When packets depart in bursts: 20ms, '20ms 40ms packets 10', 'distribution normal 20ms 5ms'
    #[arg(long, value_name = "SLOT", allow_hyphen_values = true, value_parser = slot, help_heading = EFFECTS)]
    slot: Option<String>,
    /// Seed of random numbers: with the same seed, the same packets have the same fate
    #[arg(long, value_name = "NUMBER", help_heading = EFFECTS)]
    seed: Option<u64>,
    /// All effects at once, in netem's words
    #[arg(long, value_name = "WORDS", value_parser = netem, conflicts_with_all = SINGLE, help_heading = WHOLE)]
    netem: Option<String>,
    /// A policy file in TOML or JSON, with steps and targets; - for standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = SINGLE,
        conflicts_with_all = ["netem", "seed"],
        help_heading = WHOLE
    )]
    policy: Option<PathBuf>,
    /// A network by its name, as lte or satellite-geo; in both directions unless one is given
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = SINGLE,
        conflicts_with_all = ["netem", "policy"],
        help_heading = WHOLE
    )]
    preset: Option<String>,
    /// Only packets to or from there: '10.0.0.0/8 !10.1.0.0/16 tcp port 443', container:db, host:example.org
    #[arg(long, value_name = "TARGET", allow_hyphen_values = true, value_parser = selector)]
    to: Option<String>,
    /// An interface to shape in place of those that connect the container to the outside: eth1, 'lan*'; several by
    /// writing this several times. The choice stays, also for interfaces that come later, until the shaping is cleared
    #[arg(long, value_name = "NAME", value_parser = interface)]
    interface: Vec<String>,
    /// Time over which the policy in force turns into the one asked for
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = ramp)]
    ramp: Option<String>,
    /// Direction of the packets to shape, seen from the container [default: egress]
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// When it ends by itself: after 10m, or not (forever)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = lifetime)]
    r#for: Option<String>,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

const EFFECTS: &str = "Effects";
const WHOLE: &str = "All effects at once";
const SINGLE: [&str; 12] = [
    "latency",
    "jitter",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "seed",
];
const OTHERS: [&str; 4] = ["netem", "policy", "preset", "for"];

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let (name, as_json) = (args.name.clone(), args.json);
    let (shaping, notes) = shaping(args)?;
    for note in notes {
        writeln!(streams.err, "{note}")?;
    }
    let view = client.set(&name, &shaping).await?;
    if as_json {
        return print_json(&view, streams);
    }
    Ok(write!(streams.out, "{}", text::in_force(&view))?)
}

/// The fields of the API that say so, with the tables that they name, and what people should know of those.
fn shaping(args: Args) -> Result<(Shaping, Vec<String>)> {
    let (files, mut named) = (FilesIn::default(), Named::default());
    for words in [&args.jitter, &args.slot, &args.netem].into_iter().flatten() {
        files.named_by(words, &mut named).map_err(anyhow::Error::msg)?;
    }
    let trace_name = args.trace.as_deref().map(|path| file_name(path, "trace"));
    if let Some((path, name)) = args.trace.as_ref().zip(trace_name.as_ref()) {
        let trace = files.trace(name, &path.to_string_lossy()).map_err(anyhow::Error::msg)?;
        named.traces.insert(name.clone(), trace);
    }
    let mut notes = files.notes();
    let mut shaping = Shaping::new();
    let fields = [
        ("latency", args.latency),
        ("jitter", args.jitter),
        ("loss", args.loss),
        ("duplicate", args.duplicate),
        ("corrupt", args.corrupt),
        ("reorder", args.reorder),
        ("rate", args.rate),
        ("trace", trace_name),
        ("queue", args.queue),
        ("mark", args.mark),
        ("slot", args.slot),
        ("netem", args.netem),
        ("preset", args.preset),
        ("to", args.to),
        ("ramp", args.ramp),
        ("for", args.r#for),
    ];
    shaping.extend(fields.into_iter().filter_map(|(field, text)| Some((field.to_owned(), text?.into()))));
    if !args.interface.is_empty() {
        shaping.insert("interface".to_owned(), json!(args.interface));
    }
    if let Some(seed) = args.seed {
        shaping.insert("seed".to_owned(), seed.into());
    }
    if let Some(direction) = args.direction {
        shaping.insert("direction".to_owned(), json!(direction));
    }
    if let Some(path) = &args.policy {
        let (plan, of_files) = plan(path)?;
        shaping.insert("policy".to_owned(), json!(plan));
        notes.extend(of_files);
    }
    add_tables(&mut shaping, &named);
    Ok((shaping, notes))
}

fn add_tables(shaping: &mut Shaping, named: &Named) {
    if !named.distributions.is_empty() {
        let tables = named.distributions.iter().map(|(name, distribution)| (name, distribution.table()));
        let tables: BTreeMap<_, _> =
            tables.filter_map(|(name, table)| Some((name, table?.to_vec()))).collect();
        shaping.insert("distributions".to_owned(), json!(tables));
    }
    if !named.traces.is_empty() {
        let tables: BTreeMap<_, _> =
            named.traces.iter().map(|(name, trace)| (name, trace.times_ms.to_vec())).collect();
        shaping.insert("traces".to_owned(), json!(tables));
    }
}

/// The name of a file without what tells its kind, if that is one word.
fn file_name(path: &Path, otherwise: &str) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.filter(|stem| !stem.contains(|c: char| c.is_whitespace() || c.is_control()));
    stem.unwrap_or(otherwise).to_owned()
}

/// The plan of a policy file and of the files that it names, and what people should know of those.
fn plan(path: &Path) -> Result<(Plan, Vec<String>)> {
    let is_standard_input = path == Path::new("-");
    let read = if is_standard_input { files::read_standard_input() } else { files::read(path) };
    let name = if is_standard_input { "standard input".to_owned() } else { path.display().to_string() };
    let text = read.map_err(anyhow::Error::msg)?;
    let files = FilesIn::new(path.parent().unwrap_or(Path::new("")));
    let plan = Plan::parse(&text, format_of(path, &text), &files, &Named::default());
    let plan = plan.map_err(|error| anyhow::anyhow!("{name}: {}", error.trim_end()))?;
    Ok((plan, files.notes()))
}

/// By the file's name, or by how its text begins.
fn format_of(path: &Path, text: &str) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Format::Json,
        Some("toml") => Format::Toml,
        _ if text.trim_start().starts_with('{') => Format::Json,
        _ => Format::Toml,
    }
}

/// Makes a check of each effect: a function that gives back what can be done.
macro_rules! checks {
    ($($effect:ident)+) => {
        $(fn $effect(text: &str) -> Result<String, String> {
            let named = named_by(text)?;
            Clauses::default().set(stringify!($effect), text, &named).map(|()| text.to_owned())
        })+
    };
}
checks!(latency jitter loss duplicate corrupt reorder rate queue mark slot);

fn named_by(words: &str) -> Result<Named, String> {
    let mut named = Named::default();
    FilesIn::default().named_by(words, &mut named)?;
    Ok(named)
}

fn netem(words: &str) -> Result<String, String> {
    Effects::parse(words, &named_by(words)?).map(|_| words.to_owned())
}

fn selector(text: &str) -> Result<String, String> {
    text.parse::<Selector>().map(|_| text.to_owned())
}

fn interface(text: &str) -> Result<String, String> {
    check_interface(text).map(|_| text.to_owned())
}

fn ramp(text: &str) -> Result<String, String> {
    parse_duration(text, "ramp").map(|_| text.to_owned())
}

fn lifetime(text: &str) -> Result<String, String> {
    text.parse::<Lifetime>().map(|_| text.to_owned())
}
