//! Changes the shaping of containers: each in its turn, and to its end once it has begun.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tracing::{Instrument as _, Span};

use super::{
    Daemon, tasks,
    turns::Turn,
    views::{netns_of, unseen},
};
use crate::shaping::{
    Action, Attempt, Author, Cleared, Container, ContainerView, Direction, Entry, InForce, Request, Shaping,
    ShapingError, short,
};

/// The most targets in a line of the log.
const LOGGED_TARGETS: usize = 3;

impl Daemon {
    /// Carries out `work` when all earlier changes of the container have been made.
    ///
    /// Dropping the future before that drops the change: nobody waits for it any more. Afterwards it goes on in a task of
    /// its own, with its log, whoever still waits.
    pub(super) async fn change_one<W, T>(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(Arc<Self>, Container) -> W,
    ) -> Result<T, ShapingError>
    where
        W: Future<Output = Result<T, ShapingError>> + Send + 'static,
        T: Send + 'static,
    {
        let (container, turn) = self.turn(name).await?;
        let container_name = container.name.clone();
        tracing::debug!(container = container_name, "a change begins");
        let work = work(Arc::clone(self), container);
        let task = async move {
            let done = work.await;
            drop(turn);
            done.inspect_err(|error| tracing::warn!(container = container_name, %error, "not changed"))
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "whoever asked for the change gets its panic as an error"
        )]
        let task = tokio::spawn(task.instrument(Span::current()));
        match task.await {
            Ok(done) => done,
            Err(error) => {
                let reason = tasks::reason(error);
                Err(Attempt::Finish.failed(reason).into())
            }
        }
    }

    /// A container, and the turn to change it; none of one that has no network namespace.
    async fn turn(&self, name: &str) -> Result<(Container, Option<Turn>), ShapingError> {
        loop {
            let netns = self.resolve(name)?.netns.map(|netns| netns.id);
            let turn = match netns {
                Some(netns) => Some(self.turns.take(netns).await),
                None => None,
            };
            // It may have been made anew while others had their turn.
            let container = self.resolve(name)?;
            if container.netns.as_ref().map(|netns| netns.id) == netns {
                return Ok((container, turn));
            }
        }
    }

    pub(super) async fn set_now(
        self: Arc<Self>,
        container: Container,
        request: Request,
        by: Author,
    ) -> Result<ContainerView, ShapingError> {
        netns_of(&container)?;
        let request = request.resolved(&self.presets).map_err(ShapingError::Invalid)?;
        self.find(request.names()).await?;
        self.set_prepared(container, Arc::new(request), by).await
    }

    /// Carries out a request that names no preset, and whose names have been found.
    pub(super) async fn set_prepared(
        &self,
        container: Container,
        request: Arc<Request>,
        by: Author,
    ) -> Result<ContainerView, ShapingError> {
        let before = InForce::of(&self.view(container.clone()).interfaces);
        let netns = netns_of(&container)?;
        let has_names = !request.names().is_empty();
        let set = self.blocking(move |datapath| datapath.set(&netns, &request)).await;
        let draining = set.map_err(|error| error.about(&format!("container {}", container.name)))?;
        self.touch();
        self.look_after(draining);
        if has_names {
            // They may have got other addresses while this was done.
            self.renamed.notify_one();
        }
        let view = self.view(container);
        if self.record_change(&view, before, by) {
            log_set(&view);
        }
        Ok(view)
    }

    pub(super) async fn clear_now(
        self: Arc<Self>,
        container: Container,
        by: Author,
    ) -> Result<Cleared, ShapingError> {
        if container.is_unseen() {
            return Err(unseen(&container));
        }
        let before = InForce::of(&self.view(container.clone()).interfaces);
        let mut was_shaped = false;
        if let Some(netns) = container.netns.clone() {
            let ended = self.blocking(move |datapath| datapath.clear(&netns)).await;
            let ended = ended.map_err(|error| error.about(&format!("container {}", container.name)))?;
            self.touch();
            self.look_after(ended.is_draining);
            was_shaped = ended.was_shaped;
        }
        if was_shaped {
            tracing::info!(container = container.name, "cleared");
        }
        let view = self.view(container);
        self.record_change(&view, before, by);
        Ok(Cleared { was_shaped, view })
    }

    /// Notes in the journal what has become of a container; tells whether it is more than a renewal.
    fn record_change(&self, view: &ContainerView, before: Vec<InForce>, by: Author) -> bool {
        let after = InForce::of(&view.interfaces);
        Entry::of_change(&view.container, by, before, after).is_none_or(|entry| self.chronicle.add(entry))
    }

    /// Notes in the journal that a change of what is called `name` was not made.
    pub(super) fn record_refusal(&self, name: &str, error: &ShapingError, by: Author) {
        let action = match error.reason() {
            ShapingError::Failed(_) => Action::Failed,
            _ => Action::Refused,
        };
        let container = self.resolve(name).ok();
        let name = container.as_ref().map_or_else(|| short(name), |container| container.name.clone());
        let entry = Entry::new(action, &name, by).because(error.reason());
        self.chronicle.add(Entry { container_id: container.map(|container| container.id), ..entry });
    }
}

/// Logs what is in force by now, and for how long; by whom is in the request's span.
fn log_set(view: &ContainerView) {
    let remaining = view.interfaces.iter().filter_map(|view| view.remaining_ms).max();
    let lasts = remaining.map_or_else(
        || "until cleared".to_owned(),
        |ms| humantime::format_duration(Duration::from_secs(ms.div_ceil(1000))).to_string(),
    );
    let effects = |direction| view.shaping(direction).map(effects);
    tracing::info!(
        container = view.container.name,
        egress = effects(Direction::Egress),
        ingress = effects(Direction::Ingress),
        lasts,
        "set"
    );
}

/// `delay 100ms; to 10.0.0.0/8: loss 5%`.
fn effects(shaping: &Shaping) -> String {
    let mut text = shaping.words();
    for (rule, words) in shaping.targets().take(LOGGED_TARGETS) {
        let separator = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{separator}to {rule}: {words}");
    }
    match shaping.targets().count().saturating_sub(LOGGED_TARGETS) {
        0 => {}
        more => {
            let _ = write!(text, "; and to {more} more");
        }
    }
    text
}
