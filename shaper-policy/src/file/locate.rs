//! Says where in a text the value is that an error is about.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::model::{PolicyError, Segment};

/// Returns the error with its line and column in a document, as the document's reader words them; as it was, if it is
/// about no single value.
pub(super) fn located<'de, D: Deserializer<'de>>(
    error: PolicyError,
    document: Result<D, D::Error>,
) -> PolicyError {
    if error.path().is_empty() {
        return error;
    }
    let what = error.problem().to_string();
    let raise = Raise { path: error.path(), error: &what };
    match document.and_then(|document| raise.deserialize(document)) {
        Ok(()) => error,
        Err(worded) => error.shown_as(worded),
    }
}

/// Follows the path, and fails with the error at its end.
struct Raise<'a> {
    path: &'a [Segment],
    error: &'a str,
}

impl<'de> DeserializeSeed<'de> for Raise<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path.first() {
            None => Err(D::Error::custom(self.error)),
            Some(Segment::Field(_)) => deserializer.deserialize_map(self),
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Raise<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was there before")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Segment::Field(field), path)) = self.path.split_first() else { return Ok(()) };
        while let Some(key) = map.next_key::<String>()? {
            if key == *field {
                return map.next_value_seed(Raise { path, ..self });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Segment::Index(index), path)) = self.path.split_first() else { return Ok(()) };
        for _ in 0..*index {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Raise { path, ..self }).map(|_| ())
    }
}
