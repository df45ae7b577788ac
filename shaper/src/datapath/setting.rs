//! Changes the shaping of a container: all of its interfaces, or none.

use std::sync::Arc;

use super::{
    Datapath, attach,
    change::{self, Change},
    choice,
    device::{AttachPoint, Key},
    instance::Instance,
    loaded::Loaded,
    pins,
    prepared::Prepared,
    ready,
    selection::{Selected, Selection},
    site::Site,
    state::Seen,
    survey,
};
use crate::{
    clock::monotonic_ns,
    network::Inside,
    shaping::{Directions, NetnsRef, Peers, Policy, Refusal, Request, Shaping, ShapingError, ShapingState},
};

impl Datapath {
    /// Changes the shaping of the interfaces of a network namespace that connect it to the outside, or that were chosen: of
    /// all of them, or of none. Names in it stand for what was [`Self::name_found`] of them.
    ///
    /// Says whether something still waits to be taken away.
    ///
    /// # Errors
    ///
    /// When one of them cannot be shaped so; nothing has changed then.
    pub(crate) fn set(&self, netns: &NetnsRef, request: &Request) -> Result<bool, ShapingError> {
        self.loader()?;
        self.retry_kept();
        self.changing.with(netns.id, || self.change(netns, request))?;
        Ok(!self.settle(&[netns.id]).is_empty())
    }

    fn change(&self, netns: &NetnsRef, request: &Request) -> Result<(), ShapingError> {
        self.refuse_kept(netns.id)?;
        let inside = self.look_into(netns)?;
        self.reclaim(netns, &inside, request.directions, |_, _| false)?;
        let now_ns = monotonic_ns();
        let Selection { selected, deselected } = self.select(netns.id, &inside, request, now_ns)?;
        let mut changes = Vec::new();
        for selected in &selected {
            match self.prepare_change(netns, &inside, selected, &changes, request, now_ns) {
                Ok(prepared) => changes.extend(prepared),
                Err(error) => {
                    self.abandon(changes);
                    return Err(error.about(&format!("{} ({})", selected.link.name, selected.direction)));
                }
            }
        }
        changes.extend(deselected.into_iter().map(Change::end));
        self.make(changes)
    }

    /// Has interfaces that a namespace has got since it was shaped join in, and forgets those it has lost. Says whether
    /// something still waits to be taken away.
    pub(crate) fn refresh(&self, netns: &NetnsRef) -> bool {
        if self.loader.get().is_some()
            && let Err(error) = self.adopt_leftovers(netns)
            && !error.is_of_the_gone()
        {
            tracing::warn!(netns = %netns.path.display(), %error, "cannot look for what an earlier daemon left");
        }
        let mut draining = false;
        for directions in [Directions::Egress, Directions::Ingress] {
            let shaped = self
                .of(netns.id)
                .iter()
                .any(|instance| directions.each().contains(&instance.key().direction()));
            let request = Request { directions, ..Request::default() };
            match shaped.then(|| self.set(netns, &request)) {
                Some(Ok(waits)) => draining |= waits,
                // The runtime that tells of its networks may not have been heard yet.
                Some(Err(ShapingError::Refused(Refusal::NoNetworks { .. }))) => {}
                Some(Err(error)) if !error.is_of_the_gone() => {
                    tracing::warn!(netns = %netns.path.display(), %directions, %error, "cannot shape what has changed");
                }
                Some(Err(_)) | None => {}
            }
        }
        draining
    }

    /// Readies an interface for its next policy, after the changes `before` of other ones, attaching to it if need be; says
    /// what is left to be done.
    fn prepare_change(
        &self,
        netns: &NetnsRef,
        inside: &Inside,
        selected: &Selected<'_>,
        before: &[Change],
        request: &Request,
        now_ns: u64,
    ) -> Result<Vec<Change>, ShapingError> {
        let Selected { link, direction, instance: old, shaping } = selected;
        let new = shaping.after(request, *direction, now_ns).map_err(ShapingError::Invalid)?;
        let old = old.as_ref();
        let has_host_end = || survey::point(netns, inside, link, Site::HostEnd).is_some();
        let site = choice::choose(&new, *direction, old.map(|old| &**old), has_host_end);
        let instance = self.instance(&Key { netns: netns.id, ifindex: link.ifindex, site });
        if instance.is_none() && !new.is_in_force(now_ns) {
            return Ok(Vec::new());
        }
        let point = self.point(netns, inside, link, site)?;
        let moved = old.filter(|old| old.key() != point.key);
        let change = match instance {
            Some(instance) => self.prepare_next(&point, instance, new, now_ns)?,
            None => {
                let others = self.of(netns.id).into_iter().chain(before.iter().filter_map(Change::begun));
                let beside =
                    others.into_iter().find(|other| choice::share_device(other.device(), &point.device));
                let instance = self.attach(&point, &new, moved.map(|moved| &**moved), beside, now_ns)?;
                Change::Begin { instance: Arc::new(instance), shaping: new }
            }
        };
        Ok([change].into_iter().chain(moved.map(|moved| Change::end(Arc::clone(moved)))).collect())
    }

