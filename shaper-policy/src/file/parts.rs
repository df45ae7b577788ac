//! A plan's tables: the whole of it, its steps and its targets.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use shaper_common::plan::{MAX_SCHEDULES, MAX_STEPS};

use super::values::{Context, Each, Keys, List, Text, table, text};
use crate::{
    compile,
    model::{Interfaces, MAX_PREFIXES, Peer, Plan, Ports, Schedule, Selector, Step, Target, parse_duration},
    text::{CLAUSES, Draft},
};

/// The whole of it.
pub(super) struct Document<'a> {
    pub(super) context: &'a Context<'a>,
}
table!(Document, Plan, "a plan");

const PLAN_FIELDS: &[&str] = &[
    "interface",
    "seed",
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "limit",
    "ecn",
    "repeat",
    "step",
    "target",
    "distributions",
    "traces",
];
const STEP_FIELDS: &[&str] = &[
    "for",
    "ramp",
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "limit",
    "ecn",
];
const TARGET_FIELDS: &[&str] = &[
    "to",
    "protocol",
    "port",
    "local-port",
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "trace",
    "queue",
    "mark",
    "slot",
    "limit",
    "ecn",
    "repeat",
    "step",
];

impl Document<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<Plan, A::Error> {
        let context = self.context;
        let (mut keys, mut interfaces, mut seed) = (Keys::of(context), None, None);
        let (mut schedule, mut targets) = (ScheduleParts::default(), Vec::new());
        while let Some(key) = keys.next(&mut map, PLAN_FIELDS)? {
            match key.as_str() {
                "interface" => {
                    interfaces = Some(keys.value(&mut map, context, PhantomData::<Interfaces>)?);
                }
                "seed" => seed = Some(keys.value(&mut map, context, PhantomData::<u64>)?),
                "target" => {
                    targets = keys.value(
                        &mut map,
                        context,
                        List {
                            expecting: "targets",
                            most: MAX_SCHEDULES as usize,
                            element: Targets(context),
                        },
                    )?;
                }
                "distributions" | "traces" => {
                    keys.value(&mut map, context, PhantomData::<IgnoredAny>)?;
                }
                _ => schedule.read(&key, &keys, &mut map, context)?,
            }
        }
        let schedule = schedule.finish(&keys, context)?;
        let last = targets.pop();
        let last_keys = last.as_ref().map(|(_, keys)| Keys { number: keys.number, keys: keys.keys.clone() });
        let targets = targets.into_iter().chain(last).map(|(target, _)| target).collect();
        let plan = Plan { interfaces, seed, schedule, targets };
        plan.checked().map_err(|error| context.blame(last_keys.as_ref().unwrap_or(&keys), "to", error))
    }
}

/// The effects that a table has, at all times or in steps.
#[derive(Default)]
struct ScheduleParts {
    draft: Draft,
    has_clauses: bool,
    repeats: Option<bool>,
    steps: Option<Vec<(Step, Keys)>>,
}

impl ScheduleParts {
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        keys: &Keys,
        map: &mut A,
        context: &Context<'_>,
    ) -> Result<(), A::Error> {
        match key {
            "repeat" => self.repeats = Some(keys.value(map, context, PhantomData::<bool>)?),
            "step" => {
                self.steps = Some(keys.value(
                    map,
                    context,
                    List { expecting: "steps", most: MAX_STEPS as usize, element: Steps(context) },
                )?);
            }
            _ => {
                self.has_clauses = true;
                read_clause(&mut self.draft, key, keys, map, context)?;
            }
        }
        Ok(())
    }

    fn finish<E: Error>(self, keys: &Keys, context: &Context<'_>) -> Result<Schedule, E> {
        let blame = |error: &str| Err(context.blame(keys, "netem", error.to_owned()));
        match self.steps {
            Some(_) if self.has_clauses => {
                blame("there are effects beside steps: put them into a step, or leave the steps out")
            }
            None if self.repeats.is_some() => blame("repeat needs steps: add some"),
            None => {
                let effects = self.draft.finish().map_err(|error| context.blame(keys, "netem", error))?;
                Ok(Schedule::always(effects))
            }
            Some(steps) => {
                let (steps, tables): (Vec<Step>, Vec<Keys>) = steps.into_iter().unzip();
                compile::schedule(steps, self.repeats.unwrap_or(false)).map_err(|error| {
                    let number =
                        error.strip_prefix("step ").and_then(|rest| rest.split(' ').next()?.parse().ok());
                    let table = number.and_then(|number: usize| tables.get(number - 1)).or(tables.last());
                    context.blame(table.unwrap_or(keys), "for", error)
                })
            }
        }
    }
}

