//! Has rules carried out: each network namespace that a rule fits has its shaping, until it no longer fits.
//!
//! A person's own hand counts for more: a shaping that was set by hand stays until it ends, and a container from which a
//! rule's shaping was cleared by hand is exempt from that rule.

mod book;
mod decision;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(super) use self::book::Book;
use self::decision::{Action, Held, action};
use super::Daemon;
use crate::{
    clock::monotonic_ns,
    shaping::{
        Attempt, Container, Direction, InForce, Known, NetnsId, Operation, Origin, PolicyError, Presets,
        Request, Rule, RuleName, RuleView, Rules, RulesView, Shaping, ShapingError, Whole,
    },
};

/// The number of containers in which rules are carried out at once.
const AT_ONCE: usize = 16;

/// The rules, and what has become of them.
pub(super) struct Ruling {
    book: Arc<Book>,
    rules: Mutex<Arc<Rules>>,
    held: Mutex<BTreeMap<NetnsId, Held>>,
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
        let held = book.load();
        book.look();
        let rules = Mutex::new(Arc::new(book.rules()));
        let (errors, failures) = Default::default();
        let (held, changed) = (Mutex::new(held), Notify::new());
        Self { book: Arc::new(book), rules, held, labels_count, errors, failures, changed }
    }

    /// The rules that there are.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock())
    }

    /// Notes that something may make a difference.
    pub(super) fn touch(&self) {
        self.changed.notify_one();
    }

    /// Notes that a person has shaped a namespace by hand, or cleared it.
    pub(super) fn by_hand(&self, netns: NetnsId, is_cleared: bool) {
        let mut held = self.held.lock();
        match held.remove(&netns) {
            Some(Held::Ruled(rule)) if is_cleared => {
                held.insert(netns, Held::Exempt(rule.name.clone()));
            }
            Some(exempt @ Held::Exempt(_)) if is_cleared => {
                held.insert(netns, exempt);
            }
            _ => {}
        }
    }

    /// The rule whose shaping a namespace was given.
    pub(super) fn rule_in(&self, netns: NetnsId) -> Option<RuleName> {
        match self.held.lock().get(&netns)? {
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
        let mut saved = self.ruling.held.lock().clone();
        loop {
            let book = Arc::clone(&self.ruling.book);
            if self.blocking(move |_| book.look()).await {
                self.read_rules();
            }
            self.carry_out_rules().await;
            let held = self.ruling.held.lock().clone();
            if held != saved {
                match self.save_rules().await {
                    Ok(()) => saved = held,
                    Err(error) => tracing::warn!(%error, "what rules have done cannot be kept"),
                }
            }
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

    async fn save_rules(&self) -> Result<(), ShapingError> {
        let (book, held) = (Arc::clone(&self.ruling.book), self.ruling.held.lock().clone());
        let saved = self.blocking(move |_| book.save(&held)).await;
        saved.map_err(|error| Attempt::KeepRules.failed(format!("{error:#}")).into())
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
        let (book, held) = (Arc::clone(&self.ruling.book), self.ruling.held.lock().clone());
        let changed = self.blocking(move |_| book.change(change, &held)).await;
        changed?;
        self.read_rules();
        self.ruling.touch();
        Ok(())
    }

    /// Notes what a person has done to containers.
    pub(super) fn note_by_hand<'a>(
        &self,
        containers: impl IntoIterator<Item = &'a Container>,
        is_cleared: bool,
    ) {
        for netns in containers.into_iter().filter_map(|container| container.netns.as_ref()) {
            self.ruling.by_hand(netns.id, is_cleared);
        }
        self.ruling.touch();
    }

    /// The rules, and what has become of them.
    pub(super) fn view_rules(&self) -> RulesView {
        let now = SystemTime::now();
        let held = self.ruling.held.lock().clone();
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
        let wanted = self.wanted();
        let (present, has_all): (BTreeSet<_>, _) = {
            let registry = self.registry.lock();
            (registry.iter().filter_map(|one| Some(one.netns.as_ref()?.id)).collect(), registry.has_all())
        };
        let concerned: BTreeSet<NetnsId> = {
            let mut held = self.ruling.held.lock();
            // Until every runtime has told of its containers, one that is not seen is not gone.
            held.retain(|netns, _| !has_all || present.contains(netns));
            self.ruling.failures.lock().retain(|(_, netns), _| present.contains(netns));
            held.keys().filter(|netns| present.contains(netns)).chain(wanted.keys()).copied().collect()
        };
        let acts = |netns: &NetnsId| {
            let rule = wanted.get(netns).map(|(_, rule)| rule);
            self.action_in(*netns, rule) != Action::Nothing
        };
        let concerned: Vec<_> = concerned.into_iter().filter(acts).collect();
        let wanted = &wanted;
        stream::iter(concerned)
            .for_each_concurrent(AT_ONCE, |netns| async move {
                self.rule(netns, wanted.get(&netns)).await;
            })
            .await;
    }

    /// The rule for each namespace that one fits, and a container of it.
    fn wanted(&self) -> BTreeMap<NetnsId, (Container, Rule)> {
        let all: Vec<_> = self.registry.lock().iter().cloned().collect();
        let rules = self.ruling.rules();
        let known = Known { all: &all, resolve: &|name| self.resolve(name) };
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
                wanted.entry(netns).or_insert_with(|| (container, rule.clone()));
            }
        }
        wanted
    }

    fn action_in(&self, netns: NetnsId, rule: Option<&Rule>) -> Action {
        let is_shaped = !InForce::of(&self.datapath.view(netns)).is_empty();
        action(rule, self.ruling.held.lock().get(&netns), is_shaped)
    }

    /// Carries out the rule for a namespace, or ends what a rule did there.
    async fn rule(self: &Arc<Self>, netns: NetnsId, wanted: Option<&(Container, Rule)>) {
        let _turn = self.turns.take(netns).await;
        let rule = wanted.map(|(_, rule)| rule);
        // A person may have done something meanwhile.
        match (self.action_in(netns, rule), wanted) {
            (Action::Set, Some((container, rule))) => {
                let set = self.set_by(container.clone(), rule).await;
                self.tally.note(Operation::Set, Origin::Rule, &set, |()| true);
                match set {
                    Ok(()) => {
                        self.ruling.failures.lock().remove(&(rule.name.clone(), netns));
                        self.ruling.held.lock().insert(netns, Held::Ruled(Box::new(rule.clone())));
                    }
                    Err(error) => {
                        if self.ruling.fails(&rule.name, netns, &error) {
                            let (rule, container) = (&rule.name, &container.name);
                            tracing::warn!(%rule, container, %error, "a rule cannot be carried out");
                        }
                    }
                }
            }
            (Action::Clear, _) => {
                let container = self.registry.lock().sharing(netns).next().cloned();
                let Some(container) = container else { return };
                let cleared = Arc::clone(self).clear_now(container).await;
                self.tally.note(Operation::Clear, Origin::Rule, &cleared, |cleared| cleared.was_shaped);
                match cleared {
                    Ok(_) => drop(self.ruling.held.lock().remove(&netns)),
                    Err(error) => tracing::warn!(%error, "what a rule did cannot be cleared"),
                }
            }
            (Action::Forget, _) => drop(self.ruling.held.lock().remove(&netns)),
            (Action::Nothing | Action::Set, _) => {}
        }
    }

    async fn set_by(self: &Arc<Self>, container: Container, rule: &Rule) -> Result<(), ShapingError> {
        let whole = whole(rule, &self.presets, SystemTime::now()).map_err(ShapingError::Invalid)?;
        let request = Request::of_whole(whole);
        self.find(request.names()).await?;
        self.set_prepared(container, Arc::new(request)).await.map(drop)
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