    /// Readies an instance for its next policy.
    fn prepare_next(
        &self,
        point: &AttachPoint,
        instance: Arc<Instance>,
        new: Shaping,
        now_ns: u64,
    ) -> Result<Change, ShapingError> {
        ready::classifier(&instance)?;
        if new.needs_queue() {
            ready::queue(&instance)?;
        }
        if new.needs_single_segments() {
            ready::single_segments(&instance, &point.device)?;
        }
        self.note(&instance, Seen::Present(ShapingState::Intact));
        if instance.can(&new) {
            return Ok(Change::Write { instance, shaping: new });
        }
        self.stage_next(point, instance, &new, now_ns)
    }

    /// Loads the program that is to take the place of `old`.
    pub(super) fn stage_next(
        &self,
        point: &AttachPoint,
        old: Arc<Instance>,
        shaping: &Shaping,
        now_ns: u64,
    ) -> Result<Change, ShapingError> {
        let (loaded, next) = self.stage(point, shaping, Some(&old), now_ns)?;
        next.succeed(&old);
        if let Err(error) = next.write_shaping(shaping) {
            pins::discard(&self.pin_dir, point.key.pin_name());
            return Err(error);
        }
        Ok(Change::Replace { old, next: Arc::new(next), loaded: Box::new(loaded) })
    }

    fn stage(
        &self,
        point: &AttachPoint,
        shaping: &Shaping,
        old: Option<&Instance>,
        now_ns: u64,
    ) -> Result<(Loaded, Instance), ShapingError> {
        let policy = shaping.needs_maps().then_some(&shaping.policy);
        let prepared = policy
            .map(|policy| Prepared::new(policy, point.key.direction(), now_ns, &self.peers(policy, old)))
            .transpose()?;
        let hook = choice::hook(point.key.site, self.hook);
        Instance::stage(self.loader()?, point, policy.zip(prepared), old, hook, &self.pin_dir)
    }

    /// Returns the addresses of the names in a policy; of those that are not known, the ones in `old`, if any.
    pub(super) fn peers(&self, policy: &Policy, old: Option<&Instance>) -> Peers {
        self.names.peers(policy.names(), &old.map(Instance::peers).unwrap_or_default())
    }

    /// Attaches to a site that nothing of ours is at, of a device that may have another instance `beside`, going on with the
    /// counters of `moved`; its policy is still to be written.
    fn attach(
        &self,
        point: &AttachPoint,
        shaping: &Shaping,
        moved: Option<&Instance>,
        beside: Option<Arc<Instance>>,
        now_ns: u64,
    ) -> Result<Instance, ShapingError> {
        let attach = || {
            let (mut loaded, instance) = self.stage(point, shaping, moved, now_ns)?;
            let hook = choice::hook(point.key.site, self.hook);
            let attached = pins::publish(&self.pin_dir, point.key.pin_name())
                .and_then(|()| attach::attach(&mut loaded, &instance, shaping, hook, beside.as_deref()));
            if attached.is_err() {
                instance.unpin();
            }
            attached.map(|()| instance)
        };
        attach().inspect_err(|_| self.abandon_detour(point))
    }

    /// Undoes what a failed request attached and loaded; none of it has had a policy, so nothing waits in it.
    fn abandon(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Begin { instance, .. } => self.forget(&instance),
                Change::Write { .. } => {}
                Change::Replace { next, .. } => pins::discard(&self.pin_dir, next.key().pin_name()),
            }
        }
    }

    /// Makes changes that are ready: all, or, when one cannot be made, none.
    pub(super) fn make(&self, mut changes: Vec<Change>) -> Result<(), ShapingError> {
        let mut undo = Vec::new();
        for index in 0..changes.len() {
            match changes[index].make() {
                Ok(undoing) => undo.extend(undoing),
                Err(error) => {
                    undo.into_iter().rev().for_each(change::Undo::carry_out);
                    self.abandon(changes);
                    return Err(error);
                }
            }
        }
        for change in changes {
            match change {
                Change::Begin { instance, .. } => {
                    self.instances_mut().insert(instance.key(), instance);
                }
                Change::Write { .. } => {}
                Change::Replace { next, .. } => {
                    if let Err(error) = pins::publish(&self.pin_dir, next.key().pin_name()) {
                        tracing::error!(interface = %next, %error, "it is shaped, but the next daemon will not know it");
                    }
                    self.instances_mut().insert(next.key(), next);
                }
            }
        }
        Ok(())
    }
}
