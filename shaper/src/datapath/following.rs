//! Has policies in force follow the names in their targets to other addresses.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{
    Datapath,
    device::Key,
    instance::Instance,
    survey::{self, Located},
};
use crate::{
    clock::monotonic_ns,
    shaping::{Failure, Name, Peers, ShapingError},
};

impl Datapath {
    /// The names in all policies in force; others are forgotten.
    pub(crate) fn names(&self) -> BTreeSet<Name> {
        let used = self.all().iter().flat_map(|instance| instance.names()).collect();
        self.names.retain(&used);
        used
    }

    /// Takes in the addresses of a name, and why there are none if so: for policies to come, and for those in force once they
    /// are told to follow ([`Self::retarget`]). Says whether they are others than before.
    pub(crate) fn name_found(&self, name: &Name, addresses: Vec<IpAddr>, problem: Option<&str>) -> bool {
        self.names.found(name, addresses, problem)
    }

    /// Notes why a name could not be looked up; what it stands for stays. Says whether that is anything.
    pub(crate) fn name_not_found(&self, name: &Name, problem: &str) -> bool {
        self.names.not_found(name, problem);
        self.names.has_addresses(name)
    }

    /// Has names in all policies in force stand for what they do by now. A container that is being changed is left for the
    /// next time. Returns whether none is left.
    pub(crate) fn retarget(&self) -> bool {
        let mut is_done = true;
        for instance in self.all().iter().filter(|instance| self.outdated(instance).is_some()) {
            let key = instance.key();
            is_done &= self.changing.try_with(key.netns, || self.retarget_one(&key)).is_some();
        }
        is_done
    }

    /// Returns the addresses of the names in an instance's policy, if they have changed. What is pinned stays until
    /// something is known of all of them.
    fn outdated(&self, instance: &Instance) -> Option<Peers> {
        let (names, old) = (instance.names(), instance.peers());
        let peers = self.names.peers(&names, &old);
        (peers.len() == names.len() && peers != old).then_some(peers)
    }

    /// Has names in a policy stand for what they do by now. The caller holds the container's lock: only so the policy stays in
    /// force whose targets are changed.
    fn retarget_one(&self, key: &Key) {
        let Some(instance) = self.instance(key) else { return };
        let Some(peers) = self.outdated(&instance) else { return };
        let retargeted = instance.retarget(&peers).and_then(|has_room| match has_room {
            true => Ok(()),
            false => self.reload(&instance),
        });
        match retargeted {
            Ok(()) => tracing::info!(interface = %instance, "its targets have other addresses"),
            Err(error) => tracing::error!(interface = %instance, %error, "cannot change its targets"),
        }
    }

    /// Puts a program with larger maps in the place of an instance's; its schedules begin anew.
    fn reload(&self, instance: &Arc<Instance>) -> Result<(), ShapingError> {
        let point = match survey::point_at(&instance.netns(), &self.host, instance.key())? {
            Located::Found(point) => point,
            Located::Gone => return Err(Failure::Gone("interface").into()),
            Located::Elsewhere(reason) => return Err(Failure::Elsewhere { reason }.into()),
        };
        let shaping = instance.shaping()?;
        let change = self.stage_next(&point, Arc::clone(instance), &shaping, monotonic_ns())?;
        self.make(vec![change])
    }
}
