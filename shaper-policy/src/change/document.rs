//! A request as a document: the body of a change over the HTTP API.

use std::{collections::BTreeMap, sync::Arc};

use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed as _, MapAccess},
    ser::SerializeMap as _,
};

use super::{
    clauses::Clauses,
    request::{Asked, Request},
};
use crate::{
    file::{Limits, NETEM, NoFiles, RawPolicy, RawTables, Seed, Table, Texts, from_json},
    model::{
        Directions, Effects, Interfaces, MatchRule, Named, Patterns, Policy, PolicyError, parse_duration,
    },
};

/// A request as it is written.
#[derive(Default)]
struct RawRequest {
    texts: Texts,
    policy: Option<RawPolicy>,
    preset: Option<String>,
    tables: RawTables,
    to: Option<String>,
    interface: Option<Patterns>,
    network: Option<Patterns>,
    prepare: bool,
    ramp: Option<String>,
    direction: Option<Directions>,
    lifetime: Option<String>,
}

impl Table for RawRequest {
    const EXPECTING: &'static str = "a change of a shaping";
    const KEYS: &'static [&'static str] = &[
        "policy",
        "preset",
        "distributions",
        "traces",
        "to",
        "interface",
        "network",
        "prepare",
        "ramp",
        "direction",
        "for",
    ];

    fn texts(&mut self) -> &mut Texts {
        &mut self.texts
    }

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
        limits: &Limits,
    ) -> Result<(), A::Error> {
        match key {
            "policy" => self.policy = Some(map.next_value_seed(Seed::new(limits))?),
            "preset" => self.preset = Some(map.next_value()?),
            "to" => self.to = Some(map.next_value()?),
            "interface" => self.interface = Some(map.next_value()?),
            "network" => self.network = Some(map.next_value()?),
            "prepare" => self.prepare = map.next_value()?,
            "ramp" => self.ramp = Some(map.next_value()?),
            "direction" => self.direction = Some(map.next_value()?),
            "for" => self.lifetime = Some(map.next_value()?),
            _ => self.tables.read(key, map)?,
        }
        Ok(())
    }
}

impl Request {
    /// Reads a request in JSON: fields of effects, or `netem`, `policy` or `preset`; and `to`, `interface`, `network`,
    /// `prepare`, `ramp`, `direction` and `for`. What is left out stays as it is.
    ///
    /// # Errors
    ///
    /// When it has another form, says what cannot be, or asks for nothing.
    pub fn parse(json: &[u8]) -> Result<Self, PolicyError> {
        from_json(Seed::<RawRequest>::new(&Limits::default()), json)?.build()
    }

    /// Reads a request that was JSON, or another format's equivalent, as [`Self::parse`] does.
    ///
    /// # Errors
    ///
    /// The same ones; none says a line of the text, which is not known.
    pub fn from_value(value: serde_json::Value) -> Result<Self, PolicyError> {
        let limits = Limits::default();
        let raw = Seed::<RawRequest>::new(&limits).deserialize(value).map_err(PolicyError::malformed)?;
        raw.build()
    }

    /// Itself, if it asks for something.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let changes_nothing = self.asked == Asked::default();
        if changes_nothing && self.lifetime.is_none() && !self.prepare {
            return Err(PolicyError::contradiction(
                "nothing is asked for",
                "give at least one effect (as latency, loss or netem), a policy, a preset, prepare, or for",
            ));
        }
        if changes_nothing && (self.target.is_some() || self.ramp.is_some()) {
            return Err(PolicyError::contradiction(
                "`to` and `ramp` say nothing of what is to be done",
                "give an effect as well",
            ));
        }
        Ok(self)
    }
}

impl RawRequest {
    fn build(self) -> Result<Request, PolicyError> {
        let named = self.tables.add_to(Named::default(), &NoFiles)?;
        let usual = if self.preset.is_some() { Directions::Both } else { Directions::default() };
        let asked = asked(self.texts, self.policy, self.preset, &named)?;
        let ramp = self.ramp.map(|ramp| parse_duration(&ramp, "ramp")).transpose();
        let lifetime = self.lifetime.map(|text| text.parse()).transpose();
        Request {
            directions: self.direction.unwrap_or(usual),
            asked,
            interfaces: Interfaces::new(self.interface, self.network)?,
            prepare: self.prepare,
            target: self.to.map(|to| to.parse::<MatchRule>()).transpose().map_err(|error| error.at("to"))?,
            ramp: ramp.map_err(|error| error.at("ramp"))?.filter(|ramp| !ramp.is_zero()),
            lifetime: lifetime.map_err(|error: PolicyError| error.at("for"))?,
        }
        .checked()
    }
}

