//! The packets of a target: those of its peers, protocol and ports, in one line of text.

use std::{fmt, ops::RangeInclusive};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shaper_common::policy::MAX_RULES;

use super::{
    direction::Direction,
    error::{PolicyError, Problem},
};

/// The most prefixes that a policy may name.
pub(crate) const MAX_PREFIXES: usize = 262_144;

/// Packets, as the container sees them; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MatchRule {
    /// To or from whom, in order, each once; the most specific one decides. Nothing, or only exceptions, is all others.
    pub peers: Vec<Peer>,
    /// The protocol; none is any.
    pub protocol: Option<Protocol>,
    /// The ports of the peer.
    pub ports: Ports,
    /// The ports of the container.
    pub local_ports: Ports,
    /// Ports as packets have them, until it is known in which direction these go.
    pub packet_ports: PacketPorts,
}

/// A packet's ports, whoever has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PacketPorts {
    pub(crate) source: Ports,
    pub(crate) destination: Ports,
}

/// Some addresses, or an exception from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Whose.
    pub of: PeerOf,
    /// True if they are excepted.
    pub except: bool,
}

/// Whose addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerOf {
    /// The addresses of a prefix.
    Net(IpNet),
    /// The addresses of a name.
    Name(Name),
}

/// A name that has to be resolved to addresses before it can match packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Name {
    /// A container by its name or id, or several by a selector.
    Container(String),
    /// A host of the domain name system.
    Host(String),
}

/// A protocol by its number, or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// The number in IP headers.
    pub number: u8,
    /// True if it stands for all others.
    pub except: bool,
}

/// Some ports, or all others; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports {
    /// In order, and apart from one another; none is all.
    ranges: Vec<(u16, u16)>,
    /// True if it stands for all others.
    except: bool,
}

/// The most peers that are shown in one line.
const SHOWN_PEERS: usize = 4;

pub(crate) const PROTOCOLS: [(&str, u8); 5] =
    [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132)];

impl MatchRule {
    /// All peers, in the order that makes match rules that mean the same alike.
    ///
    /// # Errors
    ///
    /// When one is both there and excepted, or there are more than [`MAX_PREFIXES`].
    pub fn with_peers(mut self, mut peers: Vec<Peer>) -> Result<Self, PolicyError> {
        if peers.len() > MAX_PREFIXES {
            return Err(PolicyError::too_many("addresses of a target", MAX_PREFIXES, ""));
        }
        peers.sort();
        peers.dedup();
        if let Some(pair) = peers.windows(2).find(|pair| pair[0].of == pair[1].of) {
            let what = format!("{} is both named and excepted", pair[0].of);
            return Err(PolicyError::contradiction(what, "leave one of them out"));
        }
        self.peers = peers;
        Ok(self)
    }

    /// The names that have to be resolved.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.peers.iter().filter_map(|peer| match &peer.of {
            PeerOf::Name(name) => Some(name),
            PeerOf::Net(_) => None,
        })
    }

    /// Returns its text for a line of a table, with only the first ones of many peers.
    pub fn short(&self) -> String {
        let more = self.peers.len().saturating_sub(SHOWN_PEERS);
        if more == 0 {
            return self.to_string();
        }
        let first = Self { peers: self.peers[..SHOWN_PEERS].to_vec(), ..self.clone_but_peers() };
        format!("{first} and {more} more")
    }

    fn clone_but_peers(&self) -> Self {
        let (ports, local_ports) = (self.ports.clone(), self.local_ports.clone());
        let packet_ports = self.packet_ports.clone();
        Self { peers: Vec::new(), protocol: self.protocol, ports, local_ports, packet_ports }
    }

    /// Returns a measure of how narrow it is: by the widest prefix first, IPv4's as IPv6 has them, then by protocol and
    /// ports.
    pub fn narrowness(&self) -> (u8, bool, bool) {
        let length = |peer: &Peer| match &peer.of {
            PeerOf::Net(net @ IpNet::V4(_)) => net.prefix_len() + 96,
            PeerOf::Net(net) => net.prefix_len(),
            PeerOf::Name(_) => 128,
        };
        let widest = self.peers.iter().filter(|peer| !peer.except).map(length).min().unwrap_or(0);
        (widest, self.protocol.is_some(), self.has_ports())
    }

    /// Returns true if it has the addresses that no peer of it names.
    pub fn has_others(&self) -> bool {
        self.peers.iter().all(|peer| peer.except)
    }
}

impl MatchRule {
    /// Takes the protocol.
    ///
    /// # Errors
    ///
    /// When there is one.
    pub fn set_protocol(&mut self, protocol: Protocol) -> Result<(), PolicyError> {
        match self.protocol.replace(protocol) {
            None => Ok(()),
            Some(_) => Err(PolicyError::contradiction(
                "a target has one protocol",
                "make another target for the other one",
            )),
        }
    }

