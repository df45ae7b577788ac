//! Changes the shaping of many containers: all of them, or none.

use std::{
    collections::BTreeSet,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tracing::{Instrument as _, Span};

use super::{Daemon, tasks, turns::Turn, views::netns_of};
use crate::{
    clock::monotonic_ns,
    datapath::Planned,
    shaping::{
        Attempt, Changed, Chosen, Completion, Container, ContainerResult, InForce, InterfaceView, NetnsId,
        Operation, Order, Request, Selection, ShapingError, Whole,
    },
};

/// The number of containers that are looked at or changed at once: most of the time is spent waiting for the kernel.
const AT_ONCE: usize = 16;

/// An order, with everything ready that all containers need.
#[derive(Clone)]
enum Prepared {
    Set(Arc<Request>),
    Clear,
}

impl Daemon {
    /// Carries out an order, as [`crate::shaping::Shaper::change`] says.
    pub(super) async fn change_many(
        self: &Arc<Self>,
        selection: Selection,
        order: Order,
    ) -> Result<Changed, ShapingError> {
        let prepared = self.prepare_order(&order).await?;
        if selection.dry_run {
            let chosen = self.choose(&selection, &order)?;
            return Ok(Changed { results: self.plan_all(chosen, &prepared, selection.partial).await });
        }
        let (chosen, turns) = self.turns(&selection, &order).await?;
        let (this, operation) = (Arc::clone(self), Operation::from(&order));
        let task = async move {
            let results = this.carry_out(chosen, prepared, selection.partial).await;
            drop(turns);
            this.tally.note_all(operation, &results);
            Changed { results }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "whoever asked for the change gets its panic as an error"
        )]
        let task = tokio::spawn(task.instrument(Span::current()));
        task.await.map_err(|error| Attempt::Finish.failed(tasks::reason(error)).into())
    }

    async fn prepare_order(&self, order: &Order) -> Result<Prepared, ShapingError> {
        let Order::Set(request) = order else { return Ok(Prepared::Clear) };
        let request = Request::clone(request).resolved(&self.presets).map_err(ShapingError::Invalid)?;
        self.find(request.names()).await?;
        Ok(Prepared::Set(Arc::new(request)))
    }

    /// The containers to change, and the turn to change each of them.
    async fn turns(
        &self,
        selection: &Selection,
        order: &Order,
    ) -> Result<(Vec<Chosen>, Vec<Turn>), ShapingError> {
        loop {
            let before = namespaces(&self.choose(selection, order)?);
            let turns = self.turns.take_all(&before).await;
            // They may have been made anew while others had their turn.
            let chosen = self.choose(selection, order)?;
            if namespaces(&chosen) == before {
                return Ok((chosen, turns));
            }
        }
    }

    /// The results that there would be: planned, or untouched if something cannot be done and `partial` is not enough.
    async fn plan_all(
        self: &Arc<Self>,
        chosen: Vec<Chosen>,
        prepared: &Prepared,
        partial: bool,
    ) -> Vec<ContainerResult> {
        let plan = |chosen: Chosen| {
            let (this, prepared) = (Arc::clone(self), prepared.clone());
            async move { this.plan(chosen, &prepared).await }
        };
        let results: Vec<_> = stream::iter(chosen).map(plan).buffered(AT_ONCE).collect().await;
        let is_refused = results.iter().any(|one| one.end.is_failure());
        if is_refused && !partial { untouched(results) } else { results }
    }

    async fn plan(&self, chosen: Chosen, prepared: &Prepared) -> ContainerResult {
        let mut result = self.look(&chosen);
        if result.end != Completion::Planned {
            return result;
        }
        match prepared {
            Prepared::Clear if result.before.is_empty() => result.end = Completion::Unchanged,
            Prepared::Clear => {}
            Prepared::Set(request) => match self.plan_set(&chosen.container, request).await {
                Ok(planned) => result.after = after(&result.before, &planned, request),
                Err(error) => result.end = Completion::Refused(error.to_string()),
            },
        }
        result
    }

    async fn plan_set(
        &self,
        container: &Container,
        request: &Arc<Request>,
    ) -> Result<Vec<Planned>, ShapingError> {
        let (netns, request) = (netns_of(container)?, Arc::clone(request));
        self.blocking(move |datapath| datapath.plan(&netns, &request)).await
    }

    /// The result for a container before anything is done.
    fn look(&self, chosen: &Chosen) -> ContainerResult {
        let container = chosen.container.clone();
        let before = InForce::of(&self.view(container.clone()).interfaces);
        let (shared_with, end) = (chosen.shared_with.clone(), chosen.end.clone());
        ContainerResult { container, shared_with, end, before, after: Vec::new() }
    }

    /// Changes all, or none; or, if that is enough, those that can be.
    async fn carry_out(
        self: &Arc<Self>,
        chosen: Vec<Chosen>,
        prepared: Prepared,
        partial: bool,
    ) -> Vec<ContainerResult> {
        let planned = self.plan_all(chosen, &prepared, partial).await;
        let has_failed = Arc::new(AtomicBool::new(false));
        let change = |planned: ContainerResult| {
            let (this, prepared, has_failed) = (Arc::clone(self), prepared.clone(), Arc::clone(&has_failed));
            async move {
                let before = this.view(planned.container.clone()).interfaces;
                let is_vain = has_failed.load(Ordering::Relaxed) && !partial;
                let result = this.attempt(planned, &prepared, is_vain).await;
                has_failed.fetch_or(result.end.is_failure(), Ordering::Relaxed);
                (result, before)
            }
        };
        let changed: Vec<_> = stream::iter(planned).map(change).buffered(AT_ONCE).collect().await;
        if partial || !has_failed.load(Ordering::Relaxed) {
            return changed.into_iter().map(|(result, _)| result).collect();
        }
        let restore = |(result, before): (ContainerResult, Vec<InterfaceView>)| {
            let this = Arc::clone(self);
            async move { this.restore(result, &before).await }
        };
        stream::iter(changed).map(restore).buffered(AT_ONCE).collect().await
    }

    /// Changes one that is planned, unless it would be in vain, as another one has failed.
    async fn attempt(
        self: &Arc<Self>,
        planned: ContainerResult,
        prepared: &Prepared,
        is_vain: bool,
    ) -> ContainerResult {
        if planned.end != Completion::Planned {
            return planned;
        }
        let (container, before) = (planned.container.clone(), planned.before.clone());
        let done = if is_vain { None } else { Some(self.make(&container, prepared).await) };
        let (end, after) = match done {
            None => (Completion::Untouched, before),
            Some(Ok(())) => (Completion::Changed, InForce::of(&self.view(container).interfaces)),
            Some(Err(error)) => (Completion::Failed(error.to_string()), before),
        };
        ContainerResult { end, after, ..planned }
    }

    async fn make(self: &Arc<Self>, container: &Container, prepared: &Prepared) -> Result<(), ShapingError> {
        match prepared {
            Prepared::Set(request) => {
                self.set_prepared(container.clone(), Arc::clone(request)).await.map(drop)
            }
            Prepared::Clear => Arc::clone(self).clear_now(container.clone()).await.map(drop),
        }
    }

    /// Puts a container that was changed back as it was `before`, deadlines included.
    async fn restore(
        self: &Arc<Self>,
        mut result: ContainerResult,
        before: &[InterfaceView],
    ) -> ContainerResult {
        if !matches!(result.end, Completion::Changed) {
            return result;
        }
        let whole = left_of(before, monotonic_ns());
        let undo = match whole == Whole::default() {
            true => Prepared::Clear,
            false => Prepared::Set(Arc::new(Request::of_whole(whole))),
        };
        result.end = match self.make(&result.container, &undo).await {
            Ok(()) => Completion::Restored,
            Err(error) => {
                tracing::error!(container = result.container.name, %error, "cannot put the shaping back");
                Completion::Stuck(error.to_string())
            }
        };
        result.after = InForce::of(&self.view(result.container.clone()).interfaces);
        result
    }
}

