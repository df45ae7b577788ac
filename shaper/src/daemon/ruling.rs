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
        Attempt, Container, Direction, InForce, Known, NetnsId, PolicyError, Presets, Request, Rule,
        RuleName, RuleView, Rules, RulesView, Shaping, ShapingError, Whole,
    },
};

/// The number of containers in which rules are carried out at once.
const AT_ONCE: usize = 16;

/// The rules, and what has become of them.
pub(super) struct Ruling {
    book: Arc<Book>,
    rules: Mutex<Arc<Rules>>,
    held: Mutex<BTreeMap<NetnsId, Held>>,
    /// The reasons why rules could not be carried out, which have been logged.
    failures: Mutex<BTreeMap<(RuleName, Option<NetnsId>), String>>,
    /// Rung when rules, containers, or what people did may make a difference.
    changed: Notify,
}

impl Ruling {
    /// The rules of a book, which is read by now.
    pub(super) fn new(book: Book) -> Self {
        let held = book.load();
        book.look();
        let rules = Mutex::new(Arc::new(book.rules()));
        let (failures, changed) = (Mutex::default(), Notify::new());
        Self { book: Arc::new(book), rules, held: Mutex::new(held), failures, changed }
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

    /// Notes the failure of a rule, and returns true if it is news.
    fn fails(&self, rule: &RuleName, netns: Option<NetnsId>, error: &ShapingError) -> bool {
        let text = error.to_string();
        self.failures.lock().insert((rule.clone(), netns), text.clone()).as_ref() != Some(&text)
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
        let failures = self.ruling.failures.lock().clone();
        let registry = self.registry.lock();
        let view = |rule: &Rule| {
            let ruled =
                held.iter().filter(|(_, held)| matches!(held, Held::Ruled(one) if one.name == rule.name));
            let mut containers: Vec<_> =
                ruled.filter_map(|(netns, _)| Some(registry.sharing(*netns).next()?.name.clone())).collect();
            containers.sort();
            let problems = failures.iter().filter(|((name, _), _)| *name == rule.name);
            let mut problems: Vec<_> = problems.map(|(_, problem)| problem.clone()).collect();
            problems.dedup();
            let file = self.ruling.book.file_of(&rule.name);
            RuleView { rule: rule.into(), state: rule.state(now), file, containers, problems }
        };
        let rules = self.ruling.rules().iter().map(view).collect();
        RulesView { rules, problems: self.ruling.book.problems() }
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
        let (rulings, errors) = rules.rulings(&known, &self.protection, SystemTime::now());
        for (rule, error) in errors {
            if self.ruling.fails(rule, None, &error) {
                tracing::warn!(%rule, %error, "a rule cannot be carried out");
            }
        }
        let of =
            |netns: NetnsId| all.iter().find(|one| one.netns.as_ref().is_some_and(|own| own.id == netns));
        rulings
            .into_iter()
            .filter_map(|(netns, rule)| Some((netns, (of(netns)?.clone(), rule.clone()))))
            .collect()
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
            (Action::Set, Some((container, rule))) => match self.set_by(container.clone(), rule).await {
                Ok(()) => {
                    self.ruling.failures.lock().remove(&(rule.name.clone(), Some(netns)));
                    self.ruling.held.lock().insert(netns, Held::Ruled(Box::new(rule.clone())));
                }
                Err(error) => {
                    if self.ruling.fails(&rule.name, Some(netns), &error) {
                        let (rule, container) = (&rule.name, &container.name);
                        tracing::warn!(%rule, container, %error, "a rule cannot be carried out");
                    }
                }
            },
            (Action::Clear, _) => {
                let container = self.registry.lock().sharing(netns).next().cloned();
                let Some(container) = container else { return };
                match Arc::clone(self).clear_now(container).await {
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
    let request = rule.request.clone().resolved(presets)?;
    let left = rule.until.map(|until| until.duration_since(now).unwrap_or_default());
    let sides = request.directions.each().iter().map(|direction: &Direction| {
        let shaping = Shaping::default().after(&request, *direction, monotonic_ns())?;
        Ok((*direction, shaping.policy, left))
    });
    let sides: Vec<_> = sides.collect::<Result<_, PolicyError>>()?;
    Ok(Whole::of(sides.iter().map(|(direction, policy, left)| (*direction, policy, *left))))
}
