//! Finds classifiers and queues of ours that no instance has: their pins were removed, bpffs was mounted anew, or another daemon
//! pinned them elsewhere.
//!
//! Whoever calls this has the container's lock, so nothing of ours changes in between.

use std::{collections::BTreeMap, error::Error, path::Path};

use aya::{
    maps::{Array, Map, MapData, MapInfo, PerCpuArray},
    programs::{ProgramInfo, SchedClassifier, loaded_programs},
};
use shaper_common::{COUNTERS_MAP, Counters, POLICY_PROGRAM, PROGRAM, SHAPING_MAP, Shaping};

use super::{
    Datapath, detour,
    device::{AttachPoint, Key},
    error::{OpenError, cannot_enter, explain, gone},
    hook::Attached,
    instance::Instance,
    pins,
    program::Loader,
    ready, restore,
    site::Site,
    survey::{self},
};
use crate::{
    network::{Inside, NetlinkError, Socket, link_at, links},
    shaping::{Attempt, Directions, NetnsRef, ShapingError},
};

/// A classifier of ours on a device.
struct Leftover {
    attached: Attached,
    program_id: u32,
    /// The maps of its program.
    shaping: u32,
    counters: u32,
}

impl Leftover {
    /// The classifier, with its program, if it is ours: other programs may have its name, but not its maps as well.
    fn of(attached: Attached) -> Result<Option<(Self, ProgramInfo)>, ShapingError> {
        let mut programs = loaded_programs().filter_map(Result::ok);
        let Some(program) = programs.find(|program| attached.runs(program.id())) else {
            return Ok(None);
        };
        let name = program.name_as_str().unwrap_or_default().to_owned();
        let failed = |error: &dyn std::error::Error| Attempt::LookAtClassifier(name.clone()).failed(error);
        let mut maps = BTreeMap::new();
        for id in program.map_ids().map_err(|error| failed(&error))?.unwrap_or_default() {
            let map = MapInfo::from_id(id).map_err(|error| failed(&error))?;
            maps.extend(map.name_as_str().map(|name| (name.to_owned(), id)));
        }
        let (Some(&shaping), Some(&counters)) = (maps.get(SHAPING_MAP), maps.get(COUNTERS_MAP)) else {
            return Ok(None);
        };
        Ok(Some((Self { attached, program_id: program.id(), shaping, counters }, program)))
    }

    /// Pins it, as it was before. The record of what its device was had no other reference than its pin, nor had the policy.
    fn pin(
        &self,
        program: ProgramInfo,
        point: &AttachPoint,
        loader: &Loader,
        pin_dir: &Path,
    ) -> Result<Instance, OpenError> {
        if program.name_as_str() == Some(POLICY_PROGRAM) {
            return Err(OpenError { text: "its policy is not known any more".to_owned(), is_unusable: true });
        }
        let staged = pins::stage(pin_dir, point.key.pin_name())?;
        let pin = || -> Result<(), Box<dyn Error>> {
            let _: Array<_, Shaping> = Array::try_from(Map::Array(MapData::from_id(self.shaping)?))?;
            let _: PerCpuArray<_, Counters> =
                PerCpuArray::try_from(Map::PerCpuArray(MapData::from_id(self.counters)?))?;
            SchedClassifier::from_program_info(program, PROGRAM.into())?.pin(staged.join(pins::PROGRAM))?;
            MapData::from_id(self.shaping)?.pin(staged.join(SHAPING_MAP))?;
            MapData::from_id(self.counters)?.pin(staged.join(COUNTERS_MAP))?;
            if let Attached::Tcx(program) = &self.attached {
                program.pin_link(&staged.join(pins::LINK))?;
            }
            Ok(())
        };
        pin()
            .map_err(|error| OpenError::new("pin the program", &*error))
            // It makes and pins the map that is missing.
            .and_then(|()| Ok(loader.load(&staged, None, &point.device, self.attached.hook()).map(drop)?))
            .and_then(|()| Instance::open(point, &staged, pin_dir))
            .inspect_err(|_| pins::remove(&staged))
    }
}

fn detour_key(netns: &NetnsRef, interface: u32) -> Key {
    Key { netns: netns.id, ifindex: interface, site: Site::Detour }
}

impl Datapath {
    /// Takes over what an earlier daemon left on a container that is seen, or seen again; what another daemon has
    /// pinned beside this one's is left alone.
    ///
    /// # Errors
    ///
    /// When its devices cannot be looked at.
    pub(super) fn adopt_leftovers(&self, netns: &NetnsRef) -> Result<(), ShapingError> {
        let is_anothers = |point: &AttachPoint, program_id| {
            let name = point.key.pin_name();
            self.is_kept(name) || pins::is_pinned_beside(&self.pin_dir, name, program_id)
        };
        self.changing.with(netns.id, || {
            let inside = survey::look(netns, &self.host)?;
            self.reclaim(netns, &inside, Directions::Both, is_anothers).map(drop)
        })
    }

