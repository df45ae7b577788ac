//! Wires containers, datapath and adapters together.

mod changes;
mod chronicle;
mod health;
mod hosts;
mod many;
mod names;
mod ruling;
mod runtimes;
mod selecting;
mod shaper;
mod tasks;
mod turns;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::Mutex;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

pub(crate) use self::chronicle::AuditLog;
use self::{
    chronicle::Chronicle,
    health::Health,
    hosts::Hosts,
    ruling::{Book, Ruling},
    tasks::Tasks,
    turns::Turns,
};
use crate::{
    api,
    containers::{self, Registry, Update},
    datapath::{Datapath, LogRing},
    files,
    scope::{self, Buttons},
    server::{self, PluginSocket, TcpOptions, TcpSocket},
    shaping::{
        Action, Author, ContainerState, Direction, Durations, Effects, Entry, Event, EventKind, History,
        Hook, InForce, Named, NetnsId, PolicyError, Presets, Protection, RuntimeKind, RuntimeName, Selector,
        Shaper, Totals,
    },
};

/// The interval at which counters are read for the rates, and what is over is looked for.
const TICK: Duration = Duration::from_secs(1);
/// The interval at which that is done while packets still leave a cleared shaping.
const DRAINING_TICK: Duration = Duration::from_millis(20);
/// Updates from runtimes that may wait.
const UPDATES: usize = 64;

/// The options of `shaper serve`.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen, for Scope's probe and for our own commands.
    pub(crate) plugin_socket: PathBuf,
    /// The group whose members may use the socket as well.
    pub(crate) socket_group: Option<String>,
    /// Where to listen on TCP besides.
    pub(crate) tcp: Option<TcpOptions>,
    /// The runtimes to watch.
    pub(crate) runtimes: BTreeSet<RuntimeKind>,
    /// True if they were asked for by name, and not only in case they are there.
    pub(crate) expects_runtimes: bool,
    /// The Docker Engine's socket.
    pub(crate) docker_socket: PathBuf,
    /// The sockets of CRI runtimes; where they usually are, if there are none.
    pub(crate) cri_sockets: Vec<PathBuf>,
    /// The directory with named network namespaces.
    pub(crate) netns_dir: PathBuf,
    /// The directory, in bpffs, for pinned programs and maps.
    pub(crate) pin_dir: PathBuf,
    /// The hook that programs are put on; the best that the kernel has, if none was named.
    pub(crate) hook: Option<Hook>,
    /// A file with more presets, if there is one.
    pub(crate) presets: Option<PathBuf>,
    /// The presets that have buttons in Scope, by name.
    pub(crate) scope_presets: Vec<String>,
    /// The containers that are not shaped by accident.
    pub(crate) protect: Vec<Selector>,
    /// The directory with rule files, which need not exist.
    pub(crate) rules_dir: PathBuf,
    /// A file for all events, if there is to be one.
    pub(crate) audit_log: Option<AuditLog>,
    /// True if containers' own labels say how they are shaped.
    pub(crate) labels: bool,
    /// The directory for what is kept from one daemon to the next.
    pub(crate) state_dir: PathBuf,
}

