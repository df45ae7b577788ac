//! Watches what speaks Docker's API, which is the Docker Engine or Podman: containers, their states and the changes of
//! their networks.

mod describe;
mod engine;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::anyhow;
use futures_util::{Stream, StreamExt, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tracing::{info, warn};

use self::{
    describe::{Happening, News},
    engine::{Engine, Event, Look},
};
use super::{
    Runtime, Source, Update,
    connection::{Follow, stay_connected},
};
use crate::shaping::{Container, ContainerId, ContainerState, RuntimeName};

/// The number of containers that are looked at side by side.
const LOOKS: usize = 8;
/// The most events that came together and are answered by one look at each of their containers.
const EVENTS: usize = 64;
/// The pause before another look at a container that could not be described.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// The pause before another look at a container that has ended, and is not shown so; it doubles up to [`SECOND_LOOK`].
const LOOK_AFTER_THE_END: Duration = Duration::from_millis(50);

/// An engine with Docker's API behind a socket.
#[derive(Debug)]
pub(crate) struct Docker {
    source: Source,
    place: Place,
    is_expected: bool,
}

/// The place of an engine, and whose containers it can have.
#[derive(Debug)]
pub(super) struct Place {
    socket: PathBuf,
    /// The user that it runs for, if it is not the superuser: it is not believed that another's process is a container of
    /// its.
    owner: Option<u32>,
}

impl Docker {
    /// The engine that listens at `socket`, now or later. Unless it `is_expected`, its absence is no fault.
    pub(crate) fn new(source: impl Into<Source>, socket: impl Into<PathBuf>, is_expected: bool) -> Self {
        Self { source: source.into(), place: Place { socket: socket.into(), owner: None }, is_expected }
    }

    /// The engine of a user, who may have any program listen there.
    pub(crate) fn of_user(self, uid: u32) -> Self {
        Self { place: Place { owner: (uid != 0).then_some(uid), ..self.place }, ..self }
    }

    const fn name(&self) -> &'static str {
        match self.source.runtime {
            RuntimeName::Podman => "Podman",
            _ => "Docker",
        }
    }
}

impl Runtime for Docker {
    async fn watch(self, updates: mpsc::Sender<Update>) {
        let name = self.name();
        let Self { source, place, is_expected } = self;
        let mut watcher = Watcher::new(updates.clone(), source.clone(), place);
        tokio::select! {
            () = updates.closed() => {}
            () = stay_connected(&mut watcher, &source, name, is_expected, &updates) => {}
        }
    }
}

/// The state of the watch, across connections.
#[derive(Debug)]
struct Watcher {
    updates: mpsc::Sender<Update>,
    source: Source,
    place: Place,
    known: BTreeMap<ContainerId, Container>,
    /// The containers to look at again now.
    stale: BTreeSet<ContainerId>,
    /// The containers that have ended, and were not seen to have.
    ending: BTreeSet<ContainerId>,
    /// When they are looked at again.
    next_look: Instant,
    /// The pause after that.
    next_pause: Duration,
    /// The containers that cannot be described, which are looked at again after a while.
    failing: BTreeMap<ContainerId, Failing>,
    /// The containers that have processes but no network namespace that can be seen, with the time since when.
    unseen: BTreeMap<ContainerId, Instant>,
    /// True once it has been logged that network namespaces cannot be seen.
    blind: bool,
}

/// A container that cannot be described: not worth a word if it soon can be, or is gone, as those that end are.
#[derive(Debug)]
struct Failing {
    since: Instant,
    is_logged: bool,
}

impl Watcher {
    fn new(updates: mpsc::Sender<Update>, source: Source, place: Place) -> Self {
        let (known, stale, ending, failing, unseen) = Default::default();
        let (next_look, next_pause) = (Instant::now(), LOOK_AFTER_THE_END);
        let blind = false;
        Self { updates, source, place, known, stale, ending, next_look, next_pause, failing, unseen, blind }
    }

