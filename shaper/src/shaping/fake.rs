//! A daemon without a kernel, for tests of those who talk to people.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::*;

/// A container id of the length that Docker's have.
pub(crate) const WEB: &str = "c0ffee0000000000000000000000000000000000000000000000000000000001";

/// Remembers shaping, in egress and ingress of one interface `eth0`.
#[derive(Default)]
pub(crate) struct FakeShaper {
    containers: Mutex<Vec<ContainerView>>,
    presets: Presets,
    rules: Mutex<BTreeMap<RuleName, Rule>>,
    pub(crate) journal: Mutex<Journal>,
    /// Each time another.
    revision: AtomicU64,
    /// The times that reports took.
    reports: Mutex<Durations>,
    /// The number of namespaces that [`Shaper::figures`] says nobody has.
    pub(crate) orphaned: Mutex<usize>,
    /// The number of times that [`Shaper::inspect`] and [`Shaper::list`] see packets wait after a clear.
    pub(crate) waits: Mutex<u64>,
    /// The reason why nothing can be shaped, if any.
    pub(crate) unready: Mutex<Option<String>>,
    /// True if the daemon no longer does its work.
    pub(crate) stalled: Mutex<bool>,
    /// The error that every change fails with, if any.
    pub(crate) failure: Mutex<Option<fn() -> ShapingError>>,
}

impl FakeShaper {
    pub(crate) fn new(containers: impl IntoIterator<Item = ContainerView>) -> Self {
        Self {
            containers: Mutex::new(containers.into_iter().collect()),
            presets: Presets::shipped(|_| Ok(())).expect("they are good"),
            ..Self::default()
        }
    }

    /// Returns a container as it is now.
    pub(crate) fn seen(&self, id: &str) -> ContainerView {
        let containers = self.containers.lock().expect("not poisoned");
        containers.iter().find(|view| view.container.id.as_str() == id).expect("a container").clone()
    }

    fn find(&self, name: &str) -> Result<ContainerView, ShapingError> {
        let containers = self.containers.lock().expect("not poisoned");
        let found: Vec<&ContainerView> = containers
            .iter()
            .filter(|view| view.container.name == name || view.container.id.as_str().starts_with(name))
            .collect();
        match found[..] {
            [] => Err(ShapingError::NotFound { name: name.to_owned(), near: Vec::new() }),
            [view] => Ok(view.clone()),
            _ => Err(ShapingError::Ambiguous {
                name: name.to_owned(),
                candidates: found.iter().map(|view| view.container.name.clone()).collect(),
            }),
        }
    }