/// Runs the daemon until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
///
/// When the socket cannot be opened, and when a task ends that the daemon cannot do without. Shaping is left as it is, whatever the reason for the end.
pub(crate) async fn serve(options: Options) -> anyhow::Result<()> {
    raise_file_limit();
    let presets = presets(options.presets.as_deref())?;
    // Before anything is touched: a second daemon ends here.
    let socket = PluginSocket::bind(&options.plugin_socket, options.socket_group.as_deref())?;
    let tcp = match options.tcp.clone() {
        Some(tcp) => Some(TcpSocket::bind(tcp).await?),
        None => None,
    };
    let datapath = Datapath::new(options.pin_dir.clone(), options.hook, runtimes::blindness(&options))
        .context("look at the host's network namespace")?;
    let protection =
        Protection::new(containers::own(runtimes::engines(&options)), options.protect.iter().cloned());
    let book = Book::new(options.rules_dir.clone(), options.state_dir.join("rules.json"));
    let ruling = Ruling::new(book, options.labels);
    let chronicle = Chronicle::new(options.audit_log.as_ref())?;
    let names = runtimes::names(&options);
    let daemon = Arc::new(Daemon::new(datapath, presets, protection, ruling, chronicle, names));
    // Not the end: the reason may go away, and until then each request is answered with it.
    if let Err(error) = daemon.ready().await {
        tracing::error!(%error, "nothing can be shaped yet");
    }
    let mut tasks = Tasks::default();
    let (sender, updates) = mpsc::channel(UPDATES);
    runtimes::watch(&options, &sender, &mut tasks);
    drop(sender);
    tasks.spawn("follows containers", Arc::clone(&daemon).follow(updates));
    tasks.spawn("takes away what is over", Arc::clone(&daemon).settle());
    tasks.spawn("reads counters", Arc::clone(&daemon).sample());
    tasks.spawn("follows names in targets", Arc::clone(&daemon).follow_names());
    tasks.spawn("looks up hosts in targets", Arc::clone(&daemon).follow_hosts());
    tasks.spawn("carries out rules", Arc::clone(&daemon).follow_rules());
    tasks.spawn("shows what BPF logs", Arc::clone(&daemon).forward_log());
    let router = router(Arc::clone(&daemon), &options.scope_presets).map_err(anyhow::Error::msg)?;
    tracing::info!(socket = %options.plugin_socket.display(), "listening");
    if let Some(tcp) = &tcp {
        tracing::info!(address = %tcp.address().context("look at the address")?, "listening on TCP");
    }
    let mut ended = None;
    let stopped = stopped()?;
    let end = async {
        tokio::select! {
            () = stopped => {}
            error = tasks.ended() => ended = Some(error),
        }
        // Whoever follows events is not to be waited for.
        daemon.chronicle.close();
    };
    server::serve(socket, tcp, router, end).await;
    tasks.shut_down().await;
    daemon.blocking(Datapath::close).await;
    if let Some(error) = ended {
        return Err(error);
    }
    tracing::info!("stopped; shaping stays as it is");
    Ok(())
}

/// The presets that are shipped, and those of a file.
fn presets(file: Option<&Path>) -> anyhow::Result<Presets> {
    let check = |words: &str| Effects::parse(words, &Named::default()).map(drop);
    let shipped = Presets::shipped(check).map_err(anyhow::Error::msg)?;
    let Some(path) = file else { return Ok(shipped) };
    let name = path.display().to_string();
    let text = files::read(path).map_err(|error| anyhow::anyhow!("--presets: {error}"))?;
    Ok(shipped.merged(Presets::parse(&name, &text, check).map_err(anyhow::Error::msg)?))
}

/// Answers Scope's probe and our own commands, which share the socket; `scope_presets` have buttons in Scope.
///
/// # Errors
///
/// When there is no such preset.
pub(crate) fn router<S: Shaper>(
    shaper: Arc<S>,
    scope_presets: &[String],
) -> Result<axum::Router, PolicyError> {
    let title =
        |name: &String| shaper.presets().find(name).map(|preset| (name.clone(), preset.title.clone()));
    let titles: Vec<_> = scope_presets.iter().map(title).collect::<Result<_, _>>()?;
    let buttons = Buttons::with_presets(titles.iter().map(|(name, title)| (name.as_str(), title.as_str())));
    Ok(scope::router(Arc::clone(&shaper), buttons).merge(api::router(shaper)))
}

/// Allows as many open files as may be had: each shaped interface and direction has two maps.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

struct Daemon {
    datapath: Arc<Datapath>,
    presets: Presets,
    protection: Protection,
    ruling: Ruling,
    registry: Mutex<Registry>,
    histories: Mutex<BTreeMap<NetnsId, History>>,
    /// The last known names of the containers that are shaped.
    owners: Mutex<BTreeMap<NetnsId, String>>,
    chronicle: Chronicle,
    health: Health,
    /// The times that reports to Scope took to make.
    reports: Mutex<Durations>,
    /// True once the datapath is ready, and all containers have been looked at since.
    is_ready: AtomicBool,
    hosts: Hosts,
    turns: Turns,
    /// Rung when containers have changed, and so perhaps their addresses.
    renamed: Notify,
    /// Rung when something has to be taken away that still waits.
    changed: Notify,
    /// See [`Shaper::revision`].
    revision: AtomicU64,
    /// Rung when counters have been read.
    sampled: Notify,
}

