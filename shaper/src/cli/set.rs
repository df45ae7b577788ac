//! `shaper set`: changes a container's shaping.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use clap::{ArgGroup, ValueEnum};

use super::{
    Client, Streams,
    effects::{self, EffectFlags, Understood},
    print_json,
    results::{self, Done},
    rules,
    select::{Bounds, Selected},
    tables::FilesIn,
    text,
};
use crate::{
    files,
    shaping::{
        Asked, Directions, Effects, Format, Interfaces, Lifetime, MatchRule, Named, Policy, PolicyError,
        Request, check_interface, check_network, parse_duration,
    },
};

/// A value of `--direction`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    /// Packets that the container sends
    Egress,
    /// Packets that the container receives
    Ingress,
    /// Both, each with the whole of what is asked: a latency of 50 ms adds 100 ms to a round trip
    Both,
}

impl From<Direction> for Directions {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Egress => Self::Egress,
            Direction::Ingress => Self::Ingress,
            Direction::Both => Self::Both,
        }
    }
}

/// The arguments of `shaper set`. Values are understood here, and sent as they were understood.
#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("change").args(effects::names()).args(OTHERS).required(true).multiple(true)),
    mut_arg("trace", |trace| trace.conflicts_with("rate")),
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
    effects: EffectFlags,
    /// All effects at once, in netem's words
    #[arg(
        long,
        value_name = "WORDS",
        value_parser = effects::netem,
        conflicts_with_all = effects::names(),
        help_heading = WHOLE
    )]
    netem: Option<Understood<Effects>>,
    /// A policy file in TOML or JSON, with steps and targets; - for standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = effects::names(),
        conflicts_with = "netem",
        help_heading = WHOLE
    )]
    policy: Option<PathBuf>,
    /// A network by its name, as lte or satellite-geo; in both directions unless one is given
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = effects::names(),
        conflicts_with_all = ["netem", "policy"],
        help_heading = WHOLE
    )]
    preset: Option<String>,
    /// Only packets to or from there: '10.0.0.0/8 !10.1.0.0/16 tcp port 443', container:db, host:example.org
    #[arg(long, value_name = "TARGET", allow_hyphen_values = true, value_parser = str::parse::<MatchRule>)]
    to: Option<MatchRule>,
    /// An interface to shape in place of those that connect the container to the outside: eth1, 'lan*'; several by
    /// writing this several times. The choice stays, also for interfaces that come later, until the shaping is cleared
    #[arg(long, value_name = "NAME", value_parser = interface)]
    interface: Vec<String>,
    /// A network of the container's runtime, whose interfaces to shape: shop_front, 'shop_*'; several by writing this several
    /// times, also together with --interface. The choice stays as that of --interface does
    #[arg(long, value_name = "NAME", value_parser = network)]
    network: Vec<String>,
    /// Give the interfaces their queue now, so that no packet is lost when a delay is set later, or ends. They keep it until
    /// the shaping is cleared or its time is over
    #[arg(long)]
    prepare: bool,
    /// Time over which the policy in force turns into the one asked for
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = ramp)]
    ramp: Option<Duration>,
    /// Direction of the packets to shape, seen from the container [default: egress]
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// When it ends by itself: after 10m, or not (forever)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = str::parse::<Lifetime>)]
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

const WHOLE: &str = "All effects at once";
const OTHERS: [&str; 5] = ["netem", "policy", "preset", "prepare", "for"];

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let (selected, bounds) = (args.selected.clone(), args.bounds.clone());
    let (force, as_json) = (args.force, args.json);
    let (keep, priority) = (args.keep.clone(), args.priority);
    let (request, notes) = request(args)?;
    for note in notes {
        writeln!(streams.err, "{note}")?;
    }
    if let Some(rule) = keep {
        let rule = rules::kept(&rule, priority, &selected, request, SystemTime::now())?;
        return rules::print_kept(&client.put_rule(&rule).await?, as_json, streams);
    }
    let Some(name) = selected.as_name().filter(|_| bounds.is_nothing()) else {
        let query = selected.query_of_change(&bounds, force);
        return results::print(client.set_many(&query, &request).await?, Done::Set, as_json, streams);
    };
    let view = client.set(&name, &request, force).await?;
    if as_json {
        return print_json(&view, streams);
    }
    Ok(write!(streams.out, "{}", text::in_force(&view))?)
}

/// The request that the arguments make, and what people should know of the files that they name.
fn request(args: Args) -> Result<(Request, Vec<String>)> {
    let usual = if args.preset.is_some() { Directions::Both } else { Directions::default() };
    let (asked, notes) = match (args.netem, args.policy, args.preset) {
        (Some(Understood { value, notes }), ..) => (Asked::Effects(Box::new(value)), notes),
        (_, Some(path), _) => {
            let (policy, notes) = policy(&path)?;
            (Asked::Policy(Arc::new(policy)), notes)
        }
        (.., Some(name)) => (Asked::Preset(name), Vec::new()),
        _ => (Asked::Clauses(Box::new(args.effects.clauses)), args.effects.notes),
    };
    let some = |patterns: Vec<String>| (!patterns.is_empty()).then(|| patterns.into());
    let request = Request {
        directions: args.direction.map_or(usual, Directions::from),
        asked,
        target: args.to,
        interfaces: Interfaces::new(some(args.interface), some(args.network))?,
        prepare: args.prepare,
        ramp: args.ramp.filter(|ramp| !ramp.is_zero()),
        lifetime: args.r#for,
    };
    Ok((request.checked()?, notes))
}

/// The policy of a policy file and of the files that it names, and what people should know of those.
fn policy(path: &Path) -> Result<(Policy, Vec<String>)> {
    let is_standard_input = path == Path::new("-");
    let read = if is_standard_input { files::read_standard_input() } else { files::read(path) };
    let name = if is_standard_input { "standard input".to_owned() } else { path.display().to_string() };
    let text = read?;
    let files = FilesIn::new(path.parent().unwrap_or(Path::new("")));
    let policy = Policy::parse(&text, format_of(path, &text), &files, &Named::default());
    let policy = policy.map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    Ok((policy, files.notes()))
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

fn interface(text: &str) -> Result<String, PolicyError> {
    check_interface(text).map(|_| text.to_owned())
}

fn network(text: &str) -> Result<String, PolicyError> {
    check_network(text).map(|_| text.to_owned())
}

fn ramp(text: &str) -> Result<Duration, PolicyError> {
    parse_duration(text, "ramp")
}
