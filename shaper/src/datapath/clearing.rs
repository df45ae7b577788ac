//! Ends shaping.

use super::{Datapath, change::Change, survey};
use crate::{
    network::Netns,
    shaping::{Directions, EventKind, NetnsId, NetnsRef, ShapingError},
};

impl Datapath {
    /// Ends all shaping of a network namespace. Says whether something still waits to be taken away.
    ///
    /// # Errors
    ///
    /// When a policy cannot be written, or it cannot be looked for classifiers that nobody knows.
    pub(crate) fn clear(&self, netns: &NetnsRef) -> Result<bool, ShapingError> {
        self.loader()?;
        self.retry_kept();
        self.changing.with(netns.id, || {
            self.refuse_kept(netns.id)?;
            if !survey::is_hosts(netns, &self.host) && Netns::is_at(netns).map_err(survey::cannot_enter)? {
                let inside = survey::look(netns, &self.host)?;
                self.reclaim(&survey::shapeable(netns, &inside, Directions::Both), |_, _| false)?;
            }
            self.end_all(netns.id)
        })?;
        Ok(!self.settle(&[netns.id]).is_empty())
    }

    fn end_all(&self, netns: NetnsId) -> Result<(), ShapingError> {
        self.make(self.of(netns).into_iter().map(Change::end).collect())
    }

    /// Ends all shaping of a network namespace that no container has any more, as [`Self::clear`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::clear`].
    pub(crate) fn clear_orphaned(&self, netns: NetnsId) -> Result<bool, ShapingError> {
        for instance in self.of(netns).iter().filter(|instance| instance.is_in_force()) {
            self.tell(instance, EventKind::Ended("its container has gone"));
        }
        self.loader()?;
        self.changing.with(netns, || self.end_all(netns))?;
        Ok(!self.settle(&[netns]).is_empty())
    }
}
