//! The tables of a policy's document: the whole of it, its steps and its targets.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use shaper_common::policy::{MAX_SCHEDULES, MAX_STEPS};

use super::{
    raw::{Limits, List, NumberOrText, Seed, Table, Texts},
    tables::{Numbers, Tables},
};
use crate::model::{MAX_PREFIXES, MatchRule, Patterns, Peer, PolicyError};

/// The whole of it.
#[derive(Default)]
pub(crate) struct RawPolicy {
    pub(super) interface: Option<Patterns>,
    pub(super) network: Option<Patterns>,
    pub(super) prepare: bool,
    pub(super) seed: Option<u64>,
    pub(super) schedule: RawSchedule,
    pub(super) target: Vec<RawTarget>,
    pub(super) tables: RawTables,
}

/// Effects, at all times or in steps.
#[derive(Default)]
pub(super) struct RawSchedule {
    pub(super) texts: Texts,
    pub(super) repeat: Option<bool>,
    pub(super) step: Option<Vec<RawStep>>,
}

#[derive(Default)]
pub(super) struct RawStep {
    pub(super) texts: Texts,
    pub(super) lasts: Option<String>,
    pub(super) ramp: Option<bool>,
}

#[derive(Default)]
pub(super) struct RawTarget {
    pub(super) to: Option<MatchRule>,
    pub(super) protocol: Option<String>,
    pub(super) port: Option<String>,
    pub(super) local_port: Option<String>,
    pub(super) schedule: RawSchedule,
}

/// Distributions and delivery traces, by name.
#[derive(Default)]
pub(crate) struct RawTables {
    pub(super) distributions: BTreeMap<String, Numbers<i32>>,
    pub(super) traces: BTreeMap<String, Numbers<u32>>,
}

impl RawTables {
    pub(crate) fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "distributions" => self.distributions = map.next_value_seed(Tables::distributions())?,
            _ => self.traces = map.next_value_seed(Tables::traces())?,
        }
        Ok(())
    }
}

impl Table for RawPolicy {
    const EXPECTING: &'static str = "a policy";
    const KEYS: &'static [&'static str] =
        &["interface", "network", "prepare", "seed", "repeat", "step", "target", "distributions", "traces"];

    fn texts(&mut self) -> &mut Texts {
        &mut self.schedule.texts
    }

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
        limits: &Limits,
    ) -> Result<(), A::Error> {
        match key {
            "interface" => self.interface = Some(map.next_value()?),
            "network" => self.network = Some(map.next_value()?),
            "prepare" => self.prepare = map.next_value()?,
            "seed" => self.seed = Some(map.next_value()?),
            "target" => {
                let element = &Seed::new(limits);
                self.target = map.next_value_seed(List {
                    expecting: "targets",
                    most: MAX_SCHEDULES as usize,
                    element,
                })?;
            }
            "distributions" | "traces" => self.tables.read(key, map)?,
            _ => self.schedule.read(key, map, limits)?,
        }
        Ok(())
    }
}

impl RawSchedule {
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        limits: &Limits,
    ) -> Result<(), A::Error> {
        match key {
            "repeat" => self.repeat = Some(map.next_value()?),
            _ => {
                let element = &Seed::new(limits);
                self.step = Some(map.next_value_seed(List {
                    expecting: "steps",
                    most: MAX_STEPS as usize,
                    element,
                })?);
            }
        }
        Ok(())
    }
}

impl Table for RawStep {
    const EXPECTING: &'static str = "a step";
    const IS_STEP: bool = true;
    const KEYS: &'static [&'static str] = &["for", "ramp"];

    fn texts(&mut self) -> &mut Texts {
        &mut self.texts
    }

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
        _: &Limits,
    ) -> Result<(), A::Error> {
        match key {
            "for" => self.lasts = Some(map.next_value()?),
            _ => self.ramp = Some(map.next_value()?),
        }
        Ok(())
    }
}

impl Table for RawTarget {
    const EXPECTING: &'static str = "a target";
    const KEYS: &'static [&'static str] = &["to", "protocol", "port", "local-port", "repeat", "step"];

    fn texts(&mut self) -> &mut Texts {
        &mut self.schedule.texts
    }

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
        limits: &Limits,
    ) -> Result<(), A::Error> {
        match key {
            "to" => self.to = Some(map.next_value_seed(To)?),
            "protocol" => self.protocol = Some(map.next_value_seed(NumberOrText("a protocol"))?),
            "port" => self.port = Some(map.next_value_seed(NumberOrText("ports"))?),
            "local-port" => self.local_port = Some(map.next_value_seed(NumberOrText("ports"))?),
            _ => self.schedule.read(key, map, limits)?,
        }
        Ok(())
    }
}

/// One line, or a list of peers.
struct To;

impl<'de> DeserializeSeed<'de> for To {
    type Value = MatchRule;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<MatchRule, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for To {
    type Value = MatchRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target, or a list of peers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<MatchRule, E> {
        text.parse::<MatchRule>().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MatchRule, A::Error> {
        let mut peers = Vec::new();
        while let Some(peer) = list.next_element_seed(OnePeer)? {
            if peers.len() == MAX_PREFIXES {
                return Err(A::Error::custom(PolicyError::too_many("peers of a target", MAX_PREFIXES, "")));
            }
            peers.push(peer);
        }
        if peers.is_empty() {
            let nobody = PolicyError::contradiction("a target of nobody", "leave `to` out if it is all");
            return Err(A::Error::custom(nobody));
        }
        MatchRule::default().with_peers(peers).map_err(A::Error::custom)
    }
}

struct OnePeer;

impl<'de> DeserializeSeed<'de> for OnePeer {
    type Value = Peer;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Peer, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OnePeer {
    type Value = Peer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a peer")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Peer, E> {
        text.parse().map_err(E::custom)
    }
}
