//! The distributions and delivery traces of a document, as they are written.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use crate::model::{MAX_ENTRIES, MAX_OPPORTUNITIES, PolicyError};

/// The most distributions, and the most delivery traces, of a document.
const MAX_TABLES: usize = 4_096;

/// Numbers, or the path of a file that has them.
pub(super) enum Numbers<N> {
    /// The numbers.
    These(Vec<N>),
    /// The path.
    InFile(String),
}

impl<N> Numbers<N> {
    /// Returns what they make.
    pub(super) fn resolve<T>(
        self,
        read: impl FnOnce(&str) -> Result<T, PolicyError>,
        make: impl FnOnce(Vec<N>) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        match self {
            Self::These(numbers) => make(numbers),
            Self::InFile(path) => read(&path),
        }
    }
}

/// Tables of one kind by name.
pub(super) struct Tables<N> {
    /// The most numbers of each.
    most: usize,
    numbers: PhantomData<N>,
}

impl Tables<i32> {
    pub(super) const fn distributions() -> Self {
        Self { most: MAX_ENTRIES, numbers: PhantomData }
    }
}

impl Tables<u32> {
    pub(super) const fn traces() -> Self {
        Self { most: MAX_OPPORTUNITIES, numbers: PhantomData }
    }
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Tables<N> {
    type Value = BTreeMap<String, Numbers<N>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Tables<N> {
    type Value = BTreeMap<String, Numbers<N>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tables = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let table = map.next_value_seed(OneTable { most: self.most, numbers: PhantomData })?;
            if tables.len() == MAX_TABLES {
                return Err(A::Error::custom(PolicyError::too_many("tables of a kind", MAX_TABLES, "")));
            }
            tables.insert(name, table);
        }
        Ok(tables)
    }
}

struct OneTable<N> {
    most: usize,
    numbers: PhantomData<N>,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for OneTable<N> {
    type Value = Numbers<N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Numbers<N>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for OneTable<N> {
    type Value = Numbers<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, or the path of a file")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<Numbers<N>, E> {
        Ok(Numbers::InFile(path.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Numbers<N>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element()? {
            if numbers.len() == self.most {
                return Err(A::Error::custom(PolicyError::too_many("numbers", self.most, "")));
            }
            numbers.push(number);
        }
        Ok(Numbers::These(numbers))
    }
}