/// Reads one clause, or any in netem's words.
fn read_clause<'de, A: MapAccess<'de>>(
    draft: &mut Draft,
    key: &str,
    keys: &Keys,
    map: &mut A,
    context: &Context<'_>,
) -> Result<(), A::Error> {
    if key == "ecn" {
        let ecn = keys.value(map, context, PhantomData::<bool>)?;
        return if ecn { draft.set_ecn().map_err(A::Error::custom) } else { Ok(()) };
    }
    let clause = CLAUSES.iter().find(|(clause, _)| *clause == key);
    let read = |text: &str| match clause {
        None => draft.read(text, context.named),
        Some((clause, _)) => draft.read_clause(clause, text, context.named),
    };
    keys.value(map, context, Text { expecting: "netem's words", may_be_number: key == "limit", make: read })
}

struct Steps<'a>(&'a Context<'a>);

impl<'de> Each<'de> for Steps<'_> {
    type Value = (Step, Keys);

    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error> {
        list.next_element_seed(StepTable { context: self.0 })
    }
}

struct StepTable<'a> {
    context: &'a Context<'a>,
}
table!(StepTable, (Step, Keys), "a step");

impl StepTable<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(Step, Keys), A::Error> {
        let context = self.context;
        let (mut keys, mut step, mut draft) = (Keys::of(context), Step::default(), Draft::default());
        while let Some(key) = keys.next(&mut map, STEP_FIELDS)? {
            match key.as_str() {
                "for" => {
                    let lasts = text("a time, for example 10s", |text| parse_duration(text, "time"));
                    step.lasts = Some(keys.value(&mut map, context, lasts)?);
                }
                "ramp" => step.ramp = keys.value(&mut map, context, PhantomData::<bool>)?,
                _ => read_clause(&mut draft, &key, &keys, &mut map, context)?,
            }
        }
        step.effects = draft.finish().map_err(|error| context.blame(&keys, "netem", error))?;
        Ok((step, keys))
    }
}

struct Targets<'a>(&'a Context<'a>);

impl<'de> Each<'de> for Targets<'_> {
    type Value = (Target, Keys);

    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error> {
        list.next_element_seed(TargetTable { context: self.0 })
    }
}

struct TargetTable<'a> {
    context: &'a Context<'a>,
}
table!(TargetTable, (Target, Keys), "a target");

impl TargetTable<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(Target, Keys), A::Error> {
        let context = self.context;
        let (mut keys, mut schedule) = (Keys::of(context), ScheduleParts::default());
        let mut to = Selector::default();
        let mut rest = Selector::default();
        while let Some(key) = keys.next(&mut map, TARGET_FIELDS)? {
            let port = |ports| Text { expecting: "ports", may_be_number: true, make: ports };
            match key.as_str() {
                "to" => to = keys.value(&mut map, context, To)?,
                "protocol" => {
                    let protocol = |text: &str| rest.set_protocol(text.parse()?);
                    keys.value(
                        &mut map,
                        context,
                        Text { expecting: "a protocol", may_be_number: true, make: protocol },
                    )?;
                }
                "port" => keys.value(&mut map, context, port(|text: &str| rest.ports.once("port", text)))?,
                "local-port" => {
                    let ports = Text {
                        expecting: "ports",
                        may_be_number: true,
                        make: |text: &str| rest.local_ports.once("local-port", text),
                    };
                    keys.value(&mut map, context, ports)?;
                }
                _ => schedule.read(&key, &keys, &mut map, context)?,
            }
        }
        let selector = joined(to, rest).map_err(|error| context.blame(&keys, "to", error))?;
        let schedule = schedule.finish(&keys, context)?;
        Ok((Target { selector, schedule }, keys))
    }
}

/// Joins a selector in one line with fields.
fn joined(mut line: Selector, fields: Selector) -> Result<Selector, String> {
    if let Some(protocol) = fields.protocol {
        line.set_protocol(protocol)?;
    }
    for (word, place, ports) in
        [("port", &mut line.ports, fields.ports), ("local-port", &mut line.local_ports, fields.local_ports)]
    {
        if ports != Ports::default() {
            place.once(word, &ports.to_string())?;
        }
    }
    line.checked()
}

/// One line, or a list of peers.
struct To;

impl<'de> DeserializeSeed<'de> for To {
    type Value = Selector;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Selector, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for To {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target, or a list of peers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Selector, E> {
        text.parse::<Selector>().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Selector, A::Error> {
        let mut peers = Vec::new();
        while let Some(peer) = list.next_element_seed(text("a peer", str::parse::<Peer>))? {
            if peers.len() == MAX_PREFIXES {
                return Err(A::Error::custom(format!(
                    "more than {MAX_PREFIXES} peers are too many for a target"
                )));
            }
            peers.push(peer);
        }
        if peers.is_empty() {
            return Err(A::Error::custom("a target of nobody: leave `to` out if it is all"));
        }
        Selector::default().with_peers(peers).map_err(A::Error::custom)
    }
}
