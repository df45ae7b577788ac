//! Values that are checked while they are read, and tables whose keys are known.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use crate::model::Named;

/// The context of the tables of a document.
pub(super) struct Context<'a> {
    pub(super) named: &'a Named,
    /// The number of tables begun.
    pub(super) tables: Cell<usize>,
    /// The error, with the table and the key to blame.
    pub(super) blamed: RefCell<Option<(usize, String, String)>>,
}

impl Context<'_> {
    /// The number of a table that begins.
    pub(super) fn begin(&self) -> usize {
        self.tables.replace(self.tables.get() + 1)
    }

    /// Blames the key of `table` that `error` names first or, if there is none, `usual` or the first one.
    pub(super) fn blame<E: Error>(&self, table: &Keys, usual: &str, error: String) -> E {
        let mut words =
            error.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        let named = words.find_map(|word| table.keys.iter().find(|key| *key == word));
        if let Some(key) = named.or(table.keys.iter().find(|key| *key == usual)).or(table.keys.first()) {
            self.blamed.borrow_mut().get_or_insert_with(|| (table.number, key.clone(), error.clone()));
        }
        E::custom(error)
    }
}

/// The keys of a table, as far as it was read.
pub(super) struct Keys {
    pub(super) number: usize,
    pub(super) keys: Vec<String>,
}

impl Keys {
    pub(super) fn of(context: &Context<'_>) -> Self {
        Self { number: context.begin(), keys: Vec::new() }
    }

    pub(super) fn next<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        known: &'static [&'static str],
    ) -> Result<Option<String>, A::Error> {
        let Some(key) = map.next_key_seed(Key { known, before: &self.keys })? else { return Ok(None) };
        self.keys.push(key.clone());
        Ok(Some(key))
    }

    /// The value of the last key.
    pub(super) fn value<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
        &self,
        map: &mut A,
        context: &Context<'_>,
        seed: S,
    ) -> Result<S::Value, A::Error> {
        let blamed = context.blamed.borrow().clone();
        let blamed = blamed.filter(|(table, key, _)| *table == self.number && self.keys.last() == Some(key));
        map.next_value_seed(Blamed { error: blamed.map(|(_, _, error)| error), seed })
    }
}

/// A key that is known and new.
struct Key<'a> {
    known: &'static [&'static str],
    before: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if !self.known.contains(&key) {
            return Err(E::unknown_field(key, self.known));
        }
        if self.before.iter().any(|before| before == key) {
            return Err(E::custom(format!("{key} is there twice: leave one of them out")));
        }
        Ok(key.to_owned())
    }
}

/// A value, or what is wrong with it.
struct Blamed<S> {
    error: Option<String>,
    seed: S,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Blamed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.error.map_or_else(|| self.seed.deserialize(deserializer), |error| Err(D::Error::custom(error)))
    }
}

/// Text that something is made of while it is read. Numbers are text as well, where they `may_be_numbers`.
pub(super) struct Text<F> {
    pub(super) expecting: &'static str,
    pub(super) may_be_number: bool,
    pub(super) make: F,
}

pub(super) fn text<T, F: FnOnce(&str) -> Result<T, String>>(expecting: &'static str, make: F) -> Text<F> {
    Text { expecting, may_be_number: false, make }
}

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.make)(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        if self.may_be_number {
            return self.visit_str(&number.to_string());
        }
        Err(E::invalid_type(serde::de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        if self.may_be_number {
            return self.visit_str(&number.to_string());
        }
        Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self))
    }
}

/// A list, of which each element is made with the number of its place.
pub(super) struct List<F> {
    pub(super) expecting: &'static str,
    /// The most elements that are read.
    pub(super) most: usize,
    pub(super) element: F,
}

/// Makes the seed of a list's element, or of anything like it.
pub(super) trait Each<'de> {
    /// The value that is made.
    type Value;

    /// Reads the next element, if there is one.
    fn read<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error>;
}

impl<'de, E: Each<'de>> DeserializeSeed<'de> for List<E> {
    type Value = Vec<E::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: Each<'de>> Visitor<'de> for List<E> {
    type Value = Vec<E::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = self.element.read(&mut list)? {
            if all.len() == self.most {
                return Err(A::Error::custom(format!(
                    "more than {} {} are too many",
                    self.most, self.expecting
                )));
            }
            all.push(one);
        }
        Ok(all)
    }
}

macro_rules! table {
    ($type:ident, $value:ty, $expecting:literal) => {
        impl<'de> DeserializeSeed<'de> for $type<'_> {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_map(self)
            }
        }

        impl<'de> Visitor<'de> for $type<'_> {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$value, A::Error> {
                self.read(map)
            }
        }
    };
}
pub(super) use table;
