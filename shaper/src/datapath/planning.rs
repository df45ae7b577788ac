//! Foretells what a change would make of a container's shaping, and whether its devices would admit it. Touches nothing.

use super::{
    Datapath, attach, choice,
    device::{AttachPoint, Key},
    present::Present,
    selection::Selected,
    site::Site,
    survey,
};
use crate::{
    clock::monotonic_ns,
    network::{Inside, Socket},
    shaping::{Direction, NetnsRef, Refusal, Request, Shaping, ShapingError},
};

/// The shaping of an interface in one direction after a change.
pub(crate) struct Planned {
    /// The container's name for the interface.
    pub(crate) interface: String,
    /// The direction.
    pub(crate) direction: Direction,
    /// The policy.
    pub(crate) shaping: Shaping,
    /// The remaining time, in milliseconds; none is until it is cleared.
    pub(crate) remaining_ms: Option<u64>,
}

impl Datapath {
    /// The shaping after a request, of all interfaces in the directions that it changes.
    ///
    /// # Errors
    ///
    /// When it cannot be done, as far as that can be told without doing it.
    pub(crate) fn plan(&self, netns: &NetnsRef, request: &Request) -> Result<Vec<Planned>, ShapingError> {
        self.loader()?;
        self.changing.with(netns.id, || {
            self.refuse_kept(netns.id)?;
            let inside = self.look_into(netns)?;
            let now_ns = monotonic_ns();
            let selected = self.select(netns.id, &inside, request, now_ns)?.selected;
            let plan = |selected: &Selected<'_>| {
                let Selected { link, direction, .. } = selected;
                let shaping = self
                    .foretell(netns, &inside, selected, request, now_ns)
                    .map_err(|error| error.about(&format!("{} ({direction})", link.name)))?;
                let remaining = shaping.remaining(now_ns).map(|left| left.as_millis());
                let remaining_ms = remaining.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
                Ok(Planned { interface: link.name.clone(), direction: *direction, shaping, remaining_ms })
            };
            selected.iter().map(plan).collect()
        })
    }

    fn foretell(
        &self,
        netns: &NetnsRef,
        inside: &Inside,
        selected: &Selected<'_>,
        request: &Request,
        now_ns: u64,
    ) -> Result<Shaping, ShapingError> {
        let Selected { link, direction, instance: old, shaping } = selected;
        let new = shaping.after(request, *direction, now_ns).map_err(ShapingError::Invalid)?;
        if new.needs_queue() && new.is_in_force(now_ns) && !self.has_fq()? {
            return Err(Refusal::NoFq.into());
        }
        if new.needs_maps() {
            // Seeds make no difference to whether it fits.
            let peers = self.peers(&new.policy, old.as_deref());
            new.policy.compile(now_ns, 0, &peers).map_err(ShapingError::Invalid)?;
        }
        let has_host_end = || survey::point(netns, inside, link, Site::HostEnd).is_some();
        let site = choice::choose(&new, *direction, old.as_deref(), has_host_end);
        let begins = self.instance(&Key { netns: netns.id, ifindex: link.ifindex, site }).is_none();
        match survey::point(netns, inside, link, site).filter(|_| begins && new.is_in_force(now_ns)) {
            Some(point) => self.check(&point, &new).map(|()| new),
            // It is there already, or is a detour, which is made for the purpose.
            None => Ok(new),
        }
    }

    /// Tells whether the kernel has `fq`. Where it has not, its module may still come.
    fn has_fq(&self) -> Result<bool, ShapingError> {
        if self.fq.get().is_none() && attach::has_fq()? {
            let _ = self.fq.set(());
        }
        Ok(self.fq.get().is_some())
    }

    /// Checks that a device that has nothing of ours would admit a shaping.
    fn check(&self, point: &AttachPoint, shaping: &Shaping) -> Result<(), ShapingError> {
        let device = &point.device;
        let present = survey::on_device(point, &self.host, || Present::read(&Socket::open()?, device))?;
        present.admits(device, choice::hook(device.site, self.hook))?;
        if shaping.needs_queue() { present.admits_queue(device) } else { Ok(()) }
    }
}
