//! The packets of a shaped interface, by outcome.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use shaper_common::{Counters, OUTCOMES, Outcome};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Packets as they are on the wire.
    pub(crate) packets: u64,
    /// Bytes with link-layer headers.
    pub(crate) bytes: u64,
}

/// The counts of all outcomes ([`OUTCOMES`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes([Counts; OUTCOMES.len()]);

impl Outcomes {
    /// Each outcome with its counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static Outcome, Counts)> {
        OUTCOMES.iter().zip(self.0)
    }

    /// The counts of the outcome that is called so; zero if there is none.
    pub(crate) fn of(&self, name: &str) -> Counts {
        self.iter()
            .find(|(outcome, _)| outcome.name == name)
            .map_or_else(Counts::default, |(_, counts)| counts)
    }

    /// The same with other counts of one outcome.
    #[cfg(test)]
    pub(crate) fn with(mut self, name: &str, packets: u64, bytes: u64) -> Self {
        let place =
            OUTCOMES.iter().position(|outcome| outcome.name == name).expect("there is such an outcome");
        self.0[place] = Counts { packets, bytes };
        self
    }
}

impl From<&Counters> for Outcomes {
    fn from(counters: &Counters) -> Self {
        let mut outcomes = Self::default();
        for (counts, outcome) in outcomes.0.iter_mut().zip(&OUTCOMES) {
            let tally = (outcome.tally)(counters);
            *counts = Counts { packets: tally.packets, bytes: tally.bytes };
        }
        outcomes
    }
}

impl Serialize for Outcomes {
    /// Writes fields, by the outcomes' names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(outcome, counts)| (outcome.name, counts)))
    }
}

impl<'de> Deserialize<'de> for Outcomes {
    /// Reads these fields among others; those that are missing are zero.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Outcomes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts by outcome")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outcomes, A::Error> {
        let mut outcomes = Outcomes::default();
        while let Some(name) = map.next_key::<String>()? {
            match OUTCOMES.iter().position(|outcome| outcome.name == name) {
                Some(place) => outcomes.0[place] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(outcomes)
    }
}
