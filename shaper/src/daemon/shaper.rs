//! Answers those who talk to people.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use super::{Daemon, ruling::Book};
use crate::{
    datapath::Datapath,
    shaping::{
        Author, Changed, Cleared, ContainerView, Entry, Figures, Inspection, KEPT, NetnsId, Order, Presets,
        Problem, Request, Rule, RuleName, RulesView, Selection, Shaper, ShapingError, Status, Terms,
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
            events: self.chronicle.counts(),
            reports: self.reports.lock().clone(),
        }
    }

    fn note_report(&self, took: Duration) {
        self.reports.lock().add(took);
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
        terms: Terms,
    ) -> Result<ContainerView, ShapingError> {
        let Terms { by, insistence, if_match } = terms;
        let author = by.clone();
        let set = |this: Arc<Self>, container| async move {
            this.check_tag(&container, if_match)?;
            let set = Arc::clone(&this).set_now(container, request, author).await?;
            this.note_by_hand([&set.container], false).await;
            Ok(set)
        };
        let set = async {
            self.refuse_protected(&self.resolve(name)?, name, insistence)?;
            self.change_one(name, set).await
        };
        set.await.inspect_err(|error| self.record_refusal(name, error, by))
    }

    async fn clear(self: &Arc<Self>, name: &str, terms: Terms) -> Result<Cleared, ShapingError> {
        let Terms { by, if_match, .. } = terms;
        let author = by.clone();
        let clear = |this: Arc<Self>, container| async move {
            this.check_tag(&container, if_match)?;
            let cleared = Arc::clone(&this).clear_now(container, author).await?;
            this.note_by_hand([&cleared.view.container], true).await;
            Ok(cleared)
        };
        let cleared = self.change_one(name, clear).await;
        cleared.inspect_err(|error| self.record_refusal(name, error, by))
    }

    fn events(&self, after: Option<u64>, most: usize) -> Vec<Arc<Entry>> {
        self.chronicle.entries(after, most)
    }

    async fn next_events(&self, after: u64) -> Option<Vec<Arc<Entry>>> {
        self.chronicle.next(after, KEPT).await
    }

    async fn select(&self, selection: &Selection) -> Result<Vec<ContainerView>, ShapingError> {
        self.list_selected(selection)
    }

    async fn change(
        self: &Arc<Self>,
        selection: Selection,
        order: Order,
        by: Author,
    ) -> Result<Changed, ShapingError> {
        let (selector, is_dry, author) = (selection.selector.to_string(), selection.dry_run, by.clone());
        let changed = self.change_many(selection, order, by).await;
        changed.inspect_err(|error| {
            if !is_dry {
                self.record_refusal(&selector, error, author);
            }
        })
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
