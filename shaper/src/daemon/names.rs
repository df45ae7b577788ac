//! Keeps the addresses of what targets name: containers and hosts.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use super::{Daemon, lock};
use crate::shaping::{ContainerState, Name, Peers, ShapingError};

/// How often names are looked up again, unless something happens to a container before.
const EVERY: Duration = Duration::from_secs(5);
/// How long a name server may take.
const PATIENCE: Duration = Duration::from_secs(3);

impl Daemon {
    /// The addresses of `names`, and of all others that are known.
    ///
    /// # Errors
    ///
    /// When there is no such container, or a host has no address.
    pub(super) async fn peers(&self, names: BTreeSet<Name>) -> Result<Peers, ShapingError> {
        let mut peers = lock(&self.peers).clone();
        for name in names {
            let addresses = self.addresses(&name).await?;
            peers.insert(name, addresses);
        }
        lock(&self.peers).clone_from(&peers);
        Ok(peers)
    }

    /// Has targets follow what they name, for ever.
    pub(super) async fn follow_names(self: Arc<Self>) {
        loop {
            let _ = timeout(EVERY, self.renamed.notified()).await;
            let names = self.datapath.names();
            if names.is_empty() {
                continue;
            }
            let peers = Arc::clone(&self).look_up(names).await;
            let has_changed = {
                let mut known = lock(&self.peers);
                let has_changed = *known != peers;
                known.clone_from(&peers);
                has_changed
            };
            if has_changed {
                self.blocking(move |datapath| datapath.retarget(&peers)).await;
            }
        }
    }

    /// The addresses of `names` by now. Of what cannot be looked up the last ones stay: that a name server does not
    /// answer may be our own doing.
    async fn look_up(self: Arc<Self>, names: BTreeSet<Name>) -> Peers {
        let mut lookups = JoinSet::new();
        for name in names {
            let this = Arc::clone(&self);
            lookups.spawn(async move {
                let addresses = this.addresses(&name).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "the last addresses stay");
                    lock(&this.peers).get(&name).cloned().unwrap_or_default()
                });
                (name, addresses)
            });
        }
        lookups.join_all().await.into_iter().collect()
    }

    /// In order, so that they can be compared.
    async fn addresses(&self, name: &Name) -> Result<Vec<IpAddr>, ShapingError> {
        let mut addresses = match name {
            Name::Container(name) => self.addresses_of_container(name).await?,
            Name::Host(host) => addresses_of_host(host).await?,
        };
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// None while it does not run.
    async fn addresses_of_container(&self, name: &str) -> Result<Vec<IpAddr>, ShapingError> {
        let container = self.resolve(name)?;
        match container.netns {
            Some(netns) if container.state != ContainerState::Stopped => {
                self.blocking(move |datapath| datapath.addresses(&netns)).await
            }
            _ => Ok(Vec::new()),
        }
    }
}

async fn addresses_of_host(host: &str) -> Result<Vec<IpAddr>, ShapingError> {
    let refused = |why: &str| {
        ShapingError::Refused(format!("the host {host} has no address by which packets could be told: {why}"))
    };
    let found =
        timeout(PATIENCE, lookup_host((host, 0))).await.map_err(|_| refused("no name server answered"))?;
    let addresses: Vec<_> =
        found.map_err(|error| refused(&error.to_string()))?.map(|address| address.ip()).collect();
    if addresses.is_empty() { Err(refused("there is none")) } else { Ok(addresses) }
}
