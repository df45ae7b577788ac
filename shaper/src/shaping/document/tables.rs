//! The distributions and delivery traces of a document.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Files, values::table};
use crate::shaping::{deliveries::Deliveries, distribution::Distribution, effects::Named};

/// The tables of a document; the rest is not looked at.
pub(super) struct OnlyTables<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) named: &'a mut Named,
}
table!(OnlyTables, (), "a plan");

impl OnlyTables<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let files = self.files;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "distributions" => {
                    let read = |name: &str, path: &str| files.distribution(name, path);
                    map.next_value_seed(Tables {
                        into: &mut self.named.distributions,
                        read,
                        make: |name, entries: Vec<i32>| Distribution::from_entries(name, entries),
                    })?;
                }
                "traces" => {
                    let read = |name: &str, path: &str| files.trace(name, path);
                    map.next_value_seed(Tables {
                        into: &mut self.named.traces,
                        read,
                        make: |name, times: Vec<u32>| Deliveries::from_times(name, times),
                    })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Tables of one kind by name.
struct Tables<'a, T, N, R> {
    into: &'a mut BTreeMap<String, T>,
    read: R,
    make: fn(&str, Vec<N>) -> Result<T, String>,
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> DeserializeSeed<'de>
    for Tables<'_, T, N, R>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> Visitor<'de>
    for Tables<'_, T, N, R>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let table = OneTable { name: &name, read: &self.read, make: self.make };
            let table = map.next_value_seed(table)?;
            self.into.insert(name, table);
        }
        Ok(())
    }
}

/// Numbers, or the path of a file.
struct OneTable<'a, T, N, R> {
    name: &'a str,
    read: &'a R,
    make: fn(&str, Vec<N>) -> Result<T, String>,
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> DeserializeSeed<'de>
    for OneTable<'_, T, N, R>
{
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T, N: Deserialize<'de>, R: Fn(&str, &str) -> Result<T, String>> Visitor<'de>
    for OneTable<'_, T, N, R>
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, or the path of a file")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<T, E> {
        (self.read)(self.name, path).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element()? {
            numbers.push(number);
        }
        (self.make)(self.name, numbers).map_err(A::Error::custom)
    }
}
