//! Turns a policy into what the kernel reads.

mod effects;
mod maps;
mod ramp;
mod shaping;
mod targets;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr};

use shaper_common::{
    policy::{self, MAX_QUEUE_PACKETS},
    random,
};

pub use self::maps::Maps;
use self::{effects::Tables, targets::add_targets};
use crate::model::{Name, Policy, PolicyError, Schedule, Step, as_ns};

/// The addresses that names have now; a name without any has no packets.
pub type Peers = BTreeMap<Name, Vec<IpAddr>>;

impl Policy {
    /// Returns the contents of the maps, for schedules that begin at `now_ns` of `CLOCK_MONOTONIC`; random numbers are
    /// drawn from `seed` where the policy has none.
    ///
    /// # Errors
    ///
    /// When there are more prefixes, rules or packets than the maps hold.
    pub fn compile(&self, now_ns: u64, seed: u64, peers: &Peers) -> Result<Maps, PolicyError> {
        let mut maps = Maps::default();
        let mut tables = Tables::default();
        let seed = self.seed.unwrap_or(seed);
        for (class, schedule) in self.schedules().enumerate() {
            add_schedule(&mut maps, schedule, class_seed(schedule, seed, class), now_ns, &mut tables)?;
        }
        (maps.distributions, maps.traces) = (tables.distributions, tables.traces);
        add_targets(&mut maps, &self.targets, peers)?;
        Ok(maps)
    }
}

/// A schedule whose steps can all be carried out.
///
/// # Errors
///
/// When there are none, one does not end that has to, or one cannot turn into the next.
pub(crate) fn schedule(all: Vec<Step>, repeats: bool) -> Result<Schedule, PolicyError> {
    let schedule = Schedule::new(all, repeats)?;
    let mut tables = Tables::default();
    for (number, (step, next)) in schedule.pairs().enumerate() {
        if step.ramp {
            let maps = (step.effects.to_map(&mut tables), next.effects.to_map(&mut tables));
            ramp::check(&step.effects, &next.effects).and_then(|()| ramp::aligned(maps.0, maps.1)).map_err(
                |error| {
                    let error = error.within(format!("step {} cannot ramp to the next one", number + 1));
                    error.at("ramp").at(number).at("step")
                },
            )?;
        }
    }
    Ok(schedule)
}

/// Returns the seed of the random numbers of a class: the seed in its own words, or one of its own from the policy's.
fn class_seed(schedule: &Schedule, seed: u64, class: usize) -> u64 {
    let own = schedule.steps().iter().find_map(|step| step.effects.seed);
    random::mix(random::mix(own.unwrap_or(seed)).wrapping_add(class as u64))
}

fn add_schedule(
    maps: &mut Maps,
    schedule: &Schedule,
    seed: u64,
    now_ns: u64,
    tables: &mut Tables,
) -> Result<(), PolicyError> {
    let first = number(maps.steps.len());
    let steps = if schedule.is_empty() { Vec::new() } else { steps(schedule, tables)? };
    let bounds = steps.iter().map(|step| step.effects.queue_packets.max(step.effects.mark_packets));
    let ring_length = bounds.max().unwrap_or(0);
    let ring = maps.ring_length;
    maps.ring_length += ring_length;
    if maps.ring_length > MAX_QUEUE_PACKETS {
        return Err(PolicyError::too_many(
            "packets that may wait for all targets together",
            MAX_QUEUE_PACKETS as usize,
            "bound their queues in fewer, or in time or bytes",
        ));
    }
    let period_ns = if schedule.repeats() { steps.last().map_or(0, |step| step.ends_ns) } else { 0 };
    let count = number(steps.len());
    maps.schedules.push(policy::Schedule {
        begins_at_ns: now_ns,
        period_ns,
        seed,
        first,
        count,
        ring,
        ring_length,
    });
    maps.steps.extend(steps);
    Ok(())
}

/// The steps of a schedule. One that turns into another which has to be different in the ramp and by itself gets one of no
/// duration behind it that is only turned into.
fn steps(schedule: &Schedule, tables: &mut Tables) -> Result<Vec<policy::Step>, PolicyError> {
    let mut pairs = Vec::new();
    for (step, next) in schedule.pairs() {
        let effects = step.effects.to_map(tables);
        pairs.push(if step.ramp {
            let (from, to) = ramp::aligned(effects, next.effects.to_map(tables))?;
            (from, Some(to))
        } else {
            (effects, None)
        });
    }
    let (mut steps, mut ends_ns) = (Vec::new(), 0_u64);
    for (index, step) in schedule.steps().iter().enumerate() {
        let lasts_ns = step.lasts.map_or(0, as_ns);
        ends_ns = if step.lasts.is_some() { ends_ns.saturating_add(lasts_ns) } else { u64::MAX };
        let (effects, turns_into) = pairs[index];
        steps.push(policy::Step { ends_ns, lasts_ns, ramp: u64::from(step.ramp), effects });
        let next = pairs[(index + 1) % pairs.len()].0;
        if let Some(effects) = turns_into.filter(|effects| *effects != next) {
            steps.push(policy::Step { ends_ns, lasts_ns: 0, ramp: 0, effects });
        }
    }
    Ok(steps)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
