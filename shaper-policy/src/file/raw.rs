//! Documents as they are written: tables whose keys are known, with texts that nobody has understood yet.

use std::{cell::Cell, fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Unexpected, Visitor},
};
use shaper_common::policy::MAX_STEPS;

use crate::{
    model::{Hint, PolicyError, Problem},
    text::{Clause, Field, FlagKind, nearest},
};

/// The field for all effects at once.
pub(crate) const NETEM: &str = "netem";

/// The fields of effects that a table has, with their texts, in order.
pub(crate) type Texts = Vec<(&'static str, String)>;

/// A table of a document.
pub(crate) trait Table: Default {
    /// A phrase for it, as it is expected.
    const EXPECTING: &'static str;
    /// True if it is a step, of which a document has a limited number.
    const IS_STEP: bool = false;
    /// The keys, beside those of effects.
    const KEYS: &'static [&'static str];

    /// Where the texts of effects go.
    fn texts(&mut self) -> &mut Texts;

    /// Reads the value of one of [`Self::KEYS`].
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
        limits: &Limits,
    ) -> Result<(), A::Error>;
}

/// The limits on what may still be read of a document.
pub(crate) struct Limits {
    steps: Cell<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        // A ramp may need a second step in the kernel.
        Self { steps: Cell::new(MAX_STEPS as usize / 2) }
    }
}

impl Limits {
    fn take_step<E: Error>(&self) -> Result<(), E> {
        let left = self.steps.get().checked_sub(1);
        let left =
            left.ok_or_else(|| E::custom(PolicyError::too_many("steps", MAX_STEPS as usize / 2, "")))?;
        self.steps.set(left);
        Ok(())
    }
}

/// Reads a table.
pub(crate) struct Seed<'a, T> {
    limits: &'a Limits,
    table: PhantomData<T>,
}

impl<'a, T> Seed<'a, T> {
    pub(crate) const fn new(limits: &'a Limits) -> Self {
        Self { limits, table: PhantomData }
    }
}

impl<'de, T: Table> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Table> Visitor<'de> for Seed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        if T::IS_STEP {
            self.limits.take_step()?;
        }
        let (mut table, mut before) = (T::default(), Vec::new());
        while let Some(key) = map.next_key_seed(Key { own: T::KEYS, before: &before })? {
            before.push(key);
            if T::KEYS.contains(&key) {
                table.read(key, &mut map, self.limits)?;
            } else {
                let text = map.next_value_seed(Words(Clause::field(key)))?;
                table.texts().push((key, text));
            }
        }
        Ok(table)
    }
}

/// A key that is known and new.
struct Key<'a> {
    own: &'static [&'static str],
    before: &'a [&'static str],
}

impl Key<'_> {
    fn known(&self) -> impl Iterator<Item = &'static str> {
        let effects = Clause::fields().map(|clause| clause.name).filter(|name| !self.own.contains(name));
        self.own.iter().copied().chain([NETEM]).chain(effects)
    }
}

impl Key<'_> {
    fn unknown(&self, key: &str) -> PolicyError {
        if let Some(near) = nearest(key, self.known()) {
            return Problem::Unknown {
                what: "field",
                value: key.to_owned(),
                hint: Hint::Nearest(Some(near)),
            }
            .into();
        }
        let known: Vec<_> = self.known().map(|known| format!("`{known}`")).collect();
        PolicyError::unknown("field", key, format!("expected one of {}", known.join(", ")))
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        match self.known().find(|known| *known == key) {
            Some(key) if self.before.contains(&key) => Err(E::custom(PolicyError::twice(key))),
            Some(key) => Ok(key),
            None => Err(E::custom(self.unknown(key))),
        }
    }
}

/// The text of a field of effects, or of all effects.
struct Words(Option<&'static Clause>);

impl<'de> DeserializeSeed<'de> for Words {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match self.0.map(|clause| clause.field) {
            Some(Field::Switch) => deserializer.deserialize_bool(self),
            Some(Field::Number | Field::Flag { kind: FlagKind::Number, .. }) => {
                deserializer.deserialize_any(NumberOrText("a whole number"))
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Visitor<'_> for Words {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some_and(|clause| clause.field == Field::Switch) {
            "true or false"
        } else {
            "netem's words"
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        match self.0 {
            Some(Clause { field: Field::Switch, .. }) => Ok(value.to_string()),
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }
}

/// Text, or a number as text; with the phrase for it.
pub(super) struct NumberOrText(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for NumberOrText {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for NumberOrText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

/// A list of at most so many elements.
pub(super) struct List<F> {
    pub(super) expecting: &'static str,
    pub(super) most: usize,
    /// Reads the next element, if there is one.
    pub(super) element: F,
}

/// Reads the elements of a list.
pub(super) trait Each<'de> {
    /// An element.
    type Value;

    /// Reads the next element, if there is one.
    fn next<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<Self::Value>, A::Error>;
}

impl<'de, T: Table> Each<'de> for &Seed<'_, T> {
    type Value = T;

    fn next<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<Option<T>, A::Error> {
        list.next_element_seed(Seed::new(self.limits))
    }
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
        write!(f, "a list of {}", self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = self.element.next(&mut list)? {
            if all.len() == self.most {
                return Err(A::Error::custom(PolicyError::too_many(self.expecting, self.most, "")));
            }
            all.push(one);
        }
        Ok(all)
    }
}