fn asked(
    texts: Texts,
    policy: Option<RawPolicy>,
    preset: Option<String>,
    named: &Named,
) -> Result<Asked, PolicyError> {
    let (netem, clauses): (Texts, Texts) = texts.into_iter().partition(|(field, _)| *field == NETEM);
    let whole: [Option<Result<Asked, PolicyError>>; 4] = [
        netem.first().map(|(_, words)| {
            let effects = Effects::parse(words, named).map_err(|error| error.at(NETEM))?;
            Ok(Asked::Effects(Box::new(effects)))
        }),
        policy.map(|policy| {
            let policy = policy.build(&NoFiles, named).map_err(|error| error.at("policy"))?;
            Ok(Asked::Policy(Arc::new(policy)))
        }),
        preset.map(|name| Ok(Asked::Preset(name))),
        (!clauses.is_empty()).then(|| Ok(Asked::Clauses(Box::new(Clauses::parse(&clauses, named)?)))),
    ];
    let mut whole = whole.into_iter().flatten();
    let asked = whole.next().unwrap_or_else(|| Ok(Asked::default()))?;
    match whole.next() {
        None => Ok(asked),
        Some(_) => Err(PolicyError::contradiction(
            "netem, policy, preset and single effects each say all by themselves",
            "give one of them",
        )),
    }
}

impl Serialize for Request {
    /// Writes it as [`Request::parse`] reads it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.asked {
            Asked::Clauses(clauses) => {
                for (field, text) in clauses.texts() {
                    map.serialize_entry(field, &text)?;
                }
                add_tables(&mut map, clauses.effects())?;
            }
            Asked::Effects(effects) => {
                map.serialize_entry(NETEM, &effects.to_string())?;
                add_tables(&mut map, effects)?;
            }
            Asked::Preset(name) => map.serialize_entry("preset", name)?,
            Asked::Network { .. } | Asked::Whole(_) => {
                return Err(serde::ser::Error::custom("this is no change by which others stay as they are"));
            }
            Asked::Policy(policy) => map.serialize_entry("policy", &**policy)?,
        }
        if let Some(rule) = &self.target {
            map.serialize_entry("to", &rule.to_string())?;
        }
        if let Some(interfaces) = &self.interfaces {
            for (key, patterns) in [("interface", interfaces.names()), ("network", interfaces.networks())] {
                if !patterns.is_empty() {
                    map.serialize_entry(key, &patterns)?;
                }
            }
        }
        if self.prepare {
            map.serialize_entry("prepare", &true)?;
        }
        if let Some(ramp) = &self.ramp {
            map.serialize_entry("ramp", &humantime::format_duration(*ramp).to_string())?;
        }
        map.serialize_entry("direction", &self.directions)?;
        if let Some(lifetime) = &self.lifetime {
            map.serialize_entry("for", lifetime)?;
        }
        map.end()
    }
}

/// Adds the tables that effects name.
fn add_tables<M: serde::ser::SerializeMap>(map: &mut M, effects: &Effects) -> Result<(), M::Error> {
    let policy = Policy::always(effects.clone());
    let distributions: BTreeMap<_, _> =
        policy.distributions().filter_map(|one| Some((one.name(), one.table()?.to_vec()))).collect();
    let traces: BTreeMap<_, _> = policy.traces().map(|trace| (&trace.name, &trace.times_ms[..])).collect();
    if !distributions.is_empty() {
        map.serialize_entry("distributions", &distributions)?;
    }
    if !traces.is_empty() {
        map.serialize_entry("traces", &traces)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        change::Lifetime,
        samples::{any_effects, any_interfaces, any_match_rule, any_policy},
    };

    fn requests() -> impl Strategy<Value = Request> {
        let asked = prop_oneof![
            any_effects().prop_map(|effects| Asked::Effects(Box::new(effects))),
            any_policy().prop_map(|policy| Asked::Policy(Arc::new(policy))),
            "[a-z]{1,8}".prop_map(Asked::Preset),
        ];
        let directions =
            prop_oneof![Just(Directions::Egress), Just(Directions::Ingress), Just(Directions::Both)];
        let seconds = (1..1_000_000_u64).prop_map(Duration::from_secs);
        let lifetime = prop_oneof![
            Just(None),
            Just(Some(Lifetime::Forever)),
            seconds.clone().prop_map(|duration| Some(Lifetime::For(duration))),
        ];
        let target = proptest::option::of(any_match_rule());
        let rest = (directions, target, any_interfaces(), proptest::option::of(seconds), lifetime);
        (asked, rest).prop_map(|(asked, (directions, target, interfaces, ramp, lifetime))| Request {
            directions,
            asked,
            target,
            interfaces,
            prepare: ramp.is_some(),
            ramp,
            lifetime,
        })
    }

    proptest! {
        #[test]
        fn a_request_survives_its_document(request in requests()) {
            let json = serde_json::to_vec(&request).expect("JSON");
            prop_assert_eq!(Request::parse(&json), Ok(request), "{}", String::from_utf8_lossy(&json));
        }
    }
}
