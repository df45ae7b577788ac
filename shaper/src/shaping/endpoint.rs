//! Networks of runtimes: how containers are connected to them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An Ethernet address that a device can have: not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mac([u8; 6]);

/// A text that is no Ethernet address of a device.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("invalid Ethernet address: expected six bytes, such as 02:42:ac:11:00:02")]
pub(crate) struct NotMac;

impl FromStr for Mac {
    type Err = NotMac;

    fn from_str(text: &str) -> Result<Self, NotMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let is_byte =
                |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let part = parts.next().filter(is_byte).ok_or(NotMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NotMac)?;
        }
        if parts.next().is_some() || bytes == [0; 6] { Err(NotMac) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = NotMac;

    fn try_from(text: String) -> Result<Self, NotMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The connection of a container to a network, as the runtime describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The network's name; in Kubernetes with its namespace in front, as `shop/lan`.
    pub(crate) network: String,
    /// The container's name for the interface, where the runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    /// The interface's Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<Mac>,
    /// The container's addresses in the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<IpAddr>,
}

impl Endpoint {
    /// Returns true if it is at an interface with this name and link-layer address. The name counts for more: devices on
    /// top of one, as those of ipvlan, have its address.
    pub(crate) fn is_at(&self, name: &str, address: &[u8]) -> bool {
        match &self.interface {
            Some(interface) => interface == name,
            None => self.mac.is_some_and(|mac| mac.0 == address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_has_six_bytes_and_is_not_zero() {
        let mac: Mac = "02:42:AC:11:00:0f".parse().expect("an address");
        assert_eq!(mac.to_string(), "02:42:ac:11:00:0f");
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:0f:01",
            "2:42:ac:11:0:2",
            "02:42:ac:11:00:+f",
            "00:00:00:00:00:00",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(NotMac), "{bad:?}");
        }
    }

    #[test]
    fn an_interface_that_is_named_counts_for_more_than_an_address() {
        let mac = "02:42:ac:11:00:02".parse().expect("an address");
        let by_address =
            Endpoint { network: "lan".to_owned(), interface: None, mac: Some(mac), addresses: Vec::new() };
        let named = Endpoint { interface: Some("net1".to_owned()), ..by_address.clone() };
        let address = [2, 0x42, 0xac, 0x11, 0, 2];
        assert!(by_address.is_at("eth0", &address) && !by_address.is_at("eth0", &[2, 0x42]));
        assert!(named.is_at("net1", &[]) && !named.is_at("eth0", &address));
    }
}
