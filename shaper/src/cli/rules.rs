//! `shaper rules`: what containers are to have for as long as they fit.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Result, bail};
use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use comfy_table::{Table, presets};

use super::{Client, Streams, complete, print_json};
use crate::{
    files,
    shaping::{Asked, Lifetime, Request, Rule, RuleDocument, RuleView, read_rules, short},
};

/// The arguments of `shaper rules`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A rule holds for containers that restart, scale or come later, until it is removed or its time ends.
Of rules that fit one container, the one with the highest priority is in force, and then the first by
name. What is set by hand stays as it is; a container that is cleared by hand is exempt.

Examples:
  shaper set 'label:app=web' --latency 100ms --keep slow-web
  shaper rules
  shaper rules suspend slow-web
  shaper rules remove slow-web
  shaper rules add shop.toml")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the daemon's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List rules and the containers that have their shaping (the default)
    List,
    /// Add the rules of files, or take them in the place of those with the same names
    Add {
        /// A file with a table [[rule]] for each rule; - for standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Take away the shaping of rules until they are resumed
    Suspend {
        /// A rule
        #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(complete::rules))]
        names: Vec<String>,
    },
    /// Have rules carried out again
    Resume {
        /// A rule
        #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(complete::rules))]
        names: Vec<String>,
    },
    /// Remove rules, and with them the shaping that they gave
    Remove {
        /// A rule
        #[arg(value_name = "NAME", required = true, add = ArgValueCandidates::new(complete::rules))]
        names: Vec<String>,
    },
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let mut changed = Vec::new();
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let all = client.rules().await?;
            if args.json {
                return print_json(&all, streams);
            }
            writeln!(streams.out, "{}", table(&all.rules))?;
            for problem in all.problems.iter().chain(all.rules.iter().flat_map(|rule| &rule.problems)) {
                writeln!(streams.err, "warning: {problem}")?;
            }
            return Ok(());
        }
        Action::Add { files } => {
            let mut rules = Vec::new();
            for path in files {
                rules.extend(rules_in(&path)?);
            }
            for rule in &rules {
                changed.push((client.put_rule(&rule.into()).await?, "added"));
            }
        }
        Action::Suspend { names } => {
            for name in names {
                changed.push((client.suspend_rule(&name, true).await?, "suspended"));
            }
        }
        Action::Resume { names } => {
            for name in names {
                changed.push((client.suspend_rule(&name, false).await?, "resumed"));
            }
        }
        Action::Remove { names } => {
            for name in names {
                changed.push((client.remove_rule(&name).await?, "removed"));
            }
        }
    }
    if args.json {
        return print_json(&changed.into_iter().map(|(view, _)| view).collect::<Vec<_>>(), streams);
    }
    for (view, done) in changed {
        writeln!(streams.out, "rule {} {done}", view.rule.name)?;
    }
    Ok(())
}

/// Prints a rule that was kept.
pub(super) fn print_kept(view: &RuleView, as_json: bool, streams: &mut Streams<'_>) -> Result<()> {
    if as_json {
        return print_json(view, streams);
    }
    Ok(writeln!(
        streams.out,
        "rule {} kept: `shaper rules` shows the containers that have it",
        view.rule.name
    )?)
}

/// The rules in a file.
fn rules_in(path: &Path) -> Result<Vec<Rule>> {
    let is_standard_input = path.as_os_str() == "-";
    let text = if is_standard_input { files::read_standard_input() } else { files::read(path) }?;
    let name = if is_standard_input { "standard input".to_owned() } else { path.display().to_string() };
    let rules = read_rules(&name, &text)?;
    if rules.is_empty() {
        bail!("{name} has no rule: expected a table [[rule]] with name, select and set");
    }
    Ok(rules)
}

fn table(all: &[RuleView]) -> String {
    let mut table = Table::new();
    let header = ["NAME", "SELECTOR", "EFFECT", "PRIORITY", "STATE", "CONTAINERS", "UNTIL"];
    table.load_preset(presets::NOTHING).set_header(header);
    table.add_rows(all.iter().map(row));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn row(view: &RuleView) -> [String; 7] {
    let rule = Rule::try_from(view.rule.clone()).ok();
    let selector = rule.as_ref().map(|rule| match rule.count {
        Some(count) => format!("{} ({count})", rule.selector),
        None => rule.selector.to_string(),
    });
    let until = rule.as_ref().and_then(|rule| rule.until);
    [
        view.rule.name.clone(),
        short(&selector.unwrap_or_default()),
        short(&rule.as_ref().map(effect).unwrap_or_default()),
        rule.map(|rule| rule.priority).unwrap_or_default().to_string(),
        view.state.to_string(),
        view.containers.len().to_string(),
        until.map_or_else(|| "-".to_owned(), |until| humantime::format_rfc3339_seconds(until).to_string()),
    ]
}

/// The shaping of a rule, in a line.
fn effect(rule: &Rule) -> String {
    rule.requests.iter().map(change).collect::<Vec<_>>().join("; ")
}

fn change(request: &Request) -> String {
    let effect = match &request.asked {
        Asked::Clauses(clauses) => {
            clauses.texts().map(|(field, text)| format!("{field} {text}")).collect::<Vec<_>>().join(" ")
        }
        Asked::Effects(effects) => effects.to_string(),
        Asked::Preset(name) => format!("preset {name}"),
        Asked::Policy(_) | Asked::Network { .. } | Asked::Whole(_) => "policy".to_owned(),
    };
    match &request.target {
        Some(target) => format!("{effect} to {target}, {}", request.directions),
        None => format!("{effect}, {}", request.directions),
    }
}

/// The rule that `shaper set --keep` asks for: the time that the request has becomes the rule's.
pub(super) fn kept(
    name: &str,
    priority: i32,
    selected: &super::select::Selected,
    mut request: Request,
    now: SystemTime,
) -> Result<RuleDocument> {
    let until = match request.lifetime.take() {
        Some(Lifetime::For(duration)) => Some(now + duration),
        Some(Lifetime::Forever) | None => None,
    };
    let rule = Rule {
        name: name.parse()?,
        selector: selected.selector()?,
        count: selected.count(),
        priority,
        is_suspended: false,
        until,
        requests: vec![request.checked()?],
    };
    Ok((&rule).into())
}
