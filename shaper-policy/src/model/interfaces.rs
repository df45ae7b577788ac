//! The interfaces of a container that a person chooses to shape.

use std::fmt;

use glob::Pattern;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use super::error::PolicyError;

/// The most patterns of a choice.
const MAX_PATTERNS: usize = 64;
/// The longest pattern of interfaces: several times as long as a name can be.
const MAX_INTERFACE: usize = 64;
/// The longest pattern of networks: that of a name with its namespace in Kubernetes.
const MAX_NETWORK: usize = 320;
/// The advice for a choice that is none.
const ADVICE: &str = "name some, or leave the choice out";

/// Interfaces in place of those that connect a container to the outside: by name or pattern (`eth1`, `eth*`), or by the
/// networks that they connect it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    names: Vec<Pattern>,
    networks: Vec<Pattern>,
}

impl Interfaces {
    /// The interfaces with these names, and those of these networks; none if neither is given.
    ///
    /// # Errors
    ///
    /// When a list is empty or too long, or nothing could match a pattern.
    pub fn new(names: Option<Patterns>, networks: Option<Patterns>) -> Result<Option<Self>, PolicyError> {
        if names.is_none() && networks.is_none() {
            return Ok(None);
        }
        let names = names.map_or(Ok(Vec::new()), |names| names.checked("interface", check_interface))?;
        let networks =
            networks.map_or(Ok(Vec::new()), |networks| networks.checked("network", check_network))?;
        Ok(Some(Self { names, networks }))
    }

    /// Returns true if it has the interface `name`. Patterns only match those that lead out of the container, so that
    /// `*` does not shape the same packets on a bridge and on its port.
    pub fn has(&self, name: &str, leads_out: bool) -> bool {
        self.names.iter().any(|pattern| pattern.as_str() == name || leads_out && pattern.matches(name))
    }

    /// Returns true if it has the interfaces of a network, whose name may be `NAMESPACE/NAME`. A pattern without a `/` is
    /// compared with the name alone.
    pub fn has_network(&self, network: &str) -> bool {
        let alone = network.rsplit_once('/').map_or(network, |(_, name)| name);
        self.networks.iter().any(|pattern| {
            let name = if pattern.as_str().contains('/') { network } else { alone };
            pattern.as_str() == name || pattern.matches(name)
        })
    }

    /// The patterns of interfaces.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(Pattern::as_str).collect()
    }

    /// The patterns of networks.
    pub fn networks(&self) -> Vec<&str> {
        self.networks.iter().map(Pattern::as_str).collect()
    }
}

/// A pattern that may be one of the names of [`Interfaces`].
///
/// # Errors
///
/// When no interface could match it.
pub fn check_interface(text: &str) -> Result<Pattern, PolicyError> {
    check("interface", "a name or a pattern, such as eth1 or 'eth*'", MAX_INTERFACE, text, |c| c == '/')
}

/// A pattern that may be one of the networks of [`Interfaces`].
///
/// # Errors
///
/// When no network could match it.
pub fn check_network(text: &str) -> Result<Pattern, PolicyError> {
    check("network", "a name or a pattern, such as shop_front or 'shop_*'", MAX_NETWORK, text, |_| false)
}

fn check(
    what: &'static str,
    expected: &'static str,
    longest: usize,
    text: &str,
    is_foreign: fn(char) -> bool,
) -> Result<Pattern, PolicyError> {
    let bad = |c: char| is_foreign(c) || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > longest || text.contains(bad) {
        return Err(PolicyError::invalid(what, text, expected));
    }
    Pattern::new(text).map_err(|error| PolicyError::invalid(what, text, format!("{expected} ({error})")))
}

/// Patterns as they are read, of interfaces or of networks.
pub struct Patterns(Vec<String>);

impl Patterns {
    fn checked(
        self,
        field: &'static str,
        check: fn(&str) -> Result<Pattern, PolicyError>,
    ) -> Result<Vec<Pattern>, PolicyError> {
        if self.0.is_empty() {
            return Err(PolicyError::contradiction(format!("a choice of no {field}"), ADVICE).at(field));
        }
        if self.0.len() > MAX_PATTERNS {
            return Err(too_many().at(field));
        }
        let check =
            |(number, text): (usize, &String)| check(text).map_err(|error| error.at(number).at(field));
        self.0.iter().enumerate().map(check).collect()
    }
}

fn too_many() -> PolicyError {
    PolicyError::too_many("patterns", MAX_PATTERNS, ADVICE)
}

impl From<Vec<String>> for Patterns {
    fn from(patterns: Vec<String>) -> Self {
        Self(patterns)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Patterns {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names or patterns")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(pattern) = list.next_element()? {
            if self.0.len() == MAX_PATTERNS {
                return Err(A::Error::custom(too_many()));
            }
            self.0.push(pattern);
        }
        Ok(self)
    }
}

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(ToString::to_string);
        let networks = self.networks.iter().map(|pattern| format!("of network {pattern}"));
        f.pad(&names.chain(networks).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(patterns: &[&str]) -> Patterns {
        patterns.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().into()
    }

    #[test]
    fn a_name_has_any_interface_and_a_pattern_those_that_lead_out() {
        let chosen = Interfaces::new(Some(patterns(&["br0", "eth[1-9]", "lan*"])), None);
        let chosen = chosen.expect("good ones").expect("some");
        assert!(chosen.has("br0", false) && chosen.has("eth1", true) && chosen.has("lan", true));
        assert!(!chosen.has("eth0", true) && !chosen.has("lan1", false));
        assert!(!chosen.has_network("lan1"));
        assert_eq!(chosen.to_string(), "br0, eth[1-9], lan*");
    }

    #[test]
    fn a_network_is_meant_by_its_name_alone_or_with_its_namespace() {
        let has = |pattern: &str, network: &str| {
            let chosen = Interfaces::new(None, Some(patterns(&[pattern]))).expect("a good one");
            chosen.expect("some").has_network(network)
        };
        for (pattern, network) in [
            ("front", "front"),
            ("shop_*", "shop_front"),
            ("lan", "shop/lan"),
            ("l*", "shop/lan"),
            ("shop/lan", "shop/lan"),
            ("shop/*", "shop/lan"),
            ("*", "shop/lan"),
            ("[ab]", "[ab]"),
        ] {
            assert!(has(pattern, network), "{pattern} {network}");
        }
        for (pattern, network) in [("front", "front2"), ("shop*", "shop/lan"), ("test/lan", "shop/lan")] {
            assert!(!has(pattern, network), "{pattern} {network}");
        }
        let both = Interfaces::new(Some(patterns(&["eth1"])), Some(patterns(&["shop_*"])));
        assert_eq!(both.expect("good ones").expect("some").to_string(), "eth1, of network shop_*");
    }

    #[test]
    fn what_nothing_can_be_called_is_refused() {
        let long = "x".repeat(321);
        for bad in ["", "a b", "a\nb", "[a", &long] {
            assert!(Interfaces::new(Some(patterns(&[bad])), None).is_err(), "{bad:?}");
            assert!(Interfaces::new(None, Some(patterns(&[bad]))).is_err(), "{bad:?}");
        }
        assert!(Interfaces::new(Some(patterns(&["a/b"])), None).is_err());
        assert!(Interfaces::new(None, None).expect("nothing is no error").is_none());
        let error = Interfaces::new(Some(patterns(&["a"])), Some(patterns(&[]))).expect_err("an empty list");
        assert!(error.to_string().contains("a choice of no network"), "{error}");
        assert!(Interfaces::new(None, Some(patterns(&["a"; 65]))).is_err());
    }
}
