//! Has rules carried out: each network namespace that a rule fits has its shaping, until it no longer fits.
//!
//! A person's own hand counts for more: a shaping that was set by hand stays until it ends, and a container from which a
//! rule's shaping was cleared by hand is exempt from that rule.

mod book;
mod decision;
mod memory;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(super) use self::book::Book;
use self::{
    decision::{Action, Held, action},
    memory::Memory,
};
use super::Daemon;
use crate::{
    clock::monotonic_ns,
    containers,
    shaping::{
        Author, Container, Direction, InForce, Known, NetnsId, PolicyError, Presets, Request, Rule, RuleName,
        RuleView, Rules, RulesView, Shaping, ShapingError, Whole,
    },
};

/// The number of containers in which rules are carried out at once.
const AT_ONCE: usize = 16;

/// The rules, and what has become of them.
pub(super) struct Ruling {
    book: Arc<Book>,
    rules: Mutex<Arc<Rules>>,
    memory: Arc<Mutex<Memory>>,
    /// True if containers' own labels count.
    labels_count: bool,
    /// The reasons why rules cannot be carried out, which have been logged.
    errors: Mutex<BTreeMap<(RuleName, Option<NetnsId>), String>>,
    /// The reasons why rules could not be carried out in a namespace, which have been logged.
    failures: Mutex<BTreeMap<(RuleName, NetnsId), String>>,
    /// Rung when rules, containers, or what people did may make a difference.
    changed: Notify,
}

impl Ruling {
    /// The rules of a book, which is read by now, and what containers' own labels say, if those count.
    pub(super) fn new(book: Book, labels_count: bool) -> Self {
        let memory = Arc::new(Mutex::new(Memory::of(book.load())));
        book.look();
        let rules = Mutex::new(Arc::new(book.rules()));
        let (errors, failures, changed) = (Mutex::default(), Mutex::default(), Notify::new());
        Self { book: Arc::new(book), rules, memory, labels_count, errors, failures, changed }
    }

    /// The rules that there are.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock())
    }

    /// Forgets what was done in a namespace that no container has any more.
    pub(super) fn forget(&self, netns: NetnsId) {
        self.memory.lock().forget(netns);
    }

    /// Notes that something may make a difference.
    pub(super) fn touch(&self) {
        self.changed.notify_one();
    }

    /// Forgets why rules failed in namespaces, but in those of which they are `set` now.
    fn forget_failures(&self, set: &BTreeMap<NetnsId, Rule>) {
        let is_set = |rule: &RuleName, netns| set.get(&netns).is_some_and(|set| set.name == *rule);
        self.failures.lock().retain(|(rule, netns), _| is_set(rule, *netns));
    }

    /// The rule whose shaping a namespace was given.
    pub(super) fn rule_in(&self, netns: NetnsId) -> Option<RuleName> {
        match self.memory.lock().held.get(&netns)? {
            Held::Ruled(rule) => Some(rule.name.clone()),
            Held::Exempt(_) => None,
        }
    }

    /// Notes the failure of a rule in a namespace, and returns true if it is news.
    fn fails(&self, rule: &RuleName, netns: NetnsId, error: &ShapingError) -> bool {
        let text = error.to_string();
        self.failures.lock().insert((rule.clone(), netns), text.clone()).as_ref() != Some(&text)
    }

    /// The reasons why a rule cannot be carried out, or could not.
    fn problems(&self, rule: &RuleName) -> Vec<String> {
        let (errors, failures) = (self.errors.lock(), self.failures.lock());
        let errors = errors.iter().filter(|((name, _), _)| name == rule).map(|(_, problem)| problem);
        let failures = failures.iter().filter(|((name, _), _)| name == rule).map(|(_, problem)| problem);
        let mut problems: Vec<_> = errors.chain(failures).cloned().collect();
        problems.dedup();
        problems
    }
}

impl Daemon {
    /// Has rules carried out, for ever.
    pub(super) async fn follow_rules(self: Arc<Self>) {
        loop {
            let book = Arc::clone(&self.ruling.book);
            if self.blocking(move |_| book.look()).await {
                self.read_rules();
            }
            self.carry_out_rules().await;
            self.keep_memory().await;
            tokio::select! {
                () = self.ruling.changed.notified() => {}
                () = self.sampled.notified() => {}
            }
        }
    }

