//! Takes away the shaping that is over.

use std::sync::Arc;

use super::{
    Datapath,
    device::Key,
    instance::Instance,
    settle::{self, Settled},
    state::Seen,
};
use crate::shaping::{EventKind, NetnsId};

impl Datapath {
    /// Takes away what is over in these namespaces: policies that ended, when the last delayed packet has left, and all
    /// shaping of a namespace that went. One that is being changed is left for the next time.
    ///
    /// Says in which of them something still waits to be taken away.
    pub(crate) fn settle(&self, among: &[NetnsId]) -> Vec<NetnsId> {
        let is_unsettled = |netns: &NetnsId| {
            // For each instance anew, so that a request waits for one of them at most.
            let settled = |instance: &Arc<Instance>| {
                self.changing.try_with(*netns, || self.settle_one(&instance.key())).unwrap_or(false)
            };
            self.of(*netns).iter().filter(|instance| !settled(instance)).count() > 0
        };
        let unsettled = among.iter().copied().filter(is_unsettled).collect();
        self.seek_strays();
        unsettled
    }

    /// Takes an instance away, if it is over and nothing waits. Returns false while it drains.
    fn settle_one(&self, key: &Key) -> bool {
        let Some(instance) = self.instance(key) else { return true };
        match settle::settle(&instance) {
            Ok(Settled::Kept) => true,
            Ok(Settled::Draining) => false,
            Ok(Settled::Removed) => {
                if instance.has_deadline() {
                    self.tell(&instance, EventKind::Ended("its time is over"));
                }
                instance.unpin();
                self.instances_mut().remove(key);
                true
            }
            Ok(Settled::Gone(reason)) => {
                if instance.is_in_force() {
                    self.tell(&instance, EventKind::Ended(reason));
                }
                self.forget(&instance);
                true
            }
            Err(error) => {
                self.note(&instance, Seen::Nothing(error.to_string()));
                // It is looked at again each second, and need not be sooner.
                true
            }
        }
    }

    pub(super) fn forget(&self, instance: &Arc<Instance>) {
        match settle::detach(instance) {
            Ok(true) => {}
            Ok(false) => return self.lose(instance),
            Err(error) => {
                self.instances_mut().remove(&instance.key());
                return self.keep(instance.key().pin_name(), error.to_string());
            }
        }
        instance.unpin();
        self.instances_mut().remove(&instance.key());
    }
}