    /// Takes over the classifiers of ours in a namespace that are no instance's, whoever pinned them; where there is an
    /// instance already, or they cannot be read, takes them off. Leaves those alone that `spare` says. Returns true if
    /// there were any others.
    ///
    /// # Errors
    ///
    /// When the devices cannot be looked at, or something is lacking; what was not looked at is as it was.
    pub(super) fn reclaim(
        &self,
        netns: &NetnsRef,
        inside: &Inside,
        directions: Directions,
        spare: impl Fn(&AttachPoint, u32) -> bool,
    ) -> Result<bool, ShapingError> {
        let points = survey::shapeable(netns, inside, directions);
        let suspects = self.suspects(&points)?;
        let mut found = self.reclaim_detours(netns, inside, &suspects)?;
        for (point, attached) in suspects {
            let Some((leftover, program)) = Leftover::of(attached)? else { continue };
            if spare(point, leftover.program_id) {
                continue;
            }
            found = true;
            if self.instance(&point.key).is_some() {
                self.remove_beside(point, &leftover)?;
                continue;
            }
            match self.take_over(point, &leftover, program) {
                Ok(()) => {}
                Err(error) if error.is_unusable => {
                    tracing::warn!(interface = %point, error = error.text, "cannot adopt: removing it");
                    restore::clear_off(point, &self.host, Some(leftover.program_id), None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        for point in
            points.iter().filter(|point| self.instance(&point.key).is_none() && point.key.site.has_queue())
        {
            if restore::clear_queue(point, &self.host)? {
                tracing::warn!(interface = %point, "removed a queue of ours that had lost its program and its pins");
                found = true;
            }
        }
        Ok(found)
    }

    /// Removes detours that are no instance's, as a daemon ended while it made or removed one, or somebody removed the pins;
    /// returns true if there were any.
    fn reclaim_detours(
        &self,
        netns: &NetnsRef,
        inside: &Inside,
        suspects: &[(&AttachPoint, Attached)],
    ) -> Result<bool, ShapingError> {
        let is_unknown = |interface| self.instance(&detour_key(netns, interface)).is_none();
        let mut leading = suspects.iter().filter(|(_, attached)| attached.leads());
        let has_any = leading.any(|(point, _)| is_unknown(point.key.ifindex))
            || inside.links.iter().filter_map(detour::interface_of).any(is_unknown);
        if has_any { self.remove_detours(netns) } else { Ok(false) }
    }

    /// Removes the detours in a namespace that are no instance's; returns true if there were any.
    pub(super) fn remove_detours(&self, netns: &NetnsRef) -> Result<bool, ShapingError> {
        let is_known = |interface| self.instance(&detour_key(netns, interface)).is_some();
        let removed =
            self.visit(netns, |socket, _| detour::remove_unknown(socket, &links(socket)?, is_known))?;
        if removed {
            tracing::warn!(netns = %netns.path.display(), "removed a way of ours on which no packets waited");
        }
        Ok(removed)
    }

    /// The classifiers on the devices of `points` that have our programs' names, but for those of instances.
    fn suspects<'a>(
        &self,
        points: &'a [AttachPoint],
    ) -> Result<Vec<(&'a AttachPoint, Attached)>, ShapingError> {
        let (inner, outer): (Vec<_>, Vec<_>) =
            points.iter().partition(|point| !point.device.site.is_on_host());
        let mut found = Vec::new();
        if let Some(first) = inner.first() {
            let netns = survey::open(&first.netns, &self.host)?;
            let listed = netns.enter(|| self.list_suspects(inner)).map_err(cannot_enter)?;
            found.extend(listed.map_err(|error| explain(&error))?);
        }
        if !outer.is_empty() {
            found.extend(self.list_suspects(outer).map_err(|error| explain(&error))?);
        }
        Ok(found)
    }

    /// The same, on devices in the calling thread's namespace.
    fn list_suspects<'a>(
        &self,
        points: Vec<&'a AttachPoint>,
    ) -> Result<Vec<(&'a AttachPoint, Attached)>, NetlinkError> {
        let socket = Socket::open()?;
        let mut found = Vec::new();
        for point in points {
            let own = self.instance(&point.key).map(|instance| instance.program_id());
            let others = Attached::on(&socket, &point.device)?.into_iter();
            let others = others.filter(|attached| !own.is_some_and(|own| attached.runs(own)));
            let suspects = others.filter(|other| other.is_named_as_ours(&point.device));
            found.extend(suspects.map(|suspect| (point, suspect)));
        }
        Ok(found)
    }

    fn take_over(
        &self,
        point: &AttachPoint,
        leftover: &Leftover,
        program: ProgramInfo,
    ) -> Result<(), OpenError> {
        let instance = leftover.pin(program, point, self.loader()?, &self.pin_dir)?;
        pins::publish(&self.pin_dir, point.key.pin_name())?;
        let device = &point.device;
        let look = || link_at(&Socket::open()?, device.ifindex);
        let link = survey::on_device(point, &self.host, look)?.ok_or_else(gone)?;
        let recorded = self.record_of_moved(leftover.program_id);
        let guess = || restore::guess(device, &link, leftover.attached.hook());
        instance.write_original(recorded.unwrap_or_else(guess))?;
        ready::resume(&instance)?;
        tracing::info!(interface = %instance, "adopted without its pins");
        self.instances_mut().insert(point.key, instance.into());
        Ok(())
    }

    /// Takes a classifier off a device that an instance is on as well.
    fn remove_beside(&self, point: &AttachPoint, leftover: &Leftover) -> Result<(), ShapingError> {
        tracing::warn!(interface = %point, program = leftover.program_id, "removing a second classifier");
        let take_off = || leftover.attached.take_off(&Socket::open()?, &point.device);
        survey::on_device(point, &self.host, take_off)
    }
}