impl Daemon {
    fn new(
        datapath: Datapath,
        presets: Presets,
        protection: Protection,
        ruling: Ruling,
        chronicle: Chronicle,
        runtimes: impl IntoIterator<Item = RuntimeName>,
    ) -> Self {
        Self {
            datapath: Arc::new(datapath),
            presets,
            protection,
            ruling,
            registry: Mutex::new(Registry::awaiting(runtimes)),
            histories: Mutex::default(),
            owners: Mutex::default(),
            chronicle,
            health: Health::new(),
            reports: Mutex::default(),
            is_ready: AtomicBool::new(false),
            hosts: Hosts::new(),
            turns: Turns::default(),
            renamed: Notify::new(),
            changed: Notify::new(),
            revision: AtomicU64::default(),
            sampled: Notify::new(),
        }
    }

    /// Runs blocking work on the datapath off the asynchronous threads.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Datapath) -> T + Send + 'static) -> T {
        let datapath = Arc::clone(&self.datapath);
        match spawn_blocking(move || work(&datapath)).await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Takes in what runtimes tell.
    async fn follow(self: Arc<Self>, mut updates: mpsc::Receiver<Update>) {
        while let Some(update) = updates.recv().await {
            let sees_all = |registry: &Registry| registry.has_all() && !registry.has_unseen();
            let (affected, sees_all_now) = {
                let mut registry = self.registry.lock();
                let saw_all = sees_all(&registry);
                let affected = registry.apply(update);
                for netns in &affected.netns {
                    self.datapath.connected(*netns, registry.networks(*netns));
                }
                (affected, !saw_all && sees_all(&registry))
            };
            for netns in affected.netns {
                self.refresh(netns).await;
            }
            self.renamed.notify_one();
            self.ruling.touch();
            if sees_all_now {
                for netns in self.datapath.shaped() {
                    self.refresh(netns).await;
                }
            }
            self.touch();
        }
    }

    /// Has the shaping of a namespace follow its containers: with the last of them it goes, unless it may be that of a
    /// container whose namespace cannot be seen.
    async fn refresh(&self, netns: NetnsId) {
        let (owner, has_unseen) = {
            let registry = self.registry.lock();
            (registry.sharing(netns).next().cloned(), registry.has_unseen())
        };
        if owner.is_none() && has_unseen {
            return;
        }
        let cleared = match owner.and_then(|container| container.netns) {
            Some(netns) => self.blocking(move |datapath| Ok(datapath.refresh(&netns))).await,
            None => {
                self.ruling.forget(netns);
                self.blocking(move |datapath| datapath.clear_orphaned(netns)).await
            }
        };
        match cleared {
            Ok(draining) => self.look_after(draining),
            Err(error) => {
                tracing::warn!(netns = netns.inode, %error, "cannot clear what no container has any more");
            }
        }
    }

    /// Notes that [`Shaper::list`] may say something else.
    fn touch(&self) {
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// Has what is draining looked at soon, and not only when the next second is over.
    fn look_after(&self, draining: bool) {
        if draining {
            self.changed.notify_one();
        }
    }

    /// Tries again what could not be done at the start: to make the datapath ready, and to take over what is pinned.
    async fn prepare(&self) {
        if let Err(error) = self.ready().await {
            return tracing::debug!(%error, "nothing can be shaped yet");
        }
        // A request may have made the datapath ready.
        if self.is_ready.swap(true, Ordering::Relaxed) {
            return self.blocking(Datapath::retry_kept).await;
        }
        tracing::info!("ready");
        let known: BTreeSet<_> =
            self.registry.lock().iter().filter_map(|c| Some(c.netns.as_ref()?.id)).collect();
        for netns in known {
            self.refresh(netns).await;
        }
        self.touch();
    }

    /// Takes away what is over, for ever.
    async fn settle(self: Arc<Self>) {
        loop {
            self.health.settles();
            self.prepare().await;
            let mut draining = self.blocking(|datapath| datapath.settle(&datapath.shaped())).await;
            let end = Instant::now() + TICK;
            // Until the next look at all, only at what is draining.
            loop {
                let pause = if draining.is_empty() { TICK } else { DRAINING_TICK };
                let until = end.min(Instant::now() + pause);
                if timeout_at(until, self.changed.notified()).await.is_ok() || Instant::now() >= end {
                    break;
                }
                draining = self.blocking(move |datapath| datapath.settle(&draining)).await;
            }
        }
    }

    /// Reads counters, for ever.
    async fn sample(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.health.samples();
            let totals = self.blocking(totals).await;
            let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            self.remember_owners(&totals);
            self.tell_events(&totals);
            let mut histories = self.histories.lock();
            histories.retain(|netns, _| totals.contains_key(netns));
            for (netns, totals) in totals {
                histories.entry(netns).or_default().record(u64::try_from(at_ms).unwrap_or(u64::MAX), totals);
            }
            drop(histories);
            self.touch();
            self.sampled.notify_waiters();
        }
    }

