//! All that an interface's traffic goes through in one direction: by time and by target.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use shaper_common::plan::{MAX_COURSES, MAX_STEPS};

use super::{
    Direction,
    deliveries::Deliveries,
    distribution::Distribution,
    effects::{Delay, Effects, Link, SlotTime, Tables},
    interfaces::Interfaces,
    ramp,
    selector::{Name, Selector},
    units::quoted,
};

/// What becomes of packets; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The interfaces that it is for, also those that come later; none is those that connect to the outside.
    pub(crate) interfaces: Option<Interfaces>,
    /// What random numbers are drawn from; drawn itself if none.
    pub(crate) seed: Option<u64>,
    /// What becomes of packets that no target has.
    pub(crate) course: Course,
    /// In order: a packet is the first one's that has it.
    pub(crate) targets: Vec<Target>,
}

/// What becomes of packets in the course of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    steps: Vec<Step>,
    repeats: bool,
}

/// Effects for a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// How long; none is that they stay.
    pub(crate) lasts: Option<Duration>,
    /// Whether they turn by and by into those of the step after it.
    pub(crate) ramp: bool,
    /// What they are.
    pub(crate) effects: Effects,
}

/// Packets that have a course of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Which.
    pub(crate) selector: Selector,
    /// What becomes of them.
    pub(crate) course: Course,
}

/// How many steps of a course are shown in one line.
const SHOWN_STEPS: usize = 4;

impl Default for Course {
    fn default() -> Self {
        Self::always(Effects::default())
    }
}

impl Course {
    /// The same at all times.
    pub(crate) fn always(effects: Effects) -> Self {
        Self { steps: vec![Step { effects, ..Step::default() }], repeats: false }
    }

    /// Steps one after the other, over and over if it `repeats`.
    ///
    /// # Errors
    ///
    /// When there are none or too many, one does not end that has to, or one cannot turn into the next.
    pub(crate) fn new(steps: Vec<Step>, repeats: bool) -> Result<Self, String> {
        check_lengths(&steps, repeats)?;
        let course = Self { steps, repeats };
        let mut tables = Tables::default();
        for (number, (step, next)) in course.pairs().enumerate() {
            if step.ramp {
                let maps = (step.effects.to_map(&mut tables), next.effects.to_map(&mut tables));
                ramp::check(&step.effects, &next.effects)
                    .and_then(|()| ramp::aligned(maps.0, maps.1))
                    .map_err(|error| format!("step {} cannot ramp to the next one: {error}", number + 1))?;
            }
        }
        Ok(course)
    }

    /// One by one.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether they begin anew after the last one.
    pub(crate) const fn repeats(&self) -> bool {
        self.repeats
    }

    /// The effects, if they are the same at all times.
    pub(crate) fn constant(&self) -> Option<&Effects> {
        match &self.steps[..] {
            [step] if !step.ramp => Some(&step.effects),
            _ => None,
        }
    }

    /// The effects that stay: those of all times, or those at the end of the only ramp.
    pub(crate) fn settled(&self) -> Option<&Effects> {
        match &self.steps[..] {
            [step] if !step.ramp => Some(&step.effects),
            [Step { ramp: true, .. }, last] if !self.repeats => Some(&last.effects),
            _ => None,
        }
    }

    /// Whether it leaves packets alone at all times.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.effects.is_empty())
    }

    /// Each step and the one after it: the first one after the last, and itself after the last that stays.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Step, &Step)> {
        let first = if self.repeats { self.steps.first() } else { self.steps.last() };
        self.steps.iter().zip(self.steps.iter().skip(1).chain(first))
    }

    fn effects(&self) -> impl Iterator<Item = &Effects> {
        self.steps.iter().map(|step| &step.effects)
    }
}

