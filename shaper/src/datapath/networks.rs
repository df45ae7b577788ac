//! The networks that namespaces are connected to, by name, and the interfaces that connect them.

use std::{collections::BTreeSet, sync::Arc};

use super::{Datapath, detour, instance::Instance};
use crate::{
    network::{Inside, Link, leads_out},
    shaping::{Endpoint, NetnsId},
};

impl Datapath {
    /// Takes in all connections of a namespace to networks; none where no runtime tells of any.
    pub(crate) fn connected(&self, netns: NetnsId, endpoints: Vec<Endpoint>) {
        let mut networks = self.networks.write();
        if endpoints.is_empty() {
            networks.remove(&netns);
        } else {
            networks.insert(netns, endpoints.into());
        }
    }

    /// The connections of a namespace to networks.
    pub(super) fn endpoints(&self, netns: NetnsId) -> Arc<[Endpoint]> {
        self.networks.read().get(&netns).cloned().unwrap_or_default()
    }

    /// The names of the networks that an instance's interface connects to, as far as its name and address tell.
    pub(super) fn networks_at(&self, instance: &Instance) -> Vec<String> {
        let endpoints = self.endpoints(instance.key().netns);
        let at_it = endpoints.iter().filter(|one| one.is_at(instance.interface(), instance.address()));
        at_it.map(|endpoint| endpoint.network.clone()).collect()
    }
}

/// The interfaces by which a namespace, which looks like `inside`, has a connection. Where several have its Ethernet
/// address, or none, its addresses in the network tell.
pub(super) fn ends<'a>(inside: &'a Inside, endpoint: &Endpoint) -> Vec<&'a Link> {
    let may_be = |link: &&Link| {
        link.is_ethernet && !detour::is_end(link) && (endpoint.interface.is_some() || leads_out(link))
    };
    let links = inside.links.iter().filter(may_be);
    let found: Vec<_> = links.clone().filter(|link| endpoint.is_at(&link.name, &link.address)).collect();
    if found.len() == 1 || endpoint.interface.is_some() {
        return found;
    }
    let with_its_addresses: BTreeSet<_> = inside
        .addresses
        .iter()
        .filter(|(_, address)| endpoint.addresses.contains(address))
        .map(|(ifindex, _)| *ifindex)
        .collect();
    links.filter(|link| with_its_addresses.contains(&link.ifindex)).collect()
}
