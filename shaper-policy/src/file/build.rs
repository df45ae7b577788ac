//! Understands the texts of a document, and says where in it something is wrong.

use super::{
    Files,
    parts::{RawPolicy, RawSchedule, RawStep, RawTables, RawTarget},
    raw::{NETEM, Texts},
};
use crate::{
    compile,
    model::{
        Distribution, Effects, Interfaces, MatchRule, Named, Policy, PolicyError, Ports, Schedule, Segment,
        Step, Target, Trace, parse_duration,
    },
    text::{Clause, Draft},
};

impl RawPolicy {
    /// Returns the policy; names are those of its own tables and of `named`.
    ///
    /// # Errors
    ///
    /// When a text says what cannot be, or texts contradict one another.
    pub(crate) fn build(self, files: &dyn Files, named: &Named) -> Result<Policy, PolicyError> {
        let named = &self.tables.add_to(named.clone(), files)?;
        let schedule = self.schedule.build(named)?;
        let targets = self
            .target
            .into_iter()
            .enumerate()
            .map(|(number, target)| target.build(named).map_err(|error| error.at(number).at("target")));
        let targets = targets.collect::<Result<_, _>>()?;
        let interfaces = Interfaces::new(self.interface, self.network)?;
        let (prepared, seed) = (self.prepare, self.seed);
        Policy { interfaces, prepared, seed, schedule, targets }.checked()
    }
}

impl RawTables {
    /// Adds them to those that there are.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or numbers are no table.
    pub(crate) fn add_to(self, mut named: Named, files: &dyn Files) -> Result<Named, PolicyError> {
        for (name, numbers) in self.distributions {
            let read = |path: &str| files.distribution(&name, path);
            let made = numbers.resolve(read, |entries| Distribution::from_entries(&name, entries));
            let made = made.map_err(|error| error.at(name.clone()).at("distributions"))?;
            named.distributions.insert(name, made);
        }
        for (name, numbers) in self.traces {
            let read = |path: &str| files.trace(&name, path);
            let made = numbers.resolve(read, |times| Trace::from_times(&name, times));
            let made = made.map_err(|error| error.at(name.clone()).at("traces"))?;
            named.traces.insert(name, made);
        }
        Ok(named)
    }
}

impl RawSchedule {
    fn build(self, named: &Named) -> Result<Schedule, PolicyError> {
        match (self.step, self.texts.first()) {
            (Some(_), Some((field, _))) => Err(PolicyError::contradiction(
                "there are effects beside steps",
                "put them into a step, or leave the steps out",
            )
            .at(*field)),
            (None, _) if self.repeat.is_some() => {
                Err(PolicyError::missing("repeat", "steps", "add some").at("repeat"))
            }
            (None, _) => effects(&self.texts, named).map(Schedule::always),
            (Some(raw), None) => {
                let steps = raw
                    .iter()
                    .enumerate()
                    .map(|(number, step)| step.build(named).map_err(|error| error.at(number).at("step")));
                let steps = steps.collect::<Result<_, _>>()?;
                let schedule = compile::schedule(steps, self.repeat.unwrap_or(false));
                schedule.map_err(|error| in_step(error, &raw))
            }
        }
    }
}

impl RawStep {
    fn build(&self, named: &Named) -> Result<Step, PolicyError> {
        let lasts = self.lasts.as_ref().map(|text| parse_duration(text, "time"));
        Ok(Step {
            lasts: lasts.transpose().map_err(|error| error.at("for"))?,
            ramp: self.ramp.unwrap_or(false),
            effects: effects(&self.texts, named)?,
        })
    }

    fn has(&self, field: &str) -> bool {
        match field {
            "for" => self.lasts.is_some(),
            _ => self.ramp.is_some(),
        }
    }
}

impl RawTarget {
    fn build(self, named: &Named) -> Result<Target, PolicyError> {
        let mut rule = self.to.unwrap_or_default();
        if let Some(text) = self.protocol {
            let protocol = text.parse().and_then(|protocol| rule.set_protocol(protocol));
            protocol.map_err(|error| error.at("protocol"))?;
        }
        add_ports(&mut rule.ports, "port", self.port)?;
        add_ports(&mut rule.local_ports, "local-port", self.local_port)?;
        let rule = MatchRule::checked(rule).map_err(|error| error.at("to"))?;
        Ok(Target { rule, schedule: self.schedule.build(named)? })
    }
}

fn add_ports(ports: &mut Ports, field: &'static str, text: Option<String>) -> Result<(), PolicyError> {
    text.map_or(Ok(()), |text| ports.once(field, &text)).map_err(|error| error.at(field))
}

/// The effects that the fields of a table say together.
fn effects(texts: &Texts, named: &Named) -> Result<Effects, PolicyError> {
    draft(texts, named)?.finish().map_err(|error| in_field(error, texts))
}

/// The effects that the fields of a table say, not yet put together.
pub(crate) fn draft(texts: &Texts, named: &Named) -> Result<Draft, PolicyError> {
    let mut draft = Draft::default();
    for (field, text) in texts {
        let read = match Clause::field(field) {
            None => draft.read(text, named),
            Some(clause) => draft.read_field(clause, text, named),
        };
        read.map_err(|error| error.at(*field))?;
    }
    Ok(draft)
}

/// The error in the field that it is about or, if the table has no such field, in the one that must have said it.
pub(crate) fn in_field(error: PolicyError, texts: &Texts) -> PolicyError {
    let has = |wanted: &str| texts.iter().map(|(field, _)| *field).find(|field| *field == wanted);
    let wanted = match error.path() {
        [Segment::Field(field)] => has(field),
        _ => None,
    };
    match wanted.or_else(|| has(NETEM)).or(texts.first().map(|(field, _)| *field)) {
        Some(field) => error.anywhere().at(field),
        None => error.anywhere(),
    }
}

/// The same for an error of a schedule, which is in a field of one step.
fn in_step(error: PolicyError, steps: &[RawStep]) -> PolicyError {
    let [Segment::Field(_), Segment::Index(number), Segment::Field(field)] = error.path() else {
        return error;
    };
    let number = *number;
    match steps.get(number) {
        Some(step) if !step.has(field) => in_field(error.anywhere(), &step.texts).at(number).at("step"),
        _ => error,
    }
}