    /// Looks at all containers, and marks those that change meanwhile.
    async fn list(
        &mut self,
        engine: &Engine,
        events: &mut (impl Stream<Item = Vec<Event>> + Unpin),
    ) -> anyhow::Result<Update> {
        // What happened to these may have been missed.
        self.ending.clear();
        let mut looks = pin!(async { look_at(engine, engine.list().await?).await });
        let looks = loop {
            tokio::select! {
                biased;
                batch = events.next() => self.mark(batch)?,
                looks = &mut looks => break looks?,
            }
        };
        let before = std::mem::take(&mut self.known);
        for (id, look) in looks {
            // What cannot be described now is not gone.
            if let Look::Failed(_) = look
                && let Some(old) = before.get(&id)
            {
                self.known.insert(id.clone(), old.clone());
            }
            self.learn(id, look);
        }
        Ok(Update::All { source: self.source.clone(), containers: self.known.values().cloned().collect() })
    }

    /// Notes which containers a batch of events is about.
    fn mark(&mut self, batch: Option<Vec<Event>>) -> anyhow::Result<()> {
        for event in batch.ok_or_else(|| anyhow!("Docker ended its events"))? {
            let Some(News { about, what }) = event? else { continue };
            match what {
                Happening::Start => drop(self.ending.remove(&about)),
                Happening::End => {
                    self.ending.insert(about.clone());
                    self.next_pause = LOOK_AFTER_THE_END;
                    self.look_later();
                }
                Happening::Change => {}
            }
            self.stale.insert(about);
        }
        Ok(())
    }

    fn look_later(&mut self) {
        self.next_look = Instant::now() + self.next_pause;
        self.next_pause = (self.next_pause * 2).min(SECOND_LOOK);
    }

    /// Marks those that have ended, and were not seen to have: Podman says so late.
    fn doubt_the_ending(&mut self) {
        self.stale.extend(self.ending.iter().cloned());
        self.look_later();
    }

    /// Marks those that are to be looked at once more although nothing was heard of them.
    fn doubt(&mut self) {
        self.stale.extend(self.failing.keys().cloned());
        if !self.blind {
            self.stale.extend(self.unseen.keys().cloned());
        }
    }

    async fn look_again(&mut self, engine: &Engine) -> anyhow::Result<Vec<Update>> {
        let looks = look_at(engine, std::mem::take(&mut self.stale)).await?;
        Ok(looks.into_iter().filter_map(|(id, look)| self.learn(id, look)).collect())
    }

    fn learn(&mut self, id: ContainerId, look: Look) -> Option<Update> {
        if let Look::Failed(error) = look {
            let first = Failing { since: Instant::now(), is_logged: false };
            let failing = self.failing.entry(id.clone()).or_insert(first);
            if failing.since.elapsed() >= SECOND_LOOK / 2 && !failing.is_logged {
                warn!(%id, error, "a container cannot be described: it stays as it was, others are not concerned");
                failing.is_logged = true;
            }
            return None;
        }
        self.failing.remove(&id);
        match look {
            Look::Container(container) => {
                self.complain_if_unseen(&container);
                if container.state == ContainerState::Stopped {
                    self.ending.remove(&id);
                }
                self.known.insert(id, Container::clone(&container));
                Some(Update::One { source: self.source.clone(), container })
            }
            _ => {
                self.unseen.remove(&id);
                self.ending.remove(&id);
                let source = self.source.clone();
                self.known.remove(&id).map(|_| Update::Gone { source, id })
            }
        }
    }

    /// A process may have ended before Docker noticed; only one that stays unseen is worth a word.
    fn complain_if_unseen(&mut self, container: &Container) {
        if container.netns.is_some() || container.state == ContainerState::Stopped {
            self.unseen.remove(&container.id);
            return;
        }
        let since = self.unseen.entry(container.id.clone()).or_insert_with(Instant::now);
        if since.elapsed() >= SECOND_LOOK / 2 && !self.blind {
            let name = &container.name;
            warn!(
                name,
                "/proc does not show the container's network namespace: run as root and share the host's pid namespace (--pid=host)"
            );
            self.blind = true;
        }
    }
}

impl Follow for Watcher {
    fn socket(&self) -> &Path {
        &self.place.socket
    }

