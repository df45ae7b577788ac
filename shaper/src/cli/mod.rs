//! The commands that people type. Most of them ask a running daemon, over its HTTP API.
//!
//! Results go to standard output, errors to standard error; 1 is the exit code of a failure, 2 of a wrong usage.

mod clear;
mod client;
mod complete;
mod doctor;
mod effects;
mod events;
mod explain;
mod export;
mod inspect;
mod list;
mod log;
mod man;
mod plain;
mod presets;
mod request;
mod results;
mod rules;
mod run;
mod select;
mod serve;
mod set;
mod signals;
mod status;
mod tables;
mod text;
mod top;
mod watch;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};
use clap_complete::{CompleteEnv, Shell};
use serde::Serialize;

use self::{
    client::{Client, ClientError},
    export::ImportError,
    plain::Plain,
};
use crate::shaping::short;

/// The environment variable with the path of the daemon's socket.
const SOCKET_VARIABLE: &str = "SHAPER_PLUGIN_SOCKET";
/// The path of the daemon's socket if nothing else says it.
const DEFAULT_SOCKET: &str = "/var/run/scope/plugins/traffic-control/traffic-control.sock";

/// Degrades the network of running containers, live.
#[derive(Debug, Parser)]
#[command(name = "shaper", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// The daemon's socket, which Scope's probe finds as well
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = SOCKET_VARIABLE,
        hide_env_values = true,
        default_value = DEFAULT_SOCKET
    )]
    plugin_socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  shaper serve &
  shaper set web --latency 120ms --loss 2.5% --for 10m
  shaper list
  shaper clear web";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(Box<serve::Args>),
    /// List containers and what shapes them
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show the shaped containers, those with the most packets first
    Top(top::Args),
    /// Change the shaping of containers; what is not mentioned stays as it is
    Set(Box<set::Args>),
    /// Shape a container while a command runs
    Run(Box<run::Args>),
    /// List the networks that `set --preset` knows by name
    Presets(presets::Args),
    /// End the shaping of containers
    #[command(visible_alias = "rm")]
    Clear(clear::Args),
    /// Show where the shaping of containers can be seen with the kernel's own tools
    Inspect(inspect::Args),
    /// Print the shaping of containers as one document, for `import`
    Export(export::ExportArgs),
    /// Shape containers as a document of `export` says
    Import(export::ImportArgs),
    /// List and change rules: shaping that containers have for as long as they fit
    Rules(rules::Args),
    /// Tell whether the daemon can shape
    Status(status::Args),
    /// Show what has happened to the shaping of containers, and through whom
    Events(events::Args),
    /// Look for what keeps this host from being shaped
    Doctor(doctor::Args),
    /// Say what effects do to packets; asks no daemon
    Explain(explain::Args),
    /// Print a completion script
    #[command(after_help = "\
The script knows the words of commands. A shell that asks shaper itself also
completes the names of containers, networks and rules.

Examples:
  shaper completions bash > /etc/bash_completion.d/shaper
  source <(COMPLETE=bash shaper)")]
    Completions {
        /// The shell it is for
        shell: Shell,
    },
    /// Write manual pages
    Man(man::Args),
}

/// The outputs of a command.
struct Streams<'a> {
    /// Results.
    out: Plain<&'a mut (dyn Write + Send)>,
    /// Failures after which the command goes on.
    err: Plain<&'a mut (dyn Write + Send)>,
}

impl<'a> Streams<'a> {
    fn new(out: &'a mut (dyn Write + Send), err: &'a mut (dyn Write + Send)) -> Self {
        Self { out: Plain(out), err: Plain(err) }
    }
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    // The engine asks for the working directory, which the daemon may not.
    if env::var_os("COMPLETE").is_some() {
        // Ends here, as it is a shell that asks.
        CompleteEnv::with_factory(Cli::command).complete();
    }
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut streams = Streams::new(&mut out, &mut err);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return misused(error, &mut streams),
        Err(help) => help.exit(),
    };
    match run(cli, &mut streams) {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody reads the error either, the exit code has to do.
            let _ = writeln!(streams.err, "error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let of_client = error.downcast_ref::<ClientError>().map(ClientError::exit_code);
    of_client.or_else(|| error.downcast_ref::<ImportError>().map(ImportError::exit_code)).unwrap_or(1)
}

/// Prints an error about the command line. clap itself would print the arguments whole, with their control characters.
fn misused(mut error: clap::Error, streams: &mut Streams<'_>) -> ExitCode {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) {
        let value = ContextValue::String(short(value));
        error.insert(ContextKind::InvalidValue, value);
    }
    let _ = write!(streams.err, "{error}");
    ExitCode::from(2)
}

fn run(cli: Cli, streams: &mut Streams<'_>) -> Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => return serve::run(*args, cli.plugin_socket),
        Command::Completions { shell } => completions(shell, streams)?,
        Command::Explain(args) => explain::run(args, streams)?,
        Command::Man(args) => man::run(&args, Cli::command(), streams)?,
        command => {
            return tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start the runtime")?
                .block_on(ask(command, &Client::new(cli.plugin_socket), streams));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(command: Command, client: &Client, streams: &mut Streams<'_>) -> Result<ExitCode> {
    match command {
        Command::List(args) => list::run(args, client, streams).await?,
        Command::Top(args) => top::run(args, client, streams).await?,
        Command::Set(args) => set::run(*args, client, streams).await?,
        Command::Run(args) => return run::run(*args, client, streams).await,
        Command::Presets(args) => presets::run(args, client, streams).await?,
        Command::Clear(args) => clear::run(args, client, streams).await?,
        Command::Inspect(args) => inspect::run(args, client, streams).await?,
        Command::Export(args) => export::export(args, client, streams).await?,
        Command::Import(args) => export::import(args, client, streams).await?,
        Command::Rules(args) => rules::run(args, client, streams).await?,
        Command::Status(args) => status::run(args, client, streams).await?,
        Command::Doctor(args) => doctor::run(args, client, streams).await?,
        Command::Events(args) => events::run(args, client, streams).await?,
        Command::Serve(_) | Command::Completions { .. } | Command::Explain(_) | Command::Man(_) => {
            unreachable!("these ask no daemon")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the script by way of a buffer: `clap_complete` panics if it cannot write.
fn completions(shell: Shell, streams: &mut Streams<'_>) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "shaper", &mut script);
    Ok(streams.out.write_all(&script)?)
}

fn print_json(value: &impl Serialize, streams: &mut Streams<'_>) -> Result<()> {
    Ok(write!(streams.out, "{}", as_json(value)?)?)
}

fn as_json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("write the answer as JSON")? + "\n")
}

/// Returns true if the reader of our output had enough, as `head` has: no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