impl fmt::Display for Course {
    /// `delay 100ms ramping for 10s, then delay 200ms`; nothing at all times is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(effects) = self.constant().filter(|_| !self.repeats) {
            return f.pad(&effects.to_string());
        }
        let step = |step: &Step| {
            let effects = match step.effects.to_string() {
                nothing if nothing.is_empty() => "nothing".to_owned(),
                effects => effects,
            };
            let how = if step.ramp { " ramping" } else { "" };
            let lasts = step
                .lasts
                .map_or_else(String::new, |lasts| format!(" for {}", humantime::format_duration(lasts)));
            format!("{effects}{how}{lasts}")
        };
        let steps = self.steps.iter().take(SHOWN_STEPS).map(step).collect::<Vec<_>>().join(", then ");
        let more = match self.steps.len().saturating_sub(SHOWN_STEPS) {
            0 => String::new(),
            more => format!(", then {more} more"),
        };
        f.pad(&format!("{steps}{more}{}", if self.repeats { ", over and over" } else { "" }))
    }
}

fn check_lengths(steps: &[Step], repeats: bool) -> Result<(), String> {
    let Some((last, others)) = steps.split_last() else {
        return Err("a course without steps: write at least one".to_owned());
    };
    if let Some(number) = others.iter().position(|step| step.lasts.is_none()) {
        return Err(format!("step {} has no end, so none after it comes: say what it is `for`", number + 1));
    }
    if steps.iter().any(|step| step.lasts.is_some_and(|lasts| lasts.is_zero())) {
        return Err("a step for no time: write for example 10s, or leave the step out".to_owned());
    }
    match (last.lasts, repeats) {
        (None, true) => Err("the last step has no end, so nothing repeats: say what it is `for`".to_owned()),
        (Some(_), false) => {
            Err("the last step stays: leave out what it is `for`, or `repeat` all, or add a step after it"
                .to_owned())
        }
        _ if last.ramp && !repeats => {
            Err("the last step has none after it to turn into: leave out its ramp, or add a step".to_owned())
        }
        _ => Ok(()),
    }?;
    let whole =
        steps.iter().try_fold(Duration::ZERO, |sum, step| sum.checked_add(step.lasts.unwrap_or_default()));
    match whole {
        Some(whole) if whole <= Duration::from_secs(10 * 365 * 86_400) => Ok(()),
        _ => Err("a course of more than ten years: make its steps shorter".to_owned()),
    }
}

impl Plan {
    /// The same for all packets at all times.
    pub(crate) fn always(effects: Effects) -> Self {
        Self { course: Course::always(effects), ..Self::default() }
    }

    /// The same, with its targets' ports as packets of one direction have them.
    ///
    /// # Errors
    ///
    /// When two targets are alike then.
    pub(crate) fn seen_in(self: &Arc<Self>, direction: Direction) -> Result<Arc<Self>, String> {
        let seen = self.targets.iter().map(|target| Target {
            selector: target.selector.seen_in(direction),
            course: target.course.clone(),
        });
        let targets: Vec<_> = seen.collect();
        if targets == self.targets {
            return Ok(Arc::clone(self));
        }
        Self { targets, ..Self::clone(self) }.checked().map(Arc::new)
    }

