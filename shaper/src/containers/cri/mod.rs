//! Watches a CRI runtime, which is containerd or CRI-O: its pods and their containers, and what containerd runs besides.
//!
//! Events only tell that something has changed. It is then listed again, at a bounded pace, and once more a little later, as
//! runtimes send events before they answer accordingly.

mod api;
mod describe;
mod engine;
pub(crate) mod multus;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use self::{
    describe::{Asked, Malformed},
    engine::{Engine, Look},
};
use super::{
    Runtime, Source, Update,
    connection::{Follow, stay_connected},
};
use crate::shaping::{Container, ContainerId, NetnsRef, RuntimeName};

/// The number of pods that are looked at side by side.
const LOOKS: usize = 8;
/// The shortest pause between two lists. It doubles after each list without an event, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two lists where nothing is heard: the time until a change is seen of which there is no event.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The CRI runtime behind a socket.
#[derive(Debug)]
pub(crate) struct Cri {
    source: Source,
    socket: Arc<Path>,
    is_expected: bool,
    docker_is_watched: bool,
}

impl Cri {
    /// The runtime that listens at `socket`, now or later. Unless it `is_expected`, its absence is no fault. What containerd
    /// runs for Docker is left out where `docker_is_watched`.
    pub(crate) fn new(source: Source, socket: Arc<Path>, is_expected: bool, docker_is_watched: bool) -> Self {
        Self { source, socket, is_expected, docker_is_watched }
    }
}

impl Runtime for Cri {
    async fn watch(self, updates: mpsc::Sender<Update>) {
        let name = match self.source.runtime {
            RuntimeName::CriO => "CRI-O",
            _ => "containerd",
        };
        let (source, is_expected) = (self.source.clone(), self.is_expected);
        let mut watcher = Watcher::new(self, updates.clone());
        tokio::select! {
            () = updates.closed() => {}
            () = stay_connected(&mut watcher, &source, name, is_expected, &updates) => {}
        }
    }
}

/// The state of the watch, across connections.
#[derive(Debug)]
struct Watcher {
    place: Cri,
    updates: mpsc::Sender<Update>,
    known: BTreeMap<ContainerId, Container>,
    /// The network namespaces of pods, which keep theirs all their lives, by the id of the sandbox.
    netns: BTreeMap<String, NetnsRef>,
    /// The names of images, by the id of the container.
    images: BTreeMap<String, String>,
    /// The pods and containers that could not be described, which has been logged.
    failing: BTreeSet<String>,
    /// True once it has been logged that network namespaces cannot be seen.
    blind: bool,
}

impl Watcher {
    fn new(place: Cri, updates: mpsc::Sender<Update>) -> Self {
        let (known, netns, images, failing) = Default::default();
        Self { place, updates, known, netns, images, failing, blind: false }
    }

    /// Lists everything, and looks at what is new.
    async fn look(&mut self, engine: &Engine) -> anyhow::Result<BTreeMap<ContainerId, Container>> {
        // In this order, a container whose pod is not among the pods is gone.
        let containers = engine.containers().await.context("list the containers of pods")?;
        let mut pods = engine.pods().await.context("list pods")?;
        let others = engine.others().await.context("list what is in no pod")?;
        let netns = self.netns_of(engine, &mut pods, &containers).await?;
        let images = self.images_of(engine, &containers).await;
        let asked = Asked { pods, containers, netns, images };
        let (mut all, malformed) = describe::all(&asked, engine.runtime());
        all.extend(others.into_iter().map(|one| (one.id.clone(), one)));
        self.complain(&malformed, &all);
        (self.netns, self.images) = (asked.netns, asked.images);
        Ok(all)
    }