    fn read_rules(&self) {
        *self.ruling.rules.lock() = Arc::new(self.ruling.book.rules());
        self.ruling.failures.lock().clear();
        self.touch();
    }

    /// Writes what is remembered, if that is not what has been written.
    async fn keep_memory(&self) {
        if self.ruling.memory.lock().is_kept() {
            return;
        }
        let (book, memory) = (Arc::clone(&self.ruling.book), Arc::clone(&self.ruling.memory));
        if let Err(error) = self.blocking(move |_| book.save(&memory)).await {
            let error = format!("{error:#}");
            tracing::warn!(error, "what rules have done cannot be kept");
        }
    }

    /// Changes the rules that were asked for, and keeps them.
    ///
    /// # Errors
    ///
    /// The errors of the change, and one when they cannot be kept; they are as they were then.
    pub(super) async fn change_rules(
        &self,
        change: impl FnOnce(&Book) -> Result<(), ShapingError> + Send + 'static,
    ) -> Result<(), ShapingError> {
        let (book, memory) = (Arc::clone(&self.ruling.book), Arc::clone(&self.ruling.memory));
        let changed = self.blocking(move |_| book.change(change, &memory)).await;
        changed?;
        self.read_rules();
        self.ruling.touch();
        Ok(())
    }

    /// Notes what a person has done to containers, which is to be done before others have their turn to change them.
    pub(super) async fn note_by_hand(
        &self,
        containers: impl IntoIterator<Item = &Container>,
        is_cleared: bool,
    ) {
        {
            let mut memory = self.ruling.memory.lock();
            containers.into_iter().for_each(|container| memory.by_hand(container, is_cleared));
        }
        self.keep_memory().await;
        self.ruling.touch();
    }

    /// The rules, and what has become of them.
    pub(super) fn view_rules(&self) -> RulesView {
        let now = SystemTime::now();
        let held = self.ruling.memory.lock().held.clone();
        let registry = self.registry.lock();
        let view = |rule: &Rule| {
            let ruled =
                held.iter().filter(|(_, held)| matches!(held, Held::Ruled(one) if one.name == rule.name));
            let mut containers: Vec<_> =
                ruled.filter_map(|(netns, _)| Some(registry.sharing(*netns).next()?.name.clone())).collect();
            containers.sort();
            let problems = self.ruling.problems(&rule.name);
            let file = self.ruling.book.file_of(&rule.name);
            RuleView { rule: rule.into(), state: rule.state(now), file, containers, problems }
        };
        let rules = self.ruling.rules().iter().map(view).collect();
        let of_labels = self.ruling.problems(&RuleName::of_labels());
        RulesView { rules, problems: self.ruling.book.problems().into_iter().chain(of_labels).collect() }
    }

    async fn carry_out_rules(self: &Arc<Self>) {
        let (all, has_all): (Vec<_>, _) = {
            let registry = self.registry.lock();
            (registry.iter().cloned().collect(), registry.has_all())
        };
        let mut present: BTreeMap<NetnsId, Vec<&Container>> = BTreeMap::new();
        for (netns, one) in all.iter().filter_map(|one| Some((one.netns.as_ref()?.id, one))) {
            present.entry(netns).or_default().push(one);
        }
        let wanted = self.wanted(&all);
        let concerned: BTreeSet<NetnsId> = {
            let mut memory = self.ruling.memory.lock();
            memory.compare(&present, has_all);
            let held = memory.held.keys().filter(|netns| present.contains_key(netns));
            held.chain(wanted.keys()).copied().collect()
        };
        let acts = |netns: &NetnsId| {
            let rule = wanted.get(netns).map(|(_, rule)| rule);
            self.action_in(*netns, rule) != Action::Nothing
        };
        let concerned: BTreeSet<_> = concerned.into_iter().filter(acts).collect();
        let set = concerned.iter().filter_map(|netns| Some((*netns, wanted.get(netns)?.1.clone()))).collect();
        self.ruling.forget_failures(&set);
        // Before it is done: the next daemon is not to take it for what a person did.
        self.ruling.memory.lock().intend(set);
        self.keep_memory().await;
        let wanted = &wanted;
        stream::iter(concerned)
            .for_each_concurrent(AT_ONCE, |netns| async move {
                self.rule(netns, wanted.get(&netns)).await;
            })
            .await;
    }