/// The shaping of some interfaces, with the time that is left of it by now; of one that is over, nothing.
fn left_of(interfaces: &[InterfaceView], now_ns: u64) -> Whole {
    let left = |deadline: NonZeroU64| Duration::from_nanos(deadline.get().saturating_sub(now_ns));
    Whole::of(
        interfaces
            .iter()
            .map(|view| (view.direction, &view.shaping.policy, view.shaping.expires_at_ns.map(left))),
    )
}

/// The lines of what would be in force after a request: what is planned, and what it leaves alone.
fn after(before: &[InForce], planned: &[Planned], request: &Request) -> Vec<InForce> {
    let stays = before.iter().filter(|line| !request.directions.each().contains(&line.direction)).cloned();
    let line = |one: &Planned| InForce::new(&one.interface, one.direction, &one.shaping, one.remaining_ms);
    let planned = planned.iter().map(line).filter(|line| !line.is_nothing());
    let mut all: Vec<_> = stays.chain(planned).collect();
    all.sort_by(|a, b| (&a.interface, a.direction.to_string()).cmp(&(&b.interface, b.direction.to_string())));
    all
}

/// The results when nothing is tried, as something cannot be.
fn untouched(results: Vec<ContainerResult>) -> Vec<ContainerResult> {
    let spare = |mut result: ContainerResult| {
        if result.end.is_done() {
            result.end = Completion::Untouched;
            result.after = result.before.clone();
        }
        result
    };
    results.into_iter().map(spare).collect()
}

fn namespaces(chosen: &[Chosen]) -> BTreeSet<NetnsId> {
    let planned = chosen.iter().filter(|one| one.end == Completion::Planned);
    planned.filter_map(|one| Some(one.container.netns.as_ref()?.id)).collect()
}
