//! All that an interface's traffic goes through in one direction: by time and by target.

use std::{collections::BTreeSet, sync::Arc};

use shaper_common::policy::{MAX_SCHEDULES, MAX_STEPS};

use super::{
    direction::Direction,
    distribution::Distribution,
    effects::{Bottleneck, Delay, Effects, SlotTime},
    error::{PolicyError, Problem},
    interfaces::Interfaces,
    match_rule::{MatchRule, Name},
    named::Named,
    quote::short,
    schedule::Schedule,
    trace::Trace,
};

/// The effects on packets, by target and over time; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The interfaces that it is for, also those that come later; none is those that connect to the outside.
    pub interfaces: Option<Interfaces>,
    /// True if the interfaces keep a queue whatever is done to packets, so that no change has to add or remove one.
    pub prepared: bool,
    /// The seed of random numbers; a random one if none.
    pub seed: Option<u64>,
    /// The effects on packets of no target.
    pub schedule: Schedule,
    /// In order: a packet is the first one's that has it.
    pub targets: Vec<Target>,
}

/// Packets that have a schedule of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The packets.
    pub rule: MatchRule,
    /// The effects on them.
    pub schedule: Schedule,
}

impl Policy {
    /// The same for all packets at all times.
    pub fn always(effects: Effects) -> Self {
        Self { schedule: Schedule::always(effects), ..Self::default() }
    }

    /// The same, with its targets' ports as packets of one direction have them.
    ///
    /// # Errors
    ///
    /// When two targets are alike then.
    pub fn seen_in(self: &Arc<Self>, direction: Direction) -> Result<Arc<Self>, PolicyError> {
        let seen = self
            .targets
            .iter()
            .map(|target| Target { rule: target.rule.seen_in(direction), schedule: target.schedule.clone() });
        let targets: Vec<_> = seen.collect();
        if targets == self.targets {
            return Ok(Arc::clone(self));
        }
        let seen = Self { targets, ..Self::clone(self) }.checked();
        seen.map(Arc::new).map_err(PolicyError::anywhere)
    }

    /// Itself, if its parts make sense together.
    ///
    /// # Errors
    ///
    /// When there are too many targets or steps, two targets alike, or two tables of one name.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let most = MAX_SCHEDULES as usize - 1;
        if self.targets.len() > most {
            return Err(PolicyError::too_many("targets", most, "").at("target"));
        }
        let steps: usize = self.schedules().map(|schedule| schedule.steps().len()).sum();
        // A ramp may need a second one in the kernel.
        if steps > MAX_STEPS as usize / 2 {
            return Err(PolicyError::too_many("steps", MAX_STEPS as usize / 2, ""));
        }
        for (number, target) in self.targets.iter().enumerate() {
            if self.targets[..number].iter().any(|other| other.rule == target.rule) {
                let what = format!("the target {}", target.rule.short());
                return Err(PolicyError::twice(what).at("to").at(number).at("target"));
            }
        }
        self.check_tables()?;
        Ok(self)
    }

    fn check_tables(&self) -> Result<(), PolicyError> {
        let mut named = Named::default();
        let twice = |name: &str| {
            let what = format!("the table {}", short(name));
            Err(Problem::Twice { what: what.into(), advice: "call one of them otherwise" }.into())
        };
        for distribution in self.distributions() {
            let name = distribution.name().to_owned();
            let old = named.distributions.insert(name.clone(), distribution.clone());
            if old.is_some_and(|old| old != *distribution) {
                return twice(&name);
            }
        }
        for trace in self.traces() {
            let old = named.traces.insert(trace.name.clone(), trace.clone());
            if old.is_some_and(|old| old != *trace) {
                return twice(&trace.name);
            }
        }
        Ok(())
    }

    /// By class: its own schedule, and that of each target.
    pub fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        std::iter::once(&self.schedule).chain(self.targets.iter().map(|target| &target.schedule))
    }

    /// All effects that it has at some time on some packets.
    pub fn effects(&self) -> impl Iterator<Item = &Effects> {
        self.schedules().flat_map(Schedule::effects)
    }

    /// Returns the names that have to be resolved before it can be compiled.
    pub fn names(&self) -> BTreeSet<&Name> {
        self.targets.iter().flat_map(|target| target.rule.names()).collect()
    }

    /// Returns true if it leaves all packets alone, and prepares nothing.
    pub fn is_empty(&self) -> bool {
        !self.prepared && self.schedules().all(Schedule::is_empty)
    }

    /// The distributions that effects have from tables of their own.
    pub fn distributions(&self) -> impl Iterator<Item = &Distribution> {
        self.effects()
            .flat_map(|effects| {
                let delay = match &effects.delay {
                    Some(Delay { jitter: Some(jitter), .. }) => Some(&jitter.distribution),
                    _ => None,
                };
                let slot = effects.slot.as_ref().and_then(|slot| match &slot.opens {
                    SlotTime::About { distribution, .. } => Some(distribution),
                    SlotTime::Between(..) => None,
                });
                delay.into_iter().chain(slot)
            })
            .filter(|distribution| matches!(distribution, Distribution::Table { .. }))
    }

    /// The delivery traces that effects have.
    pub fn traces(&self) -> impl Iterator<Item = &Trace> {
        self.effects().filter_map(|effects| match &effects.bottleneck {
            Some(Bottleneck::Trace(trace)) => Some(trace),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_cannot_be_are_refused() {
        let target =
            Target { rule: "10.0.0.1".parse().expect("a match rule"), schedule: Schedule::default() };
        let policy = Policy { targets: vec![target.clone(), target.clone()], ..Policy::default() };
        let error = policy.checked().expect_err("one target twice").to_string();
        assert_eq!(error, "target[1].to: the target 10.0.0.1 is given twice: leave one of them out");
        let policy = Policy { targets: vec![target; 256], ..Policy::default() };
        let error = policy.checked().expect_err("too many targets").to_string();
        assert_eq!(error, "target: too many targets: the most are 255");
    }
}