    /// The network namespaces of pods that run, or have a container that does. Takes out those that are gone by now.
    async fn netns_of(
        &mut self,
        engine: &Engine,
        pods: &mut Vec<api::PodSandbox>,
        containers: &[api::Container],
    ) -> anyhow::Result<BTreeMap<String, NetnsRef>> {
        let running = containers.iter().filter(|one| one.state() == api::ContainerState::Running);
        let of_running: BTreeSet<_> = running.map(|one| &*one.pod_sandbox_id).collect();
        let is_wanted =
            |pod: &&api::PodSandbox| pod.state() == api::PodState::Ready || of_running.contains(&*pod.id);
        let wanted: Vec<_> = pods.iter().filter(is_wanted).map(|pod| pod.id.clone()).collect();
        let (seen, new): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|id| self.netns.contains_key(id));
        let mut netns: BTreeMap<_, _> =
            seen.into_iter().filter_map(|id| self.netns.remove_entry(&id)).collect();
        let looks = stream::iter(new).map(|id| async move { (engine.look_at(&id).await, id) });
        let mut looks = looks.buffer_unordered(LOOKS);
        while let Some((look, id)) = looks.next().await {
            match look.context("ask for the status of a pod")? {
                Look::Netns(found) => {
                    self.failing.remove(&id);
                    netns.insert(id, found);
                }
                Look::Failed(error) if self.failing.insert(id.clone()) => {
                    warn!(id, error, "a pod cannot be described: others are not concerned");
                }
                Look::Nothing => pods.retain(|pod| pod.id != id),
                Look::Failed(_) | Look::Unseen => {}
            }
        }
        Ok(netns)
    }

    /// The names of the images that a list of containers does not have.
    async fn images_of(&self, engine: &Engine, containers: &[api::Container]) -> BTreeMap<String, String> {
        let mut nameless = Vec::new();
        for container in containers {
            if describe::lacks_image(container) {
                nameless.push(container.id.clone());
            }
        }
        let looks = stream::iter(nameless).map(|id| async move {
            let image = match self.images.get(&id) {
                Some(known) => Some(known.clone()),
                None => engine.image(&id).await,
            };
            Some((id, image?))
        });
        looks.buffer_unordered(LOOKS).filter_map(std::future::ready).collect().await
    }

    /// Says once of each what is wrong with it.
    fn complain(&mut self, malformed: &BTreeMap<String, Malformed>, all: &BTreeMap<ContainerId, Container>) {
        for (id, error) in malformed {
            if self.failing.insert(id.clone()) {
                warn!(?id, %error, "left out a pod or a container");
            }
        }
        let is_there =
            |id: &String| malformed.contains_key(id) || all.keys().any(|known| known.as_str() == id);
        self.failing.retain(|id| is_there(id));
        let unseen = all.values().find(|one| one.is_unseen() && self.known.get(&one.id) == Some(*one));
        if let (Some(Container { name, .. }), false) = (unseen, self.blind) {
            warn!(
                name,
                "cannot see the pod's network namespace: run as root, share the host's pid namespace (--pid=host), and mount /run/netns"
            );
            self.blind = true;
        }
    }

    /// Tells of each difference between what was known and what there is: first of containers that are gone from a pod,
    /// which has the network, so that no name is there twice; then of what is new; then of the rest that is gone, so that
    /// what takes the place of another is known by then.
    async fn tell(
        &mut self,
        all: BTreeMap<ContainerId, Container>,
    ) -> Result<(), mpsc::error::SendError<Update>> {
        let source = || self.place.source.clone();
        let gone = self.known.values().filter(|one| !all.contains_key(&one.id));
        let (of_pods, others): (Vec<_>, Vec<_>) = gone.partition(|one| one.pod.is_some() && !one.is_pod());
        for Container { id, .. } in of_pods {
            self.updates.send(Update::Gone { source: source(), id: id.clone() }).await?;
        }
        for (id, container) in &all {
            if self.known.get(id) != Some(container) {
                self.updates
                    .send(Update::One { source: source(), container: Box::new(container.clone()) })
                    .await?;
            }
        }
        for Container { id, .. } in others {
            self.updates.send(Update::Gone { source: source(), id: id.clone() }).await?;
        }
        self.known = all;
        Ok(())
    }
}

impl Follow for Watcher {
    fn socket(&self) -> &Path {
        &self.place.socket
    }

    async fn follow(&mut self, connected: impl FnOnce() + Send) -> anyhow::Result<()> {
        let Cri { source, socket, docker_is_watched, .. } = &self.place;
        let (source, socket) = (source.clone(), Arc::clone(socket));
        let engine = Engine::connect(&socket, source.runtime, *docker_is_watched).await?;
        let mut events = engine.events();
        self.known = self.look(&engine).await?;
        let all = Update::All { source, containers: self.known.values().cloned().collect() };
        if self.updates.send(all).await.is_err() {
            return Ok(());
        }
        info!(?socket, runtime = %engine.runtime(), containers = self.known.len(), "watching CRI");
        connected();
        let (mut last, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            tokio::select! {
                biased;
                () = sleep_until(last + pause) => {
                    let all = self.look(&engine).await?;
                    if self.tell(all).await.is_err() {
                        return Ok(());
                    }
                    (last, pause) = (Instant::now(), (pause * 2).min(LONGEST_PAUSE));
                }
                event = events.next() => {
                    event.context("the runtime ended its events")?.context("read the runtime's events")?;
                    pause = FIRST_PAUSE;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
