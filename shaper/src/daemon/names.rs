//! Keeps the addresses of what targets name: containers and hosts.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Daemon, hosts::AT_ONCE};
use crate::{
    datapath::Datapath,
    network::addresses,
    shaping::{Container, ContainerState, Name, NetnsRef, Refusal, Selector, ShapingError},
};

/// The interval at which names are looked up again, unless something happens to a container before.
const EVERY: Duration = Duration::from_secs(5);
/// The pause before a container is tried again that was being changed when its targets had other addresses.
const AGAIN: Duration = Duration::from_millis(100);

impl Daemon {
    /// Finds the addresses of names that somebody asks for. A host that was known before keeps its addresses while no name
    /// server answers.
    ///
    /// # Errors
    ///
    /// When there is no such container, or a host has no address.
    pub(super) async fn find(&self, names: BTreeSet<Name>) -> Result<(), ShapingError> {
        let (containers, hosts): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| matches!(name, Name::Container(_)));
        for name in &containers {
            self.find_container(name).await?;
        }
        let find = |name: Name| async move { self.find_host(&name).await };
        let mut found = stream::iter(hosts).map(find).buffer_unordered(AT_ONCE);
        while let Some(found) = found.next().await {
            found?;
        }
        Ok(())
    }

    /// Has targets follow the containers that they name, and hosts once they have been looked up; for ever.
    pub(super) async fn follow_names(self: Arc<Self>) {
        let mut wait = EVERY;
        loop {
            let _ = timeout(wait, self.renamed.notified()).await;
            for name in self.datapath.names() {
                if matches!(name, Name::Container(_))
                    && let Err(error) = self.find_container(&name).await
                {
                    self.miss_container(&name, &error);
                }
            }
            wait = if self.blocking(Datapath::retarget).await { EVERY } else { AGAIN };
        }
    }

    /// Looks up the hosts that targets name; for ever. Apart from containers, which do not wait for name servers.
    pub(super) async fn follow_hosts(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = &self;
            let find = |name: Name| async move {
                // What is wrong is noted, and shown beside the name.
                if this.find_host(&name).await.unwrap_or(false) {
                    this.renamed.notify_one();
                }
            };
            let hosts = self.datapath.names().into_iter().filter(|name| matches!(name, Name::Host(_)));
            stream::iter(hosts).for_each_concurrent(AT_ONCE, find).await;
        }
    }

    async fn find_container(&self, name: &Name) -> Result<(), ShapingError> {
        let Name::Container(text) = name else { return Ok(()) };
        let containers = self.named(text)?;
        let running = containers.into_iter().filter(|container| container.state != ContainerState::Stopped);
        let namespaces: Vec<NetnsRef> = running.filter_map(|container| container.netns).collect();
        let (found, problem) = match namespaces.is_empty() {
            false => (
                self.blocking(move |datapath| addresses_of(datapath, &namespaces)).await?,
                "it has no address",
            ),
            true => (Vec::new(), "it does not run"),
        };
        let problem = found.is_empty().then_some(problem);
        self.datapath.name_found(name, found, problem);
        Ok(())
    }

    /// The container with a name, or those that a selector fits: at least one.
    fn named(&self, text: &str) -> Result<Vec<Container>, ShapingError> {
        // Names came before selectors, and may look like one.
        match self.resolve(text) {
            Err(ShapingError::NotFound { .. }) => {}
            resolved => return resolved.map(|container| vec![container]),
        }
        let selector = Selector::parse([text])?;
        match selector.as_name() {
            Some(name) => self.resolve(name).map(|container| vec![container]),
            None => self.fitting(selector),
        }
    }

    /// A container that has gone has no addresses any more: they may be another one's by now. While runtimes have not told
    /// of all their containers yet, or when one cannot be looked at, the last addresses stay.
    fn miss_container(&self, name: &Name, error: &ShapingError) {
        match error {
            ShapingError::NotFound { .. } | ShapingError::NoneFits { .. }
                if self.registry.lock().has_all() =>
            {
                self.datapath.name_found(name, Vec::new(), Some("there is no such container"));
            }
            ShapingError::NotFound { .. } | ShapingError::NoneFits { .. } => {
                self.datapath.name_not_found(name, "no runtime has told of it yet");
            }
            error => {
                self.datapath.name_not_found(name, &error.to_string());
            }
        }
    }

    /// Says whether its addresses are others than before.
    async fn find_host(&self, name: &Name) -> Result<bool, ShapingError> {
        let Name::Host(host) = name else { return Ok(false) };
        match self.hosts.addresses(host).await {
            Ok(addresses) => Ok(self.datapath.name_found(name, addresses, None)),
            Err(error) if self.datapath.name_not_found(name, &error.to_string()) => Ok(false),
            Err(error) => Err(Refusal::NoAddress { host: host.clone(), reason: error.to_string() }.into()),
        }
    }
}

/// The addresses in all of some namespaces. One that cannot be looked at, as of a container that is about to end, has none
/// as long as another can.
fn addresses_of(datapath: &Datapath, namespaces: &[NetnsRef]) -> Result<Vec<IpAddr>, ShapingError> {
    let mut found = Vec::new();
    let mut failed = None;
    let mut visited = 0;
    for netns in namespaces {
        match datapath.visit(netns, addresses) {
            Ok(more) => {
                visited += 1;
                found.extend(more);
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.filter(|_| visited == 0).map_or(Ok(found), Err)
}
