//! The interfaces of a container that a person chooses to shape.

use std::fmt;

use glob::Pattern;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use super::error::PolicyError;

/// The most patterns of a choice.
const MAX_PATTERNS: usize = 64;
/// The longest pattern: several times as long as a name can be.
const MAX_LENGTH: usize = 64;
/// The advice for a choice that is none.
const ADVICE: &str = "name some, or leave the choice out";

/// Interfaces by name or pattern (`eth1`, `eth*`), in place of those that connect a container to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Patterns", into = "Vec<String>")]
pub struct Interfaces(Vec<Pattern>);

impl Interfaces {
    /// Returns true if it has the interface `name`. Patterns only match those that lead out of the container, so that
    /// `*` does not shape the same packets on a bridge and on its port.
    pub fn has(&self, name: &str, leads_out: bool) -> bool {
        self.0.iter().any(|pattern| pattern.as_str() == name || leads_out && pattern.matches(name))
    }
}

/// A pattern that may be one of [`Interfaces`].
///
/// # Errors
///
/// When no interface could match it.
pub fn check_interface(text: &str) -> Result<Pattern, PolicyError> {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > MAX_LENGTH || text.contains(bad) {
        return Err(PolicyError::invalid("interface", text, "a name or a pattern, such as eth1 or 'eth*'"));
    }
    Pattern::new(text).map_err(|error| {
        PolicyError::invalid("interface", text, format!("a pattern such as 'eth*' or 'eth[0-9]' ({error})"))
    })
}

/// Patterns as they are read, a few more than may be.
struct Patterns(Vec<String>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Patterns {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of interfaces")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(pattern) = list.next_element()? {
            if self.0.len() == MAX_PATTERNS {
                return Err(A::Error::custom(PolicyError::too_many("interfaces", MAX_PATTERNS, ADVICE)));
            }
            self.0.push(pattern);
        }
        Ok(self)
    }
}

impl TryFrom<Patterns> for Interfaces {
    type Error = PolicyError;

    fn try_from(Patterns(patterns): Patterns) -> Result<Self, PolicyError> {
        patterns.try_into()
    }
}

impl TryFrom<Vec<String>> for Interfaces {
    type Error = PolicyError;

    fn try_from(patterns: Vec<String>) -> Result<Self, PolicyError> {
        if patterns.is_empty() || patterns.len() > MAX_PATTERNS {
            return Err(match patterns.len() {
                0 => PolicyError::contradiction("a choice of no interface", ADVICE),
                _ => PolicyError::too_many("interfaces", MAX_PATTERNS, ADVICE),
            });
        }
        patterns.iter().map(|text| check_interface(text)).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Interfaces> for Vec<String> {
    fn from(interfaces: Interfaces) -> Self {
        interfaces.0.iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }
}

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Vec::from(self.clone()).join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(patterns: &[&str]) -> Result<Interfaces, PolicyError> {
        patterns.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn a_name_has_any_interface_and_a_pattern_those_that_lead_out() {
        let chosen = interfaces(&["br0", "eth[1-9]", "lan*"]).expect("good ones");
        assert!(chosen.has("br0", false) && chosen.has("eth1", true) && chosen.has("lan", true));
        assert!(!chosen.has("eth0", true) && !chosen.has("lan1", false));
        assert_eq!(chosen.to_string(), "br0, eth[1-9], lan*");
    }

    #[test]
    fn what_no_interface_can_be_called_is_refused() {
        for bad in ["", "a b", "a/b", "[a", &"x".repeat(65)] {
            assert!(interfaces(&[bad]).is_err(), "{bad:?}");
        }
        assert!(interfaces(&[]).is_err() && interfaces(&["a"; 65]).is_err());
    }
}