    /// Itself, if its parts make sense together.
    ///
    /// # Errors
    ///
    /// When there are too many targets or steps, two targets alike, or two tables of one name.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let most = MAX_COURSES as usize - 1;
        if self.targets.len() > most {
            return Err(format!("{} targets are too many: the most are {most}", self.targets.len()));
        }
        let steps: usize = self.courses().map(|course| course.steps.len()).sum();
        // A ramp may need a second one in the kernel.
        if steps > MAX_STEPS as usize / 2 {
            return Err(format!("{steps} steps are too many: the most are {}", MAX_STEPS / 2));
        }
        for (number, target) in self.targets.iter().enumerate() {
            if self.targets[..number].iter().any(|other| other.selector == target.selector) {
                return Err(format!(
                    "there are two targets {}: leave one of them out",
                    target.selector.short()
                ));
            }
        }
        self.check_tables()?;
        Ok(self)
    }

    fn check_tables(&self) -> Result<(), String> {
        let mut named = super::effects::Named::default();
        let twice =
            |name: &str| Err(format!("there are two tables {}: call one of them otherwise", quoted(name)));
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

    /// By class: its own course, and that of each target.
    pub(crate) fn courses(&self) -> impl Iterator<Item = &Course> {
        std::iter::once(&self.course).chain(self.targets.iter().map(|target| &target.course))
    }

    /// All effects that it has at some time on some packets.
    pub(crate) fn effects(&self) -> impl Iterator<Item = &Effects> {
        self.courses().flat_map(Course::effects)
    }

    /// What has to be resolved before it can be compiled.
    pub(crate) fn names(&self) -> BTreeSet<&Name> {
        self.targets.iter().flat_map(|target| target.selector.names()).collect()
    }

    /// Whether it leaves all packets alone.
    pub(crate) fn is_empty(&self) -> bool {
        self.courses().all(Course::is_empty)
    }

    /// The distributions that effects have from tables of their own.
    pub(crate) fn distributions(&self) -> impl Iterator<Item = &Distribution> {
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
    pub(crate) fn traces(&self) -> impl Iterator<Item = &Deliveries> {
        self.effects().filter_map(|effects| match &effects.link {
            Some(Link::Trace(trace)) => Some(trace),
            _ => None,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::shaping::{
        effects::tests::{any_effects, effects},
        selector::tests::any_selector,
    };

    /// A step, for so many seconds if not for ever.
    pub(crate) fn step(seconds: u64, ramp: bool, words: &str) -> Step {
        let lasts = (seconds > 0).then(|| Duration::from_secs(seconds));
        Step { lasts, ramp, effects: effects(words) }
    }

    #[test]
    fn courses_that_cannot_be_are_refused() {
        for (steps, repeats, said) in [
            (vec![], false, "a course without steps"),
            (vec![step(0, false, ""), step(0, false, "")], false, "step 1 has no end"),
            (
                vec![step(1, false, ""), step(0, false, "")],
                true,
                "the last step has no end, so nothing repeats",
            ),
            (vec![step(1, false, "")], false, "the last step stays"),
            (vec![step(1, false, ""), step(0, true, "")], false, "the last step has none after it"),
            (
                vec![step(1, true, ""), step(0, false, "rate 1mbit")],
                false,
                "step 1 cannot ramp to the next one",
            ),
            (vec![step(u64::MAX, false, ""), step(0, false, "")], false, "more than ten years"),
        ] {
            let error = Course::new(steps, repeats).expect_err(said);
            assert!(error.contains(said), "{error:?} lacks {said:?}");
        }
    }

    #[test]
    fn plans_that_cannot_be_are_refused() {
        let target = Target { selector: "10.0.0.1".parse().expect("a selector"), course: Course::default() };
        let plan = Plan { targets: vec![target.clone(), target.clone()], ..Plan::default() };
        assert_eq!(plan.checked(), Err("there are two targets 10.0.0.1: leave one of them out".to_owned()));
        let plan = Plan { targets: vec![target; 256], ..Plan::default() };
        assert_eq!(plan.checked(), Err("256 targets are too many: the most are 255".to_owned()));
    }

    fn courses() -> impl Strategy<Value = Course> {
        let lasts = (1..=1_000_000_000_000_u64).prop_map(Duration::from_nanos);
        let step = (lasts, any_effects()).prop_map(|(lasts, effects)| Step {
            lasts: Some(lasts),
            ramp: false,
            effects,
        });
        (vec(step, 1..4), any::<bool>()).prop_map(|(mut steps, repeats)| {
            if !repeats {
                steps.last_mut().expect("one").lasts = None;
            }
            // What turns into itself always can.
            let first = steps[0].clone();
            if first.lasts.is_some() {
                steps.insert(0, Step { ramp: true, ..first });
            }
            Course::new(steps, repeats).expect("a good one")
        })
    }

    /// Any plan that makes sense.
    pub(crate) fn any_plan() -> impl Strategy<Value = Plan> {
        let target = (any_selector(), courses()).prop_map(|(selector, course)| Target { selector, course });
        let interfaces = proptest::option::of("[a-z]{1,15}[*]?");
        let parts = (interfaces, any::<Option<u64>>(), courses(), vec(target, 0..4));
        parts.prop_map(|(interfaces, seed, course, mut targets)| {
            let interfaces = interfaces.map(|pattern| vec![pattern].try_into().expect("a good pattern"));
            targets.dedup_by(|one, other| one.selector == other.selector);
            Plan { interfaces, seed, course, targets }.checked().unwrap_or_default()
        })
    }
}
