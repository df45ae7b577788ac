//! Answers those who talk to people.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use super::{Daemon, ruling::Book};
use crate::{
    datapath::Datapath,
    shaping::{
        Changed, Cleared, Completion, ContainerView, Figures, Insistence, Inspection, NetnsId, Operation,
        Order, Origin, Presets, Problem, Request, Rule, RuleName, RulesView, Selection, Shaper, ShapingError,
        Status,
    },
};

impl Shaper for Daemon {
    async fn list(&self) -> Vec<ContainerView> {
        let mut containers: Vec<_> = self.registry.lock().iter().cloned().collect();
        containers.extend(self.strangers());
        containers.into_iter().map(|container| self.view(container)).collect()
    }

    async fn ready(&self) -> Result<(), ShapingError> {
        if !self.datapath.is_unprepared() {
            return Ok(());
        }
        let ready = self.blocking(Datapath::prepare).await;
        self.health.note(&ready);
        ready
    }

    fn problem(&self) -> Option<Problem> {
        self.health.problem()
    }

    fn alive(&self) -> Result<(), ShapingError> {
        self.health.alive()
    }

    async fn status(&self) -> Status {
        let runtimes = self.registry.lock().runtimes();
        Status::of(&self.list().await, runtimes, self.problem(), self.health.started)
    }

    fn figures(&self) -> Figures {
        let now = SystemTime::now();
        // Here, as a lock is held to the end of the whole expression that it is taken in.
        let runtimes = self.registry.lock().runtimes();
        Figures {
            started: self.health.started,
            runtimes,
            rules: self.ruling.rules().iter().map(|rule| rule.state(now)).collect(),
            orphaned: self.orphaned(),
            changes: self.tally.changes(),
            reports: self.tally.reports(),
        }
    }

    fn note_report(&self, took: Duration) {
        self.tally.note_report(took);
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    async fn sampled(&self) {
        self.sampled.notified().await;
    }

    async fn sharing(&self, netns: NetnsId) -> Vec<ContainerView> {
        let containers: Vec<_> = self.registry.lock().sharing(netns).cloned().collect();
        containers.into_iter().map(|container| self.view(container)).collect()
    }

    async fn set(
        self: &Arc<Self>,
        name: &str,
        request: Request,
        insistence: Insistence,
    ) -> Result<ContainerView, ShapingError> {
        let admitted =
            self.resolve(name).and_then(|container| self.refuse_protected(&container, name, insistence));
        admitted.inspect_err(|error| self.tally.note_error(Operation::Set, Origin::Request, error))?;
        let set = |this: Arc<Self>, container| this.set_now(container, request);
        let set = self.change_one(name, Operation::Set, set, |_| true).await?;
        self.note_by_hand([&set.container], false);
        Ok(set)
    }

    async fn clear(self: &Arc<Self>, name: &str) -> Result<Cleared, ShapingError> {
        let was_shaped = |cleared: &Cleared| cleared.was_shaped;
        let cleared = self.change_one(name, Operation::Clear, Self::clear_now, was_shaped).await?;
        self.note_by_hand([&cleared.view.container], true);
        Ok(cleared)
    }

    async fn select(&self, selection: &Selection) -> Result<Vec<ContainerView>, ShapingError> {
        self.list_selected(selection)
    }

    async fn change(self: &Arc<Self>, selection: Selection, order: Order) -> Result<Changed, ShapingError> {
        let (is_cleared, operation) = (matches!(order, Order::Clear), Operation::from(&order));
        let is_dry = selection.dry_run;
        let changed = self.change_many(selection, order).await.inspect_err(|error| {
            if !is_dry {
                self.tally.note_error(operation, Origin::Request, error);
            }
        })?;
        let done = changed.results.iter().filter(|one| one.end == Completion::Changed);
        self.note_by_hand(done.map(|one| &one.container), is_cleared);
        Ok(changed)
    }

    async fn rules(&self) -> RulesView {
        self.view_rules()
    }

    async fn put_rule(self: &Arc<Self>, rule: Rule) -> Result<(), ShapingError> {
        self.change_rules(move |book| book.put(rule)).await
    }

    async fn suspend_rule(self: &Arc<Self>, name: &RuleName, suspended: bool) -> Result<(), ShapingError> {
        let name = name.clone();
        let change = move |book: &Book| {
            let rule = book.take(&name)?;
            book.put(Rule { is_suspended: suspended, ..rule })
        };
        self.change_rules(change).await
    }

    async fn remove_rule(self: &Arc<Self>, name: &RuleName) -> Result<(), ShapingError> {
        let name = name.clone();
        self.change_rules(move |book| book.take(&name).map(drop)).await
    }

    fn presets(&self) -> &Presets {
        &self.presets
    }

    async fn inspect(&self, name: &str) -> Result<Inspection, ShapingError> {
        let container = self.resolve(name)?;
        let details = match container.netns.as_ref().map(|netns| netns.id) {
            Some(netns) => {
                self.blocking(move |datapath| {
                    datapath.look_at(&[netns]);
                    datapath.inspect(netns)
                })
                .await
            }
            None => Vec::new(),
        };
        Ok(Inspection { view: self.view(container), details })
    }
}
