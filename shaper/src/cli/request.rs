//! The arguments that ask for a shaping, and the request that they make.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use clap::{ArgGroup, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::{
    complete,
    effects::{self, EffectFlags, Understood},
    tables::FilesIn,
};
use crate::{
    files,
    shaping::{
        Asked, Directions, Effects, Format, Interfaces, Lifetime, MatchRule, Named, Policy, PolicyError,
        Request, check_interface, check_network, parse_duration,
    },
};

/// The arguments of which one at least is needed to ask for anything, beside the flags of effects.
const OTHERS: [&str; 4] = ["netem", "policy", "preset", "prepare"];

/// The heading of the flags that say all effects.
const WHOLE: &str = "All effects at once";

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

/// The group of the arguments that ask for something, `more` among them, of which one is needed.
pub(super) fn group(more: &[&'static str]) -> ArgGroup {
    let names = effects::names().chain(OTHERS).chain(more.iter().copied());
    ArgGroup::new("change").args(names).required(true).multiple(true)
}

/// The shaping that is asked for. Values are understood here, and sent as they were understood.
#[derive(Clone, Debug, clap::Args)]
#[command(
    mut_arg("latency", |latency| latency.visible_alias("delay")),
    mut_arg("trace", |trace| trace.conflicts_with("rate"))
)]
pub(super) struct RequestArgs {
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
        add = ArgValueCandidates::new(complete::presets),
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
}

impl RequestArgs {
    /// The request that they make, and what people should know of the files that they name.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or what is asked contradicts itself.
    pub(super) fn request(self, lifetime: Option<Lifetime>) -> Result<(Request, Vec<String>)> {
        let usual = if self.preset.is_some() { Directions::Both } else { Directions::default() };
        let (asked, notes) = match (self.netem, self.policy, self.preset) {
            (Some(Understood { value, notes }), ..) => (Asked::Effects(Box::new(value)), notes),
            (_, Some(path), _) => {
                let (policy, notes) = policy(&path)?;
                (Asked::Policy(Arc::new(policy)), notes)
            }
            (.., Some(name)) => (Asked::Preset(name), Vec::new()),
            _ => (Asked::Clauses(Box::new(self.effects.clauses)), self.effects.notes),
        };
        let some = |patterns: Vec<String>| (!patterns.is_empty()).then(|| patterns.into());
        let request = Request {
            directions: self.direction.map_or(usual, Directions::from),
            asked,
            target: self.to,
            interfaces: Interfaces::new(some(self.interface), some(self.network))?,
            prepare: self.prepare,
            ramp: self.ramp.filter(|ramp| !ramp.is_zero()),
            lifetime,
        };
        Ok((request.checked()?, notes))
    }
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
