//! Answers those who talk to people.

use std::sync::{Arc, atomic::Ordering};

use super::Daemon;
use crate::{
    datapath::Datapath,
    shaping::{
        Changed, Cleared, ContainerView, Insistence, Inspection, NetnsId, Order, Presets, Problem, Request,
        Selection, Shaper, ShapingError, Status,
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
        self.refuse_protected(&self.resolve(name)?, name, insistence)?;
        self.change_one(name, |this, container| this.set_now(container, request)).await
    }

    async fn clear(self: &Arc<Self>, name: &str) -> Result<Cleared, ShapingError> {
        self.change_one(name, Self::clear_now).await
    }

    async fn select(&self, selection: &Selection) -> Result<Vec<ContainerView>, ShapingError> {
        self.list_selected(selection)
    }

    async fn change(self: &Arc<Self>, selection: Selection, order: Order) -> Result<Changed, ShapingError> {
        self.change_many(selection, order).await
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