    /// The rule for each namespace that one fits, and a container of it.
    fn wanted(&self, all: &[Container]) -> BTreeMap<NetnsId, (Container, Rule)> {
        let rules = self.ruling.rules();
        let known = Known { all, resolve: &|name| self.resolve(name) };
        let labels_count = self.ruling.labels_count;
        let rulings = rules.rulings(&known, &self.protection, labels_count, SystemTime::now());
        let mut errors = self.ruling.errors.lock();
        for (about, error) in rulings.errors.iter().filter(|(about, error)| errors.get(about) != Some(error))
        {
            tracing::warn!(rule = %about.0, error, "a rule cannot be carried out");
        }
        *errors = rulings.errors;
        drop(errors);
        let mut wanted = BTreeMap::new();
        for container in all {
            let Some(netns) = container.netns.as_ref().map(|netns| netns.id) else { continue };
            if let Some(rule) = rulings.rules.get(&netns) {
                wanted.entry(netns).or_insert_with(|| (container.clone(), rule.clone()));
            }
        }
        wanted
    }

    fn action_in(&self, netns: NetnsId, rule: Option<&Rule>) -> Action {
        let is_shaped = !InForce::of(&self.datapath.view(netns)).is_empty();
        action(rule, self.ruling.memory.lock().held.get(&netns), is_shaped)
    }

    /// Carries out the rule for a namespace, or ends what a rule did there.
    async fn rule(self: &Arc<Self>, netns: NetnsId, wanted: Option<&(Container, Rule)>) {
        let _turn = self.turns.take(netns).await;
        let rule = wanted.map(|(_, rule)| rule);
        // A person may have done something meanwhile.
        match (self.action_in(netns, rule), wanted) {
            (Action::Set, Some((container, rule))) => match self.set_by(container.clone(), rule).await {
                Ok(()) => {
                    self.ruling.failures.lock().remove(&(rule.name.clone(), netns));
                    self.ruling.memory.lock().held.insert(netns, Held::Ruled(Box::new(rule.clone())));
                }
                // The runtime has not told of its end yet.
                Err(_) if container.netns.as_ref().is_some_and(containers::has_gone) => {}
                Err(error) => {
                    if self.ruling.fails(&rule.name, netns, &error) {
                        let (rule, container) = (&rule.name, &container.name);
                        tracing::warn!(%rule, container, %error, "a rule cannot be carried out");
                        self.record_refusal(container, &error, Author::Rule { name: rule.to_string() });
                    }
                }
            },
            (Action::Clear, _) => {
                let container = self.registry.lock().sharing(netns).next().cloned();
                let Some(container) = container else { return };
                let by = Author::Rule {
                    name: self.ruling.rule_in(netns).map_or_else(String::new, |rule| rule.to_string()),
                };
                match Arc::clone(self).clear_now(container, by).await {
                    Ok(_) => drop(self.ruling.memory.lock().held.remove(&netns)),
                    Err(error) => tracing::warn!(%error, "what a rule did cannot be cleared"),
                }
            }
            (Action::Forget, _) => drop(self.ruling.memory.lock().held.remove(&netns)),
            (Action::Nothing | Action::Set, _) => {}
        }
    }

    async fn set_by(self: &Arc<Self>, container: Container, rule: &Rule) -> Result<(), ShapingError> {
        let whole = whole(rule, &self.presets, SystemTime::now()).map_err(ShapingError::Invalid)?;
        let request = Request::of_whole(whole);
        self.find(request.names()).await?;
        let by = Author::Rule { name: rule.name.to_string() };
        self.set_prepared(container, Arc::new(request), by).await.map(drop)
    }
}

/// The whole shaping of a container that a rule asks for, with the time that the rule has left.
fn whole(rule: &Rule, presets: &Presets, now: SystemTime) -> Result<Whole, PolicyError> {
    let left = rule.until.map(|until| until.duration_since(now).unwrap_or_default());
    let mut sides: BTreeMap<Direction, Shaping> = BTreeMap::new();
    for request in &rule.requests {
        let request = request.clone().resolved(presets)?;
        for direction in request.directions.each() {
            let before = sides.remove(direction).unwrap_or_default();
            sides.insert(*direction, before.after(&request, *direction, monotonic_ns())?);
        }
    }
    Ok(Whole::of(sides.iter().map(|(direction, shaping)| (*direction, &shaping.policy, left))))
}
