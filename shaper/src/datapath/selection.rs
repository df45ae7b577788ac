//! Selects the interfaces that a request is for.

use std::sync::Arc;

use super::{Datapath, instance::Instance, survey};
use crate::{
    network::{Inside, Link},
    shaping::{Direction, NetnsId, Request, Shaping, ShapingError},
};

/// An interface to shape from now on, in one direction.
pub(super) struct Selected<'a> {
    pub(super) link: &'a Link,
    pub(super) direction: Direction,
    /// The instance that shapes it now.
    pub(super) instance: Option<Arc<Instance>>,
    /// The policy in force: its own, or, where it has none, that of the container's other interfaces.
    pub(super) shaping: Shaping,
}

/// The interfaces that a request is for.
pub(super) struct Selection<'a> {
    pub(super) selected: Vec<Selected<'a>>,
    /// The instances that are shaped, and no longer are to be.
    pub(super) deselected: Vec<Arc<Instance>>,
}

impl Datapath {
    /// The interfaces of a namespace, which looks like `inside`, that a request is for. A choice of interfaces made before
    /// stays.
    ///
    /// # Errors
    ///
    /// When there are none, or a policy cannot be read.
    pub(super) fn select<'a>(
        &self,
        netns: NetnsId,
        inside: &'a Inside,
        request: &Request,
        now_ns: u64,
    ) -> Result<Selection<'a>, ShapingError> {
        let mut selection = Selection { selected: Vec::new(), deselected: Vec::new() };
        let networks = self.endpoints(netns);
        for &direction in request.directions.each() {
            let mut shaped = self.in_force(netns, direction, now_ns)?;
            let before = shaped.iter().find_map(|(_, shaping)| shaping.policy.interfaces.clone());
            let links = survey::to_shape(inside, request.chosen().or(before.as_ref()), &networks)?;
            let of_others = shaped.first().map(|(_, shaping)| shaping.clone());
            for link in links {
                let own = shaped.iter().position(|(instance, _)| instance.key().ifindex == link.ifindex);
                let (instance, own) = own.map(|own| shaped.remove(own)).unzip();
                let shaping = own.or_else(|| of_others.clone()).unwrap_or_default();
                selection.selected.push(Selected { link, direction, instance, shaping });
            }
            // The others, and a second one of an interface, where a daemon ended while it moved.
            selection.deselected.extend(shaped.into_iter().map(|(instance, _)| instance));
        }
        Ok(selection)
    }

    /// The instances whose policies are in force.
    fn in_force(
        &self,
        netns: NetnsId,
        direction: Direction,
        now_ns: u64,
    ) -> Result<Vec<(Arc<Instance>, Shaping)>, ShapingError> {
        let mut in_force = Vec::new();
        for instance in self.of(netns).into_iter().filter(|instance| instance.key().direction() == direction)
        {
            let shaping = instance.shaping()?;
            if shaping.is_in_force(now_ns) {
                in_force.push((instance, shaping));
            }
        }
        Ok(in_force)
    }
}
