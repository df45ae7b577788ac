//! The effects on packets over time.

use std::{fmt, time::Duration};

use super::{effects::Effects, error::PolicyError};

/// The effects on packets over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    steps: Vec<Step>,
    repeats: bool,
}

/// Effects for a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The duration; none if they stay.
    pub lasts: Option<Duration>,
    /// True if they interpolate linearly to those of the next step.
    pub ramp: bool,
    /// The effects.
    pub effects: Effects,
}

/// The most steps of a schedule that are shown in one line.
const SHOWN_STEPS: usize = 4;

impl Default for Schedule {
    fn default() -> Self {
        Self::always(Effects::default())
    }
}

impl Schedule {
    /// The same at all times.
    pub fn always(effects: Effects) -> Self {
        Self { steps: vec![Step { effects, ..Step::default() }], repeats: false }
    }

    /// Steps one after the other, over and over if it `repeats`.
    ///
    /// # Errors
    ///
    /// When there are none, or one does not end that has to.
    pub fn new(steps: Vec<Step>, repeats: bool) -> Result<Self, PolicyError> {
        check_lengths(&steps, repeats)?;
        Ok(Self { steps, repeats })
    }

    /// One by one.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns true if they repeat.
    pub const fn repeats(&self) -> bool {
        self.repeats
    }

    /// The effects, if they are the same at all times.
    pub fn constant(&self) -> Option<&Effects> {
        match &self.steps[..] {
            [step] if !step.ramp => Some(&step.effects),
            _ => None,
        }
    }

    /// The effects that stay: those of all times, or those at the end of the only ramp.
    pub fn settled(&self) -> Option<&Effects> {
        match &self.steps[..] {
            [step] if !step.ramp => Some(&step.effects),
            [Step { ramp: true, .. }, last] if !self.repeats => Some(&last.effects),
            _ => None,
        }
    }

    /// Returns true if it leaves packets alone at all times.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.effects.is_empty())
    }

    /// Each step and the one after it: the first one after the last, and itself after the last that stays.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Step, &Step)> {
        let first = if self.repeats { self.steps.first() } else { self.steps.last() };
        self.steps.iter().zip(self.steps.iter().skip(1).chain(first))
    }

    pub(super) fn effects(&self) -> impl Iterator<Item = &Effects> {
        self.steps.iter().map(|step| &step.effects)
    }
}

impl fmt::Display for Schedule {
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

fn check_lengths(steps: &[Step], repeats: bool) -> Result<(), PolicyError> {
    let Some((last, others)) = steps.split_last() else {
        return Err(PolicyError::missing("a schedule", "steps", "write at least one").at("step"));
    };
    if let Some(number) = others.iter().position(|step| step.lasts.is_none()) {
        let what = format!("step {} has no end, so none after it comes", number + 1);
        return Err(in_step(number, "for", what, "say what it is `for`"));
    }
    if let Some(number) = steps.iter().position(|step| step.lasts.is_some_and(|lasts| lasts.is_zero())) {
        let what = format!("step {} is for no time", number + 1);
        return Err(in_step(number, "for", what, "write for example 10s, or leave the step out"));
    }
    let in_last = |field, what: &str, advice| Err(in_step(others.len(), field, what.to_owned(), advice));
    match (last.lasts, repeats) {
        (None, true) => {
            in_last("for", "the last step has no end, so nothing repeats", "say what it is `for`")
        }
        (Some(_), false) => in_last(
            "for",
            "the last step stays",
            "leave out what it is `for`, or `repeat` all, or add a step after it",
        ),
        _ if last.ramp && !repeats => in_last(
            "ramp",
            "the last step has none after it to turn into",
            "leave out its ramp, or add a step",
        ),
        _ => Ok(()),
    }?;
    let whole =
        steps.iter().try_fold(Duration::ZERO, |sum, step| sum.checked_add(step.lasts.unwrap_or_default()));
    match whole {
        Some(whole) if whole <= Duration::from_secs(10 * 365 * 86_400) => Ok(()),
        _ => Err(PolicyError::contradiction("a schedule of more than ten years", "make its steps shorter")),
    }
}

fn in_step(number: usize, field: &'static str, what: String, advice: &'static str) -> PolicyError {
    PolicyError::contradiction(what, advice).at(field).at(number).at("step")
}
