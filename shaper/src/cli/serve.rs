//! `shaper serve`: runs the daemon.

use std::{collections::BTreeSet, io, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{log::Log, plain::Plain};
use crate::{
    daemon::{self, AuditLog, Options},
    server::{TcpOptions, TlsFiles},
    shaping::{Hook, RuntimeKind, Selector, SelectorError},
};

/// The runtimes that are watched unless others are named.
const DEFAULT: [RuntimeKind; 4] =
    [RuntimeKind::Docker, RuntimeKind::Podman, RuntimeKind::Cri, RuntimeKind::Netns];

/// The arguments of `shaper serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shaping outlives the daemon: the next one finds it and goes on with it.

Examples:
  shaper serve
  shaper serve --runtime netns --log-level shaper=debug
  shaper serve --plugin-socket /run/shaper/traffic-control.sock --log-format json")]
pub(super) struct Args {
    /// The runtimes whose containers are watched [default: docker,podman,cri,netns]
    #[arg(long, value_enum, value_delimiter = ',')]
    runtime: Vec<RuntimeKind>,
    /// The Docker Engine's socket; DOCKER_HOST=unix://PATH is heeded [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    docker_socket: Option<PathBuf>,
    /// The socket of a CRI runtime; several by writing this several times [default: those of containerd, CRI-O, k3s and
    /// MicroK8s]
    #[arg(long, value_name = "PATH")]
    cri_socket: Vec<PathBuf>,
    /// The directory with named network namespaces
    #[arg(long, value_name = "PATH", default_value = "/run/netns")]
    netns_dir: PathBuf,
    /// The directory, in bpffs, for pinned programs and maps
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/bpf/shaper")]
    pin_dir: PathBuf,
    /// The hook that programs are attached to [default: tcx where the kernel has it, else clsact]
    #[arg(long, value_enum)]
    hook: Option<Hook>,
    /// A TOML file with presets of your own, which replace shipped ones of the same name
    #[arg(long, value_name = "FILE")]
    presets: Option<PathBuf>,
    /// A preset that has a button in Scope, which has room for two; several by commas, or by writing this several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scope_preset: Vec<String>,
    /// Containers that are not shaped unless they are named by their id or with --force; several by writing this several
    /// times
    #[arg(long, value_name = "SELECTOR", value_parser = selector)]
    protect: Vec<Selector>,
    /// The directory with rule files: NAME.toml, read at the start and whenever they change
    #[arg(long, value_name = "PATH", default_value = "/etc/shaper/rules.d")]
    rules_dir: PathBuf,
    /// A file to which all events are written, a line of JSON each; beside it five older ones are kept
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// The size from which on another file is begun for --audit-log
    #[arg(long, value_name = "MEGABYTES", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000), requires = "audit_log")]
    audit_log_size: u64,
    /// Shape containers as their own labels say, such as shaper.netem="delay 100ms": whoever may start a container may
    /// have it shaped
    #[arg(long)]
    labels: bool,
    /// The directory for the rules that were asked for with --keep
    #[arg(long, value_name = "PATH", default_value = "/var/lib/shaper")]
    state_dir: PathBuf,
    /// A group whose members may use the daemon's socket as well, and so shape every container
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
    /// An address and port to listen on by TCP besides, such as 127.0.0.1:7474; on loopback without --tokens, everybody
    /// may read there and nobody change
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// A TOML file with tokens for --listen: tables [[token]] with name, token and access, which is read or full
    #[arg(long, value_name = "FILE", requires = "listen")]
    tokens: Option<PathBuf>,
    /// A name by which clients call this machine, besides its addresses and localhost; several by writing this several times
    #[arg(long, value_name = "NAME", requires = "listen")]
    listen_host: Vec<String>,
    /// The certificate for TLS on --listen, in PEM, with those that lead to its authority
    #[arg(long, value_name = "FILE", requires_all = ["listen", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authorities, in PEM, of which a client needs a certificate; whoever has one may do everything
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// The format of log lines on standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// The level of log lines, or levels by module
    #[arg(
        long,
        value_name = "FILTER",
        env = "RUST_LOG",
        hide_env_values = true,
        default_value = "info",
        value_parser = log_filter
    )]
    log_level: String,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For machines, one object a line
    Json,
}

