//! `shaper export` and `shaper import`: the shaping of a host as one file, and back.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use form_urlencoded::Serializer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Client, Streams,
    client::Results,
    print_json,
    results::{self, Done},
    select::Selected,
};
use crate::{
    files,
    shaping::{Changed, ContainerResult, ContainerView, Selector, Whole},
};

/// The version of the file.
const VERSION: u32 = 1;
/// The exit code where some containers were shaped and others were not.
const PARTLY: u8 = 6;

/// The arguments of `shaper export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Times are what is left of them now, and begin anew with an import. Rules are not
part of it: what they shape is, as if it had been set by hand.

Examples:
  shaper export > shaping.json
  shaper export 'shop-*' | ssh other-host shaper import -")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    selected: Selected,
}

/// The arguments of `shaper import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What shapes a container in the file is replaced; other containers are left as
they are. Those that are not there are listed. The exit code is 6 if some were
shaped and others were not.

Examples:
  shaper import shaping.json --dry-run
  shaper export | ssh other-host shaper import -")]
pub(super) struct ImportArgs {
    /// A file that `shaper export` wrote; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show what would become of each container, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Shape containers though they are protected, as the daemon's own and Scope's are
    #[arg(long)]
    force: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// The shaping of containers, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    version: u32,
    /// By name; by id where several have the same name.
    containers: BTreeMap<String, Whole>,
}

/// The results of an import.
#[derive(Debug, Default, Serialize)]
struct Import {
    results: Vec<ContainerResult>,
    /// The reasons why no container could be found, by its name in the file.
    errors: BTreeMap<String, String>,
}

/// The error of an import that not all containers took part in.
#[derive(Debug, Error)]
#[error("{failed} of {all} containers were not shaped")]
pub(super) struct ImportError {
    failed: usize,
    all: usize,
    exit_code: u8,
}

impl ImportError {
    /// Returns the exit code of the command.
    pub(super) const fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

pub(super) async fn export(args: ExportArgs, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let (all, selected) = (client.list().await?, args.selected.views(client).await?);
    let shaped = selected.iter().map(|view| (key(view, &all), view.whole()));
    let containers = shaped.filter(|(_, whole)| !whole.is_empty()).collect();
    print_json(&Export { version: VERSION, containers }, streams)
}

/// The name of a container, or its id if others have the same name.
fn key(view: &ContainerView, all: &[ContainerView]) -> String {
    let name = &view.container.name;
    match all.iter().filter(|other| other.container.name == *name).count() {
        ..=1 => name.clone(),
        _ => view.container.id.as_str().to_owned(),
    }
}

pub(super) async fn import(args: ImportArgs, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let Export { containers, .. } = read(&args)?;
    let (mut import, mut exit_code) = (Import::default(), None);
    for (name, whole) in &containers {
        let error = match client.replace_many(&query(name, &args), whole).await {
            Ok(Results { changed, refusal }) => {
                import.results.extend(changed.results);
                refusal
            }
            Err(error) if error.is_unreachable() => return Err(error.into()),
            Err(error) => {
                import.errors.insert(name.clone(), error.to_string());
                Some(error)
            }
        };
        exit_code = exit_code.or_else(|| error.map(|error| error.exit_code()));
    }
    print(&import, &args, streams)?;
    let Some(first) = exit_code else { return Ok(()) };
    let done = import.results.iter().filter(|result| result.end.is_done()).count();
    let all = import.results.len() + import.errors.len();
    Err(ImportError { failed: all - done, all, exit_code: if done > 0 { PARTLY } else { first } }.into())
}

fn read(args: &ImportArgs) -> Result<Export> {
    let is_standard_input = args.file.as_os_str() == "-";
    let text = if is_standard_input { files::read_standard_input() } else { files::read(&args.file) }?;
    let name = if is_standard_input { "standard input".to_owned() } else { args.file.display().to_string() };
    let export: Export =
        serde_json::from_str(&text).with_context(|| format!("{name} is not what `shaper export` writes"))?;
    if export.version != VERSION {
        bail!("{name} is of version {}, and this shaper knows version {VERSION}", export.version);
    }
    Ok(export)
}

fn query(name: &str, args: &ImportArgs) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("selector", &Selector::escaped(name));
    for (flag, _) in [("dry_run", args.dry_run), ("force", args.force)].iter().filter(|(_, is_set)| *is_set) {
        query.append_pair(flag, "true");
    }
    query.finish()
}

fn print(import: &Import, args: &ImportArgs, streams: &mut Streams<'_>) -> Result<()> {
    if args.json {
        return print_json(import, streams);
    }
    if !import.results.is_empty() {
        let changed = Changed { results: import.results.clone() };
        write!(streams.out, "{}", results::table(&changed, Done::Set))?;
    }
    for error in import.errors.values() {
        writeln!(streams.err, "error: {error}")?;
    }
    Ok(())
}
