//! Which packets a target has: those of its peers, protocol and ports, in one line of text.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which packets, seen from the container; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selector {
    /// To or from whom, in order, each once; the most specific one decides. Nothing, or only exceptions, is all others.
    pub(crate) peers: Vec<Peer>,
    /// Which protocol; none is any.
    pub(crate) protocol: Option<Protocol>,
    /// Which ports of the peer.
    pub(crate) ports: Ports,
    /// Which ports of the container.
    pub(crate) local_ports: Ports,
}

/// Some addresses, or an exception from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Peer {
    /// Whose.
    pub(crate) of: PeerOf,
    /// Whether they are excepted.
    pub(crate) except: bool,
}

/// Whose addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PeerOf {
    /// Those of a prefix.
    Net(IpNet),
    /// Those that a name has.
    Name(Name),
}

/// What has to be resolved to addresses before packets can be told by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Name {
    /// A container, by its name or id.
    Container(String),
    /// A host of the domain name system.
    Host(String),
}

/// A protocol by its number, or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Protocol {
    /// As in IP headers.
    pub(crate) number: u8,
    /// Whether it is all others.
    pub(crate) except: bool,
}

/// Some ports, or all others; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    /// In order, and apart from one another; none is all.
    ranges: Vec<(u16, u16)>,
    /// Whether it is all others.
    except: bool,
}

/// How many peers are shown in one line.
const SHOWN_PEERS: usize = 4;

const PROTOCOLS: [(&str, u8); 5] = [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132)];

impl Selector {
    /// All peers, in the order that makes selectors that mean the same alike.
    ///
    /// # Errors
    ///
    /// When one is both there and excepted.
    pub(crate) fn with_peers(mut self, mut peers: Vec<Peer>) -> Result<Self, String> {
        peers.sort();
        peers.dedup();
        if let Some(pair) = peers.windows(2).find(|pair| pair[0].of == pair[1].of) {
            return Err(format!("{} is both named and excepted: leave one of them out", pair[0].of));
        }
        self.peers = peers;
        Ok(self)
    }

    /// The names that have to be resolved.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.peers.iter().filter_map(|peer| match &peer.of {
            PeerOf::Name(name) => Some(name),
            PeerOf::Net(_) => None,
        })
    }

    /// Its text for a line of a table, of many peers only the first ones.
    pub(crate) fn short(&self) -> String {
        let more = self.peers.len().saturating_sub(SHOWN_PEERS);
        if more == 0 {
            return self.to_string();
        }
        let first = Self { peers: self.peers[..SHOWN_PEERS].to_vec(), ..self.clone_but_peers() };
        format!("{first} and {more} more")
    }

    fn clone_but_peers(&self) -> Self {
        let (ports, local_ports) = (self.ports.clone(), self.local_ports.clone());
        Self { peers: Vec::new(), protocol: self.protocol, ports, local_ports }
    }

    /// How narrow it is, to be compared: by the widest prefix first, IPv4's as IPv6 has them, then by protocol and ports.
    pub(crate) fn narrowness(&self) -> (u8, bool, bool) {
        let length = |peer: &Peer| match &peer.of {
            PeerOf::Net(net @ IpNet::V4(_)) => net.prefix_len() + 96,
            PeerOf::Net(net) => net.prefix_len(),
            PeerOf::Name(_) => 128,
        };
        let widest = self.peers.iter().filter(|peer| !peer.except).map(length).min().unwrap_or(0);
        let has_ports = self.ports != Ports::default() || self.local_ports != Ports::default();
        (widest, self.protocol.is_some(), has_ports)
    }

    /// Whether it has the addresses that no peer of it is about.
    pub(crate) fn has_others(&self) -> bool {
        self.peers.iter().all(|peer| peer.except)
    }
}

impl FromStr for Selector {
    type Err = String;

    /// Parses `10.0.0.0/8 !10.1.0.0/16 tcp port 443,8000-8080`, `container:db`, `all udp`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut selector, mut peers, mut all) = (Self::default(), Vec::new(), false);
        let mut words = text.split_whitespace();
        let mut none = true;
        while let Some(word) = words.next() {
            none = false;
            let mut value = || words.next().ok_or_else(|| format!("{word} has nothing behind it"));
            match word {
                "all" => all = true,
                "port" | "ports" => selector.ports.once(word, value()?)?,
                "local-port" | "local-ports" => selector.local_ports.once(word, value()?)?,
                "protocol" => selector.set_protocol(value()?.parse()?)?,
                _ => match word.parse() {
                    Ok(protocol) => selector.set_protocol(protocol)?,
                    Err(_) => peers.push(word.parse()?),
                },
            }
        }
        if none {
            return Err(
                "a target of nothing: write `all`, or for example `10.0.0.0/8 tcp port 443`".to_owned()
            );
        }
        if all && peers.iter().any(|peer: &Peer| !peer.except) {
            return Err("`all` leaves nothing to name: leave it or the other peers out".to_owned());
        }
        selector.with_peers(peers)?.checked()
    }
}