pub(super) fn run(args: Args, plugin_socket: PathBuf) -> Result<ExitCode> {
    let log = start_log(&args)?;
    let options = options(args, plugin_socket, std::env::var("DOCKER_HOST").ok().as_deref())?;
    let served = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(daemon::serve(options));
    // By way of the log, since standard error may be one that hangs.
    let exit = served.map_or_else(
        |error| {
            log.line(format!("error: {error:#}\n").as_bytes());
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    );
    log.flush();
    Ok(exit)
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn selector(text: &str) -> Result<Selector, SelectorError> {
    Selector::parse([text])
}

/// Starts the log, in which panics have their lines, too.
fn start_log(args: &Args) -> Result<Log> {
    let filter = EnvFilter::try_new(&args.log_level).context("--log-level")?;
    let log = Log::to(Plain(io::stderr())).context("start the log's thread")?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(log.clone())
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("start the log: {error}"))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(log)
}

fn options(args: Args, plugin_socket: PathBuf, docker_host: Option<&str>) -> Result<Options> {
    let expects_runtimes = !args.runtime.is_empty();
    let runtimes: BTreeSet<_> = match expects_runtimes {
        true => args.runtime.into_iter().collect(),
        false => DEFAULT.into(),
    };
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        client_authorities: args.tls_client_ca,
    });
    let (tokens, hosts) = (args.tokens, args.listen_host);
    let tcp = args.listen.map(|address| TcpOptions { address, tokens, hosts, tls });
    let watches_docker = runtimes.contains(&RuntimeKind::Docker);
    Ok(Options {
        docker_socket: docker_socket(args.docker_socket, docker_host.filter(|_| watches_docker))?,
        cri_sockets: args.cri_socket,
        expects_runtimes,
        plugin_socket,
        socket_group: args.socket_group,
        tcp,
        runtimes,
        netns_dir: args.netns_dir,
        pin_dir: args.pin_dir,
        hook: args.hook,
        presets: args.presets,
        scope_presets: args.scope_preset,
        protect: args.protect,
        rules_dir: args.rules_dir,
        audit_log: args.audit_log.map(|path| AuditLog { path, most_bytes: args.audit_log_size << 20 }),
        labels: args.labels,
        state_dir: args.state_dir,
    })
}

/// The option, else `DOCKER_HOST`, else where Docker listens by itself.
fn docker_socket(option: Option<PathBuf>, docker_host: Option<&str>) -> Result<PathBuf> {
    match (option, docker_host) {
        (Some(path), _) => Ok(path),
        (None, None | Some("")) => Ok(PathBuf::from("/var/run/docker.sock")),
        (None, Some(host)) => match host.strip_prefix("unix://") {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => bail!(
                "DOCKER_HOST={host} is not a unix socket, and only this host's containers can be shaped: \
                 give --docker-socket"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_where_one_says_then_where_docker_host_says_then_where_it_always_is() {
        let socket = |option: Option<&str>, host| docker_socket(option.map(PathBuf::from), host);
        let path = |result: Result<PathBuf>| result.map_err(|error| error.to_string());
        assert_eq!(path(socket(Some("/a"), Some("unix:///b"))), Ok("/a".into()));
        assert_eq!(path(socket(None, Some("unix:///b"))), Ok("/b".into()));
        assert_eq!(path(socket(None, None)), Ok("/var/run/docker.sock".into()));
        let remote = path(socket(None, Some("tcp://there:2375"))).expect_err("another host's");
        assert!(remote.starts_with("DOCKER_HOST=tcp://there:2375 is not a unix socket"), "{remote}");
    }

    #[test]
    fn runtimes_are_expected_only_where_they_were_named() {
        #[derive(clap::Parser)]
        struct Serve {
            #[command(flatten)]
            args: Args,
        }
        let parsed = |line: &str| {
            let args = <Serve as clap::Parser>::parse_from(line.split(' ')).args;
            let options = options(args, PathBuf::new(), None).expect("they are good");
            (options.runtimes.into_iter().collect::<Vec<_>>(), options.expects_runtimes)
        };
        let (docker, netns) = (RuntimeKind::Docker, RuntimeKind::Netns);
        assert_eq!(parsed("serve"), (DEFAULT.to_vec(), false));
        assert_eq!(parsed("serve --docker-socket /host/run/docker.sock"), (DEFAULT.to_vec(), false));
        assert_eq!(parsed("serve --runtime netns,docker"), (vec![docker, netns], true));
        assert_eq!(parsed("serve --runtime netns"), (vec![netns], true));
    }
}
