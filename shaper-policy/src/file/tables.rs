//! The distributions and delivery traces of a document.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Files, NoFiles, values::table};
use crate::model::{Distribution, MAX_ENTRIES, MAX_OPPORTUNITIES, Named, Trace};

/// The most distributions, and the most delivery traces, of a document.
const MAX_TABLES: usize = 4_096;

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
                        most: MAX_ENTRIES,
                        make: |name, entries: Vec<i32>| Distribution::from_entries(name, entries),
                    })?;
                }
                "traces" => {
                    let read = |name: &str, path: &str| files.trace(name, path);
                    map.next_value_seed(Tables {
                        into: &mut self.named.traces,
                        read,
                        most: MAX_OPPORTUNITIES,
                        make: |name, times: Vec<u32>| Trace::from_times(name, times),
                    })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads the distributions of a request, none of which is in a file.
pub fn distributions<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Distribution>, D::Error> {
    let mut named = BTreeMap::new();
    let read = |name: &str, path: &str| NoFiles.distribution(name, path);
    let make = |name: &str, entries: Vec<i32>| Distribution::from_entries(name, entries);
    Tables { into: &mut named, read, most: MAX_ENTRIES, make }.deserialize(from).map(|()| named)
}

/// Reads the delivery traces of a request, none of which is in a file.
pub fn traces<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Trace>, D::Error> {
    let mut named = BTreeMap::new();
    let read = |name: &str, path: &str| NoFiles.trace(name, path);
    let make = |name: &str, times: Vec<u32>| Trace::from_times(name, times);
    Tables { into: &mut named, read, most: MAX_OPPORTUNITIES, make }.deserialize(from).map(|()| named)
}

/// Tables of one kind by name.
struct Tables<'a, T, N, R> {
    into: &'a mut BTreeMap<String, T>,
    read: R,
    /// The most numbers of each.
    most: usize,
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
            let table = OneTable { name: &name, read: &self.read, most: self.most, make: self.make };
            let table = map.next_value_seed(table)?;
            if self.into.len() == MAX_TABLES {
                return Err(A::Error::custom(format!(
                    "more than {MAX_TABLES} tables of a kind are too many"
                )));
            }
            self.into.insert(name, table);
        }
        Ok(())
    }
}

/// Numbers, or the path of a file.
struct OneTable<'a, T, N, R> {
    name: &'a str,
    read: &'a R,
    most: usize,
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
            if numbers.len() == self.most {
                let (name, most) = (self.name, self.most);
                return Err(A::Error::custom(format!(
                    "{name} has more than {most} numbers, which are the most"
                )));
            }
            numbers.push(number);
        }
        (self.make)(self.name, numbers).map_err(A::Error::custom)
    }
}