impl Selector {
    /// Takes the protocol.
    ///
    /// # Errors
    ///
    /// When there is one.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) -> Result<(), String> {
        match self.protocol.replace(protocol) {
            None => Ok(()),
            Some(_) => Err("a target has one protocol: make another target for the other one".to_owned()),
        }
    }

    /// Itself, if its parts make sense together.
    ///
    /// # Errors
    ///
    /// When it has ports of a protocol without any.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let has_ports = self.ports != Ports::default() || self.local_ports != Ports::default();
        match self.protocol {
            Some(protocol @ Protocol { number: 1 | 58, except: false }) if has_ports => {
                Err(format!("{protocol} has no ports: leave them out"))
            }
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.has_others().then(|| "all".to_owned());
        let protocol = self.protocol.map(|protocol| protocol.to_string());
        let ports =
            |word: &str, ports: &Ports| (*ports != Ports::default()).then(|| format!("{word} {ports}"));
        let parts = all
            .into_iter()
            .chain(self.peers.iter().map(Peer::to_string))
            .chain(protocol)
            .chain(ports("port", &self.ports))
            .chain(ports("local-port", &self.local_ports));
        f.pad(&parts.collect::<Vec<_>>().join(" "))
    }
}

impl FromStr for Peer {
    type Err = String;

    /// Parses `10.0.0.0/8`, `2001:db8::1`, `container:db`, `host:example.org`, each after `!` if it is excepted.
    fn from_str(text: &str) -> Result<Self, String> {
        let (except, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let name = |name: &str| match name {
            "" => Err(format!("{text:?} names nobody: write the name behind the colon")),
            _ if name.contains(['!', ',', '/']) => Err(format!("{name:?} is no name")),
            _ => Ok(name.to_owned()),
        };
        let of = if let Some(container) = text.strip_prefix("container:") {
            PeerOf::Name(Name::Container(name(container)?))
        } else if let Some(host) = text.strip_prefix("host:") {
            PeerOf::Name(Name::Host(name(host)?))
        } else {
            PeerOf::Net(parse_net(text)?)
        };
        Ok(Self { of, except })
    }
}

/// Parses an address or a prefix; bits behind the prefix are dropped.
fn parse_net(text: &str) -> Result<IpNet, String> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net: IpNet| net.trunc()).map_err(|_| {
        format!(
            "{text:?} is no target: write an address, a prefix (10.0.0.0/8), container:NAME, host:NAME, a protocol \
             (tcp, udp, icmp, icmpv6, sctp or its number), `port 443,8000-8080` or `local-port 80`"
        )
    })
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

impl FromStr for Protocol {
    type Err = String;

    /// Parses `tcp`, `!udp`, `47`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (except, name) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let known = PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = known.or_else(|| name.parse().ok()).ok_or_else(|| {
            format!("{text:?} is no protocol: write tcp, udp, icmp, icmpv6, sctp or a number up to 255")
        })?;
        Ok(Self { number, except })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let except = if self.except { "!" } else { "" };
        match PROTOCOLS.iter().find(|(_, number)| *number == self.number) {
            Some((name, _)) => write!(f, "{except}{name}"),
            None => write!(f, "{except}{}", self.number),
        }
    }
}

impl Ports {
    /// Takes ports from their text.
    ///
    /// # Errors
    ///
    /// When there are some, or the text is none.
    pub(crate) fn once(&mut self, word: &str, text: &str) -> Result<(), String> {
        if *self != Self::default() {
            return Err(format!("{word} is given twice: write all of them in one list, with commas"));
        }
        *self = text.parse()?;
        Ok(())
    }

    /// The ranges that have them, in order.
    pub(crate) fn ranges(&self) -> Vec<RangeInclusive<u16>> {
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

impl FromStr for Ports {
    type Err = String;

    /// Parses `443`, `443,8000-8080`, `!22`: with `!`, all others.
    fn from_str(text: &str) -> Result<Self, String> {
        let (except, list) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let mut ranges = list.split(',').map(parse_range).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable();
        let mut apart: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match apart.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        if apart == [(0, u16::MAX)] {
            return if except { Err(format!("{text:?} leaves no port")) } else { Ok(Self::default()) };
        }
        Ok(Self { ranges: apart, except })
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let bad = || {
        format!(
            "{text:?} is no port: write for example 443, 8000-8080 or 443,8000-8080, `!` only before all of them"
        )
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok()).ok_or_else(bad)?;
    if range.1 < range.0 {
        return Err(format!("the ports {text} end before they begin: swap them"));
    }
    Ok(range)
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

#[cfg(test)]
pub(crate) mod tests;