    /// Hands what BPF logs to the daemon's own log, once there is anything that may log; for ever.
    async fn forward_log(self: Arc<Self>) {
        loop {
            if let Some(ring) = self.datapath.take_log_ring() {
                forward(ring).await;
            }
            self.sampled().await;
        }
    }

    /// Notes the containers that are shaped, as events may be told of them after they have gone.
    fn remember_owners(&self, shaped: &BTreeMap<NetnsId, Totals>) {
        let registry = self.registry.lock();
        let named =
            |netns: &NetnsId| registry.sharing(*netns).next().map(|owner| (*netns, owner.name.clone()));
        self.owners.lock().extend(shaped.keys().filter_map(named));
    }

    /// Says what has happened to shaping without a request: the one place that does.
    fn tell_events(&self, shaped: &BTreeMap<NetnsId, Totals>) {
        let mut owners = self.owners.lock();
        for Event { netns, interface, direction, effects, kind } in self.datapath.take_events() {
            let owner = owners.get(&netns).cloned();
            let kind = match kind {
                EventKind::Ended(reason) => {
                    let fate = owner.as_ref().and_then(|owner| self.fate(owner, netns));
                    EventKind::Ended(fate.unwrap_or(reason))
                }
                kind => kind,
            };
            let container = owner.unwrap_or_else(|| format!("netns {}", netns.inode));
            tracing::info!(container, interface, %direction, effects, "shaping {kind}");
            self.chronicle.add(entry(&kind, &container, interface, direction, effects));
        }
        owners.retain(|netns, _| shaped.contains_key(netns));
    }

    /// The reason why a container is no longer in `netns`; none if it still is.
    fn fate(&self, name: &str, netns: NetnsId) -> Option<&'static str> {
        let Ok(container) = self.resolve(name) else { return Some("its container was removed") };
        let is_there = container.netns.is_some_and(|own| own.id == netns);
        match container.state {
            _ if is_there => None,
            ContainerState::Running => Some("its container was restarted"),
            _ => Some("its container has stopped"),
        }
    }
}

/// The entry on an event without a request.
fn entry(
    kind: &EventKind,
    container: &str,
    interface: String,
    direction: Direction,
    effects: String,
) -> Entry {
    let (action, reason) = match kind {
        EventKind::Ended(reason) => (Action::Ended, Some((*reason).to_owned())),
        EventKind::Broken(reason) => (Action::Broken, Some(reason.clone())),
        EventKind::Repaired(reason) => (Action::Repaired, Some(reason.clone())),
        EventKind::Moved => (Action::Moved, None),
    };
    let line =
        InForce { interface: interface.clone(), direction, netem: effects, targets: 0, remaining_ms: None };
    let (before, after) = if action == Action::Ended { (vec![line], vec![]) } else { (vec![], vec![line]) };
    let (interface, direction) = (Some(interface), Some(direction));
    Entry { interface, direction, reason, before, after, ..Entry::new(action, container, Author::Shaper) }
}

fn totals(datapath: &Datapath) -> BTreeMap<NetnsId, Totals> {
    let shaped = datapath.shaped();
    datapath.look_at(&shaped);
    shaped.into_iter().map(|netns| (netns, Totals::of(&datapath.view(netns)))).collect()
}

/// Hands what BPF logs to the daemon's own log.
async fn forward(ring: LogRing) {
    #[expect(unsafe_code, reason = "tokio calls every other way to make an AsyncFd deprecated")]
    // SAFETY: the ring has one descriptor all its life, and nothing takes it out of the `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = match registered {
        Ok(ring) => ring,
        Err(error) => return tracing::warn!(%error, "what BPF logs will not be shown"),
    };
    while let Ok(mut guard) = ring.readable_mut().await {
        guard.get_inner_mut().drain();
        guard.clear_ready();
    }
}