    fn all(&self) -> Vec<Container> {
        let views = self.containers.lock().expect("not poisoned");
        let mut all: Vec<_> = views.iter().map(|view| view.container.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The protection of containers called `guarded`, beside the usual ones.
    fn protection(&self) -> Protection {
        Protection::new([].into(), [Selector::parse(["guarded"]).expect("a selector")])
    }

    /// Changes what `name` and those of its network namespace have.
    fn alter(
        &self,
        name: &str,
        change: impl Fn(&mut Vec<InterfaceView>) -> Result<(), ShapingError>,
    ) -> Result<ContainerView, ShapingError> {
        let mut changed = self.find(name)?;
        if changed.container.state != ContainerState::Running {
            let Container { name, state, .. } = changed.container;
            return Err(ShapingError::NotRunning { name, state });
        }
        if let Some(failure) = *self.failure.lock().expect("not poisoned") {
            return Err(failure());
        }
        change(&mut changed.interfaces)?;
        for view in self.containers.lock().expect("not poisoned").iter_mut() {
            if view.container.netns == changed.container.netns {
                view.interfaces = changed.interfaces.clone();
            }
        }
        Ok(changed)
    }

    /// One packet of a cleared container leaves each time that somebody looks.
    fn let_packets_leave(&self) {
        let mut waits = self.waits.lock().expect("not poisoned");
        *waits = waits.saturating_sub(1);
        for view in self.containers.lock().expect("not poisoned").iter_mut() {
            for interface in &mut view.interfaces {
                interface.queue.waiting = *waits;
            }
            view.interfaces.retain(|interface| *waits > 0 || interface.shaping != Shaping::default());
        }
    }
}

impl Shaper for FakeShaper {
    async fn list(&self) -> Vec<ContainerView> {
        self.let_packets_leave();
        self.containers.lock().expect("not poisoned").clone()
    }

    async fn ready(&self) -> Result<(), ShapingError> {
        match self.unready.lock().expect("not poisoned").clone() {
            Some(reason) => Err(Refusal::Blind { reason }.into()),
            None => Ok(()),
        }
    }

    fn problem(&self) -> Option<Problem> {
        let reason = self.unready.lock().expect("not poisoned").clone()?;
        Some(Problem { reason, since: SystemTime::UNIX_EPOCH })
    }

    fn alive(&self) -> Result<(), ShapingError> {
        match *self.stalled.lock().expect("not poisoned") {
            true => Err(Failure::Stalled { what: "done anything", seconds: 120 }.into()),
            false => Ok(()),
        }
    }

    async fn status(&self) -> Status {
        Status::of(&self.list().await, runtimes(), self.problem(), SystemTime::UNIX_EPOCH)
    }

    fn figures(&self) -> Figures {
        let rules = self.rules.lock().expect("not poisoned");
        Figures {
            started: SystemTime::UNIX_EPOCH,
            runtimes: runtimes(),
            rules: rules.values().map(|rule| rule.state(SystemTime::UNIX_EPOCH)).collect(),
            orphaned: *self.orphaned.lock().expect("not poisoned"),
            events: self.journal.lock().expect("not poisoned").counts().clone(),
            reports: self.reports.lock().expect("not poisoned").clone(),
        }
    }

    fn note_report(&self, took: Duration) {
        self.reports.lock().expect("not poisoned").add(took);
    }

    fn revision(&self) -> u64 {
        self.revision.fetch_add(1, Ordering::Relaxed)
    }

    async fn sampled(&self) {
        std::future::pending().await
    }

    async fn sharing(&self, netns: NetnsId) -> Vec<ContainerView> {
        let has = |view: &ContainerView| view.container.netns.as_ref().is_some_and(|other| other.id == netns);
        self.list().await.into_iter().filter(has).collect()
    }

    async fn set(
        self: &Arc<Self>,
        name: &str,
        request: Request,
        terms: Terms,
    ) -> Result<ContainerView, ShapingError> {
        let Terms { by, insistence, if_match } = terms;
        let container = self.find(name)?.container;
        if let Some(reason) =
            self.protection().of(&container).filter(|_| !insistence.reaches(&container, Some(name)))
        {
            return Err(Refusal::Protected { container: container.name, reason }.into());
        }
        let request = request.resolved(&self.presets).map_err(ShapingError::Invalid)?;
        let seen = self.find(name)?;
        if if_match.is_some_and(|tag| tag != seen.tag()) {
            return Err(ShapingError::Outdated { name: seen.container.name });
        }
        let before = InForce::of(&seen.interfaces);
        let set = self.alter(name, |interfaces| {
            for &direction in request.directions.each() {
                if !interfaces.iter().any(|view| view.direction == direction) {
                    interfaces.push(interface(direction, Shaping::default()));
                }
                for view in interfaces.iter_mut().filter(|view| view.direction == direction) {
                    view.shaping =
                        view.shaping.after(&request, direction, 1).map_err(ShapingError::Invalid)?;
                    view.remaining_ms = view.shaping.expires_at_ns.map(|ns| ns.get() / 1_000_000);
                }
            }
            Ok(())
        })?;
        let entry = Entry::of_change(&set.container, by, before, InForce::of(&set.interfaces));
        let mut journal = self.journal.lock().expect("not poisoned");
        entry.map(|entry| journal.add(entry, SystemTime::UNIX_EPOCH));
        Ok(set)
    }

    fn events(&self, after: Option<u64>, most: usize) -> Vec<Arc<Entry>> {
        let journal = self.journal.lock().expect("not poisoned");
        after.map_or_else(|| journal.last(most), |id| journal.after(id, most))
    }

    async fn next_events(&self, after: u64) -> Option<Vec<Arc<Entry>>> {
        Some(self.events(Some(after), KEPT)).filter(|events| !events.is_empty())
    }

    async fn clear(self: &Arc<Self>, name: &str, _terms: Terms) -> Result<Cleared, ShapingError> {
        let waits = *self.waits.lock().expect("not poisoned");
        let was_shaped = !self.find(name)?.interfaces.is_empty();
        let view = self.alter(name, |interfaces| {
            for view in interfaces.iter_mut() {
                (view.shaping, view.remaining_ms) = (Shaping::default(), None);
                view.queue.waiting = waits;
            }
            interfaces.retain(|_| waits > 0);
            Ok(())
        })?;
        Ok(Cleared { was_shaped, view })
    }

    async fn select(&self, selection: &Selection) -> Result<Vec<ContainerView>, ShapingError> {
        let all = self.all();
        let known = Known { all: &all, resolve: &|name| Ok(self.find(name)?.container) };
        Ok(selection.list(&known)?.into_iter().map(|one| self.seen(one.id.as_str())).collect())
    }

    /// One after the other, and with a failure, without putting back what came before.
    async fn change(
        self: &Arc<Self>,
        selection: Selection,
        order: Order,
        by: Author,
    ) -> Result<Changed, ShapingError> {
        let chosen = {
            let all = self.all();
            let known = Known { all: &all, resolve: &|name| Ok(self.find(name)?.container) };
            selection.choose(&known, &order, &self.protection())?
        };
        let mut results = Vec::new();
        for Chosen { container, shared_with, mut end, .. } in chosen {
            let id = container.id.as_str().to_owned();
            let before = InForce::of(&self.seen(&id).interfaces);
            if end == Completion::Planned && !selection.dry_run {
                let done = match &order {
                    Order::Set(request) => {
                        let terms = Terms { insistence: Insistence::Force, ..Terms::of(by.clone()) };
                        self.set(&id, Request::clone(request), terms).await.map(drop)
                    }
                    Order::Clear => self.clear(&id, Terms::of(by.clone())).await.map(drop),
                };
                let failed = |error: ShapingError| Completion::Failed(error.beside(&container.name));
                end = done.map_or_else(failed, |()| Completion::Changed);
            }
            let after = InForce::of(&self.seen(&id).interfaces);
            results.push(ContainerResult { container, shared_with, end, before, after });
        }
        Ok(Changed { results })
    }

    async fn rules(&self) -> RulesView {
        let rules = self.rules.lock().expect("not poisoned");
        let view = |rule: &Rule| RuleView {
            rule: rule.into(),
            state: rule.state(SystemTime::UNIX_EPOCH),
            file: None,
            containers: Vec::new(),
            problems: Vec::new(),
        };
        RulesView { rules: rules.values().map(view).collect(), problems: Vec::new() }
    }

    async fn put_rule(self: &Arc<Self>, rule: Rule) -> Result<(), ShapingError> {
        self.rules.lock().expect("not poisoned").insert(rule.name.clone(), rule);
        Ok(())
    }

    async fn suspend_rule(self: &Arc<Self>, name: &RuleName, suspended: bool) -> Result<(), ShapingError> {
        let no_rule = || ShapingError::NoRule { name: name.to_string() };
        self.rules
            .lock()
            .expect("not poisoned")
            .get_mut(name)
            .map(|rule| rule.is_suspended = suspended)
            .ok_or_else(no_rule)
    }

    async fn remove_rule(self: &Arc<Self>, name: &RuleName) -> Result<(), ShapingError> {
        let no_rule = || ShapingError::NoRule { name: name.to_string() };
        self.rules.lock().expect("not poisoned").remove(name).map(drop).ok_or_else(no_rule)
    }

    fn presets(&self) -> &Presets {
        &self.presets
    }

    async fn inspect(&self, name: &str) -> Result<Inspection, ShapingError> {
        self.let_packets_leave();
        let view = self.find(name)?;
        Ok(Inspection { details: view.interfaces.iter().map(detail).collect(), view })
    }
}

/// Docker, which is heard, and named namespaces, which are not.
fn runtimes() -> Vec<RuntimeStatus> {
    let problem = Some("list /run/netns: Permission denied (os error 13)".to_owned());
    vec![
        RuntimeStatus { runtime: RuntimeName::Docker, socket: None, containers: 1, problem: None },
        RuntimeStatus { runtime: RuntimeName::Netns, socket: None, containers: 0, problem },
    ]
}

/// A container that is not shaped; each has a network namespace of its own.
pub(crate) fn container(id: &str, name: &str, runtime: RuntimeName, state: ContainerState) -> ContainerView {
    let inode = name.bytes().fold(4_026_531_840, |sum, byte| sum * 3 + u64::from(byte));
    let netns = NetnsRef { id: NetnsId { dev: 4, inode }, path: PathBuf::from("/proc/42/ns/net") };
    ContainerView {
        container: Container::new(
            ContainerId::new(id).expect("a good id"),
            name.to_owned(),
            runtime,
            state,
            (state != ContainerState::Stopped).then_some(netns),
        ),
        interfaces: Vec::new(),
        rule: None,
        samples: Vec::new(),
    }
}

/// `web`, a running Docker container that is not shaped.
pub(crate) fn web() -> ContainerView {
    container(WEB, "web", RuntimeName::Docker, ContainerState::Running)
}

/// A container shaped in both directions for another ten minutes, with packets counted.
pub(crate) fn shaped_web() -> ContainerView {
    let egress = Shaping { expires_at_ns: NonZeroU64::new(900_000_000_000), ..shaping("delay 2s loss 10%") };
    let ingress = shaping("delay 200ms");
    let counted = InterfaceView {
        remaining_ms: Some(599_700),
        outcomes: Outcomes::default().with("delayed", 90, 8820).with("lost", 10, 980),
        queue: QueueCounts { waiting: 2, dropped: 0 },
        ..interface(Direction::Egress, egress)
    };
    ContainerView {
        interfaces: vec![counted, interface(Direction::Ingress, ingress)],
        samples: vec![
            Sample { at_ms: 1_700_000_000_000, passed: 9.0, dropped: 1.0 },
            Sample { at_ms: 1_700_000_001_000, passed: 8.0, dropped: 0.5 },
        ],
        ..web()
    }
}

/// Returns the policy of some words, without a deadline.
pub(crate) fn shaping(words: &str) -> Shaping {
    Effects::parse(words, &Named::default()).expect(words).into()
}

/// `eth0` with nothing counted.
pub(crate) fn interface(direction: Direction, shaping: Shaping) -> InterfaceView {
    InterfaceView {
        interface: "eth0".to_owned(),
        direction,
        shaping,
        state: ShapingState::Intact,
        remaining_ms: None,
        outcomes: Outcomes::default(),
        queue: QueueCounts::default(),
        invalid_policy: 0,
        orphan_failed: 0,
        networks: Vec::new(),
        names: Vec::new(),
    }
}

fn detail(view: &InterfaceView) -> InterfaceInspection {
    let (device, ifindex, netns_path) = match view.direction {
        Direction::Egress => ("eth0", 2, Some(PathBuf::from("/proc/42/ns/net"))),
        Direction::Ingress => ("veth7", 9, None),
    };
    InterfaceInspection {
        interface: view.interface.clone(),
        direction: view.direction,
        device: device.to_owned(),
        ifindex,
        netns_path,
        pin_path: PathBuf::from(format!("/sys/fs/bpf/shaper/netns-4026532200-if-2-{}", view.direction)),
        hook: Hook::Tcx,
        program_id: 17,
        root_qdisc: "fq 8001:".to_owned(),
        commands: vec!["bpftool prog show id 17".to_owned()],
    }
}
