//! Selects the interfaces that a request is for.

use std::sync::Arc;

use super::{Datapath, device::AttachPoint, instance::Instance, survey};
use crate::{
    network::Inside,
    shaping::{Direction, NetnsId, NetnsRef, Request, Shaping, ShapingError},
};

/// The interfaces that a request is for.
pub(super) struct Selection {
    /// The interfaces to shape from now on, each with the policy in force: its own, or, where it has none, that of the
    /// container's other ones.
    pub(super) points: Vec<(AttachPoint, Shaping)>,
    /// The instances that are shaped, and no longer are to be.
    pub(super) deselected: Vec<Arc<Instance>>,
}

impl Datapath {
    /// The interfaces of a namespace, which looks like `inside`, that a request is for. A choice of interfaces made before
    /// stays.
    ///
    /// # Errors
    ///
    /// When there are none, one of them cannot be shaped, or a policy cannot be read.
    pub(super) fn select(
        &self,
        netns: &NetnsRef,
        inside: &Inside,
        request: &Request,
        now_ns: u64,
    ) -> Result<Selection, ShapingError> {
        let mut selection = Selection { points: Vec::new(), deselected: Vec::new() };
        for &direction in request.directions.each() {
            let shaped = self.in_force(netns.id, direction, now_ns)?;
            let before = || shaped.iter().find_map(|(_, shaping)| shaping.policy.interfaces.as_ref());
            let points = survey::points(netns, inside, request.chosen().or_else(before), direction)?;
            let is_point = |instance: &Instance| points.iter().any(|point| point.key == instance.key());
            let deselected = shaped.iter().filter(|(instance, _)| !is_point(instance));
            selection.deselected.extend(deselected.map(|(instance, _)| Arc::clone(instance)));
            for point in points {
                let own = shaped.iter().find(|(instance, _)| instance.key() == point.key);
                let shaping = own.or(shaped.first()).map(|(_, shaping)| shaping.clone());
                selection.points.push((point, shaping.unwrap_or_default()));
            }
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
        for instance in self.of(netns).into_iter().filter(|instance| instance.key().direction == direction) {
            let shaping = instance.shaping()?;
            if shaping.is_in_force(now_ns) {
                in_force.push((instance, shaping));
            }
        }
        Ok(in_force)
    }
}
