//! `shaper clear`: ends shaping, and waits until the last delayed packets have left.

use std::{fmt::Display, io::Write as _, time::Duration};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressFinish};
use tokio::time::{self, Instant};

use super::{
    Client, Streams,
    plain::escaped,
    print_json,
    results::{self, Done},
    select::{Bounds, Selected},
    text::{title, waiting},
};
use crate::shaping::{Cleared, Completion, Container, ContainerView, Shaping};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The parameters of a request for all containers, whether or not each can be cleared.
const EVERYTHING: &str = "selector=all&partial=true&allow_none=true";
/// A wait below this needs no explanation.
const SPINNER_AFTER: Duration = Duration::from_secs(2);

/// The arguments of `shaper clear`.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("selector", |selector| selector.required_unless_present("all").conflicts_with("all")),
    override_usage = "shaper clear [OPTIONS] <SELECTOR>...\n       shaper clear [OPTIONS] --all",
    after_help = "\
Packets that already wait still leave at their time; the command returns when they have.

Examples:
  shaper clear web
  shaper clear 'shop-*' label:app=web
  shaper clear --all --no-wait"
)]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Clear every container that is shaped
    #[arg(long, conflicts_with_all = ["count", "allow_none", "dry_run", "partial", "max_containers"])]
    all: bool,
    #[command(flatten)]
    bounds: Bounds,
    /// Do not wait for the last delayed packets
    #[arg(long)]
    no_wait: bool,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    if args.all {
        return clear_all(&args, client, streams).await;
    }
    match args.selected.as_name().filter(|_| args.bounds.is_nothing()) {
        Some(name) => {
            let cleared = finish(client.clear(&name).await?, &args, client).await?;
            if args.json { print_json(&cleared, streams) } else { print(&cleared, streams) }
        }
        None => clear_many(&args, client, streams).await,
    }
}

/// Clears those that are selected, and waits for the last packets of all of them.
async fn clear_many(args: &Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let results = client.clear_many(&args.selected.query_of_change(&args.bounds, false)).await?;
    let cleared =
        results.changed.results.iter().filter(|one| one.end == Completion::Changed && !args.no_wait);
    for one in cleared {
        match client.inspect(one.container.id.as_str()).await {
            Ok(inspection) => drop(wait(inspection.view, client).await?),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    results::print(results, Done::Cleared, args.json, streams)
}

/// Clears all before it waits for any, so that all their packets leave meanwhile: those that runtimes tell of at once,
/// and what is left of others, or still drains, one by one.
async fn clear_all(args: &Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let shaped: Vec<_> =
        client.list().await?.into_iter().filter(|view| !view.interfaces.is_empty()).collect();
    let (mut cleared, mut done, mut failed) = (Vec::new(), Vec::new(), 0);
    if shaped.is_empty() && !args.json {
        writeln!(streams.out, "no container is shaped")?;
    }
    let results = match shaped.is_empty() {
        true => Vec::new(),
        false => client.clear_many(EVERYTHING).await?.changed.results,
    };
    let now = client.list().await?;
    for view in shaped {
        let end = results.iter().find(|one| is_shared(&one.container, &view.container)).map(|one| &one.end);
        match end {
            Some(Completion::Changed) => cleared.push(Cleared { was_shaped: true, view: found(&now, view) }),
            Some(Completion::Refused(reason) | Completion::Failed(reason)) => {
                failed += report(&view, reason, streams)?;
            }
            _ => match client.clear(view.container.id.as_str()).await {
                Ok(one) => cleared.push(one),
                Err(error) => failed += report(&view, &error, streams)?,
            },
        }
    }
    for one in cleared {
        let view = one.view.clone();
        match finish(one, args, client).await {
            Ok(cleared) if args.json => done.push(cleared),
            Ok(cleared) => print(&cleared, streams)?,
            Err(error) => failed += report(&view, &format!("{error:#}"), streams)?,
        }
    }
    if args.json {
        print_json(&done, streams)?;
    }
    match failed {
        0 => Ok(()),
        1 => bail!("1 container was not cleared"),
        _ => bail!("{failed} containers were not cleared"),
    }
}

/// Tells whether two containers are one, or share their shaping with their network namespace.
fn is_shared(one: &Container, other: &Container) -> bool {
    let netns_of = |container: &Container| container.netns.as_ref().map(|netns| netns.id);
    one.key() == other.key() || netns_of(one).is_some() && netns_of(one) == netns_of(other)
}

/// The container of `view` as it is `now`: one that has gone is not shaped.
fn found(now: &[ContainerView], view: ContainerView) -> ContainerView {
    let found = now.iter().find(|one| one.container.key() == view.container.key());
    found.cloned().unwrap_or(ContainerView { interfaces: Vec::new(), ..view })
}

/// Says what went wrong with one container of several, and counts it.
fn report(view: &ContainerView, error: &impl Display, streams: &mut Streams<'_>) -> Result<usize> {
    writeln!(streams.err, "error: {}: {error}", title(view))?;
    Ok(1)
}

async fn finish(cleared: Cleared, args: &Args, client: &Client) -> Result<Cleared> {
    match args.no_wait {
        true => Ok(cleared),
        false => Ok(Cleared { view: wait(cleared.view, client).await?, ..cleared }),
    }
}

fn print(cleared: &Cleared, streams: &mut Streams<'_>) -> Result<()> {
    let view = &cleared.view;
    if !cleared.was_shaped {
        return Ok(writeln!(streams.out, "{} was not shaped", title(view))?);
    }
    let left = packets(view);
    let rest = if view.interfaces.is_empty() { String::new() } else { format!("; {}", waiting(left)) };
    Ok(writeln!(streams.out, "{} is no longer shaped{rest}", title(view))?)
}

/// Waits until nothing is left of a cleared shaping; a container that went away has nothing left.
pub(super) async fn wait(mut view: ContainerView, client: &Client) -> Result<ContainerView> {
    let started = Instant::now();
    let mut spinner = None;
    while !view.interfaces.is_empty() {
        if view.interfaces.iter().any(|view| view.shaping != Shaping::default()) {
            bail!("{} was shaped again while its last packets left", title(&view));
        }
        if started.elapsed() >= SPINNER_AFTER {
            // Hidden where standard error is no terminal.
            let new = || ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
            let spinner = spinner.get_or_insert_with(new);
            spinner.set_message(format!("{}: {}", escaped(&title(&view)), waiting(packets(&view))));
            spinner.tick();
        }
        time::sleep(POLL_INTERVAL).await;
        match client.inspect(view.container.id.as_str()).await {
            Ok(inspection) => view = inspection.view,
            Err(error) if error.is_not_found() => view.interfaces.clear(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(view)
}

fn packets(view: &ContainerView) -> u64 {
    view.interfaces.iter().map(|view| view.queue.waiting).sum()
}
