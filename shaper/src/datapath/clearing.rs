//! Ends shaping.

use super::{Datapath, change::Change, error::cannot_enter, survey};
use crate::{
    network::Netns,
    shaping::{Directions, EventKind, NetnsId, NetnsRef, ShapingError},
};

/// The end of a network namespace's shaping.
pub(crate) struct Ended {
    /// False if there was nothing to end.
    pub(crate) was_shaped: bool,
    /// True while packets still wait, and something is left to be taken away.
    pub(crate) is_draining: bool,
}

impl Datapath {
    /// Ends all shaping of a network namespace.
    ///
    /// # Errors
    ///
    /// When a policy cannot be written, or it cannot be looked for classifiers that nobody knows.
    pub(crate) fn clear(&self, netns: &NetnsRef) -> Result<Ended, ShapingError> {
        self.loader()?;
        self.retry_kept();
        let was_shaped = self.changing.with(netns.id, || {
            self.refuse_kept(netns.id)?;
            let mut found = false;
            if !survey::is_hosts(netns, &self.host) && Netns::is_at(netns).map_err(cannot_enter)? {
                let inside = survey::look(netns, &self.host)?;
                found = self.reclaim(netns, &inside, Directions::Both, |_, _| false)?;
            }
            Ok::<_, ShapingError>(self.end_all(netns.id)? || found)
        })?;
        Ok(Ended { was_shaped, is_draining: !self.settle(&[netns.id]).is_empty() })
    }

    /// Returns true if there was anything to end.
    fn end_all(&self, netns: NetnsId) -> Result<bool, ShapingError> {
        let instances = self.of(netns);
        let found = !instances.is_empty();
        self.make(instances.into_iter().map(Change::end).collect())?;
        Ok(found)
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