    /// The same in packets of one direction: what a container sends has the peer's port as its destination.
    pub fn seen_in(&self, direction: Direction) -> Self {
        let PacketPorts { source, destination } = &self.packet_ports;
        if self.packet_ports == PacketPorts::default() {
            return self.clone();
        }
        let (peer, local) = match direction {
            Direction::Egress => (destination, source),
            Direction::Ingress => (source, destination),
        };
        let (ports, local_ports) = (peer.clone(), local.clone());
        Self { ports, local_ports, packet_ports: PacketPorts::default(), ..self.clone() }
    }

    fn all_ports(&self) -> [&Ports; 4] {
        [&self.ports, &self.local_ports, &self.packet_ports.source, &self.packet_ports.destination]
    }

    fn has_ports(&self) -> bool {
        self.all_ports().iter().any(|ports| **ports != Ports::default())
    }

    /// Itself, if its parts make sense together.
    ///
    /// # Errors
    ///
    /// When it has ports of a protocol without any, ports named in two ways, or so many ranges of them that the kernel
    /// would need more than [`MAX_RULES`] rules.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let has_ports = self.has_ports();
        if self.packet_ports != PacketPorts::default()
            && [&self.ports, &self.local_ports].iter().any(|ports| **ports != Ports::default())
        {
            return Err(PolicyError::contradiction(
                "`port` and `local-port` do not go with `dport` and `sport`",
                "use one pair of them",
            ));
        }
        let rules: usize = self.all_ports().iter().map(|ports| ports.count()).product();
        if rules > MAX_RULES as usize {
            return Err(PolicyError::too_many(
                "combinations of ranges of ports",
                MAX_RULES as usize,
                "name fewer ranges",
            ));
        }
        match self.protocol {
            Some(protocol @ Protocol { number: 1 | 58, except: false }) if has_ports => {
                Err(PolicyError::contradiction(format!("{protocol} has no ports"), "leave them out"))
            }
            _ => Ok(self),
        }
    }
}

impl fmt::Display for MatchRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.has_others().then(|| "all".to_owned());
        let protocol = self.protocol.map(|protocol| match protocol.name() {
            Some(_) => protocol.to_string(),
            None => format!("proto {protocol}"),
        });
        let ports =
            |word: &str, ports: &Ports| (*ports != Ports::default()).then(|| format!("{word} {ports}"));
        let parts = all
            .into_iter()
            .chain(self.peers.iter().map(Peer::to_string))
            .chain(protocol)
            .chain(ports("port", &self.ports))
            .chain(ports("local-port", &self.local_ports))
            .chain(ports("dport", &self.packet_ports.destination))
            .chain(ports("sport", &self.packet_ports.source));
        f.pad(&parts.collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.except { "!" } else { "" }, self.of)
    }
}

impl fmt::Display for PeerOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Host(name) => write!(f, "host:{name}"),
        }
    }
}

impl Protocol {
    fn name(self) -> Option<&'static str> {
        PROTOCOLS.iter().find(|(_, number)| *number == self.number).map(|(name, _)| *name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let except = if self.except { "!" } else { "" };
        match self.name() {
            Some(name) => write!(f, "{except}{name}"),
            None => write!(f, "{except}{}", self.number),
        }
    }
}

impl Ports {
    /// The ports of some ranges, or all others; none where that leaves no port.
    pub(crate) fn new(mut ranges: Vec<(u16, u16)>, except: bool) -> Option<Self> {
        ranges.sort_unstable();
        let mut apart: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match apart.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        if apart == [(0, u16::MAX)] {
            return (!except).then(Self::default);
        }
        Some(Self { ranges: apart, except })
    }

    /// All ports but these.
    #[cfg(test)]
    pub(crate) fn others(&self) -> Self {
        Self { except: !self.except, ..self.clone() }
    }

    /// Takes ports from their text.
    ///
    /// # Errors
    ///
    /// When there are some, or the text is none.
    pub fn once(&mut self, word: &str, text: &str) -> Result<(), PolicyError> {
        if *self != Self::default() {
            let advice = "write all of them in one list, with commas";
            return Err(Problem::Twice { what: word.to_owned().into(), advice }.into());
        }
        *self = text.parse()?;
        Ok(())
    }

    /// The number of ranges that have them.
    fn count(&self) -> usize {
        match &*self.ranges {
            [] => 1,
            ranges if !self.except => ranges.len(),
            ranges => {
                let ends = [ranges[0].0 == 0, ranges[ranges.len() - 1].1 == u16::MAX];
                ranges.len() + 1 - ends.into_iter().filter(|end| *end).count()
            }
        }
    }

    /// The ranges that have them, in order.
    pub fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        if self.ranges.is_empty() {
            return vec![0..=u16::MAX];
        }
        if !self.except {
            return self.ranges.iter().map(|(first, last)| *first..=*last).collect();
        }
        let mut others = Vec::new();
        let mut next = Some(0);
        for (first, last) in &self.ranges {
            if let Some(from) = next.filter(|from| from < first) {
                others.push(from..=first - 1);
            }
            next = last.checked_add(1);
        }
        others.extend(next.map(|from| from..=u16::MAX));
        others
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(first, last): &(u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let list = self.ranges.iter().map(one).collect::<Vec<_>>().join(",");
        write!(f, "{}{list}", if self.except { "!" } else { "" })
    }
}