    async fn follow(&mut self, connected: impl FnOnce() + Send) -> anyhow::Result<()> {
        let engine = Engine::connect(&self.place).await?;
        // Subscribed before listing, so that no change falls between.
        let mut events = pin!(engine.events().ready_chunks(EVENTS));
        let all = self.list(&engine, &mut events).await?;
        if self.updates.send(all).await.is_err() {
            return Ok(());
        }
        let (socket, containers) = (&self.place.socket, self.known.len());
        info!(?socket, runtime = %engine.runtime(), containers, "watching Docker's API");
        connected();
        let mut second_look = interval_at(Instant::now() + SECOND_LOOK, SECOND_LOOK);
        second_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for update in self.look_again(&engine).await? {
                if self.updates.send(update).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                batch = events.next() => self.mark(batch)?,
                _ = second_look.tick() => self.doubt(),
                () = sleep_until(self.next_look), if !self.ending.is_empty() => self.doubt_the_ending(),
            }
        }
    }
}

/// Looks at several containers; only an error of the connection ends this.
async fn look_at(
    engine: &Engine,
    ids: impl IntoIterator<Item = ContainerId>,
) -> anyhow::Result<Vec<(ContainerId, Look)>> {
    let looks = stream::iter(ids).map(|id| async move {
        let look = engine.look_at(&id).await?;
        anyhow::Ok((id, look))
    });
    let looks: Vec<_> = looks.buffer_unordered(LOOKS).collect().await;
    looks.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(what: Happening) -> Option<Vec<Event>> {
        let about = ContainerId::new("3f2a9c").expect("an id");
        Some(vec![Ok(Some(News { about, what }))])
    }

    fn look(state: ContainerState) -> (ContainerId, Look) {
        let id = ContainerId::new("3f2a9c").expect("an id");
        let (name, runtime) = ("web".to_owned(), RuntimeName::Podman);
        let container = Container::new(id.clone(), name, runtime, state, None);
        (id, Look::Container(Box::new(container)))
    }

    #[tokio::test]
    async fn a_container_that_has_ended_is_looked_at_until_it_is_shown_so_or_runs_again() {
        let place = Place { socket: PathBuf::new(), owner: None };
        let mut watcher = Watcher::new(mpsc::channel(1).0, RuntimeName::Docker.into(), place);
        let learn = |watcher: &mut Watcher, state| {
            let (id, look) = look(state);
            watcher.learn(id, look).expect("news");
        };
        for ends in [true, false] {
            watcher.mark(news(Happening::End)).expect("an event");
            learn(&mut watcher, ContainerState::Running);
            watcher.stale.clear();
            watcher.doubt_the_ending();
            assert_eq!(watcher.stale.len(), 1, "Podman still shows it as running");
            match ends {
                true => learn(&mut watcher, ContainerState::Stopped),
                false => watcher.mark(news(Happening::Start)).expect("an event"),
            }
            watcher.stale.clear();
            watcher.doubt_the_ending();
            assert!(watcher.stale.is_empty());
        }
        assert!(watcher.next_pause <= SECOND_LOOK);
    }

    #[tokio::test]
    async fn only_a_container_that_stays_without_description_is_worth_a_word() {
        let place = Place { socket: PathBuf::new(), owner: None };
        let mut watcher = Watcher::new(mpsc::channel(1).0, RuntimeName::Docker.into(), place);
        let (id, shown) = look(ContainerState::Running);
        let fail = |watcher: &mut Watcher| {
            assert_eq!(watcher.learn(id.clone(), Look::Failed("unknown variant".to_owned())), None);
            let failing = watcher.failing.get_mut(&id).expect("it is looked at again");
            failing.since -= SECOND_LOOK;
            failing.is_logged
        };
        assert_eq!([(); 3].map(|()| fail(&mut watcher)), [false, true, true]);
        watcher.learn(id.clone(), shown).expect("news");
        assert!(!fail(&mut watcher));
        assert_eq!(
            watcher.learn(id.clone(), Look::Nothing),
            Some(Update::Gone { source: RuntimeName::Docker.into(), id: id.clone() })
        );
        assert!(watcher.failing.is_empty());
    }
}
