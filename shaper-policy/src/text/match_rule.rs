//! Reads targets from text.

use std::{net::IpAddr, str::FromStr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use crate::model::{MAX_PREFIXES, MatchRule, Name, PROTOCOLS, Peer, PeerOf, PolicyError, Ports, Protocol};

/// The longest name of a container or host; that of a host in the domain name system is shorter (RFC 1035).
const LONGEST_NAME: usize = 255;
/// The most ranges in one list of ports: each port once.
const MAX_RANGES: usize = 1 << 16;

impl FromStr for MatchRule {
    type Err = PolicyError;

    /// Parses `10.0.0.0/8 !10.1.0.0/16 tcp port 443,8000-8080`, `container:db`, `192.0.2.7:80`, `all udp`.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut words = text.split_whitespace();
        let mut parts = Parts::default();
        let mut is_empty = true;
        while let Some(word) = words.next() {
            is_empty = false;
            let rule = &mut parts.rule;
            let mut value = || {
                let missing = || PolicyError::missing(word.to_owned(), "a value", "for example `port 443`");
                words.next().ok_or_else(missing)
            };
            match word {
                "all" => parts.all = true,
                "port" | "ports" => rule.ports.once(word, value()?)?,
                "local-port" | "local-ports" => rule.local_ports.once(word, value()?)?,
                "dport" => rule.packet_ports.destination.once(word, value()?)?,
                "sport" => rule.packet_ports.source.once(word, value()?)?,
                "proto" | "protocol" => rule.set_protocol(value()?.parse()?)?,
                _ => parts.read(word)?,
            }
        }
        if is_empty {
            return Err(PolicyError::contradiction(
                "a target of nothing",
                "write `all`, or for example `10.0.0.0/8 tcp port 443`",
            ));
        }
        parts.finish()
    }
}

/// A match rule that is being read.
#[derive(Default)]
struct Parts {
    rule: MatchRule,
    peers: Vec<Peer>,
    all: bool,
    /// The ports of addresses that have them, as in `192.0.2.7:80`.
    ports: Option<Ports>,
    /// The first address that has none.
    portless: Option<Peer>,
}

impl Parts {
    /// Takes protocols and peers, several with commas between them; `!` is before all of them.
    fn read(&mut self, word: &str) -> Result<(), PolicyError> {
        let (except, list) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        for one in list.split(',') {
            if is_number(one) {
                let not = if except { "!" } else { "" };
                return Err(PolicyError::unsupported(
                    one,
                    format!("is a port or a protocol: write `port {not}{one}` or `proto {not}{one}`"),
                ));
            }
            match PROTOCOLS.iter().find(|(name, _)| *name == one) {
                Some((_, number)) => self.rule.set_protocol(Protocol { number: *number, except })?,
                None => self.read_peers(one, except)?,
            }
        }
        Ok(())
    }

    fn read_peers(&mut self, text: &str, except: bool) -> Result<(), PolicyError> {
        let (peers, ports) = peers(text)?;
        if self.peers.len() + peers.len() > MAX_PREFIXES {
            return Err(PolicyError::too_many("addresses of a target", MAX_PREFIXES, ""));
        }
        match ports {
            Some(_) if except => {
                let why = "excepts a port of an address: except the address, or make another target";
                return Err(PolicyError::unsupported(text, why));
            }
            Some(ports) if self.ports.as_ref().is_some_and(|others| *others != ports) => {
                let why = "has another port than the address before it: make another target";
                return Err(PolicyError::unsupported(text, why));
            }
            Some(ports) => self.ports = Some(ports),
            None if except || self.portless.is_some() => {}
            None => self.portless = peers.first().map(|of| Peer { of: of.clone(), except }),
        }
        self.peers.extend(peers.into_iter().map(|of| Peer { of, except }));
        Ok(())
    }

    fn finish(mut self) -> Result<MatchRule, PolicyError> {
        if self.all && self.peers.iter().any(|peer| !peer.except) {
            return Err(PolicyError::contradiction(
                "`all` includes every address",
                "leave out `all`, or the addresses",
            ));
        }
        if let Some(ports) = self.ports {
            if let Some(portless) = self.portless {
                return Err(PolicyError::contradiction(
                    format!("{portless} has no port, and others have {ports}"),
                    format!("write `port {ports}`, or make another target"),
                ));
            }
            self.rule.ports.once("port", &ports.to_string())?;
        }
        self.rule.with_peers(self.peers)?.checked()
    }
}

/// Parses an address, a prefix, a range of addresses or a name, perhaps with ports after a colon.
fn peers(text: &str) -> Result<(Vec<PeerOf>, Option<Ports>), PolicyError> {
    let error = match peers_without_ports(text) {
        Ok(peers) => return Ok((peers, None)),
        Err(error) => error,
    };
    let Some((address, ports)) = text.rsplit_once(':') else { return Err(error) };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    // Without brackets, what is behind IPv6's last colon may be a part of the address.
    if bare.is_none()
        && address.contains(':')
        && !address.starts_with(CONTAINER)
        && !address.starts_with(HOST)
    {
        return Err(error);
    }
    match (peers_without_ports(bare.unwrap_or(address)), ports.parse()) {
        (Ok(peers), Ok(ports)) => Ok((peers, Some(ports))),
        (Ok(_), Err(error)) => Err(error),
        (Err(_), _) => Err(error),
    }
}

const CONTAINER: &str = "container:";
const HOST: &str = "host:";

fn peers_without_ports(text: &str) -> Result<Vec<PeerOf>, PolicyError> {
    if let Some(name) = text.strip_prefix(CONTAINER) {
        return Ok(vec![PeerOf::Name(Name::Container(parse_selector(text, name)?))]);
    }
    if let Some(name) = text.strip_prefix(HOST) {
        return Ok(vec![PeerOf::Name(Name::Host(parse_name(text, name)?))]);
    }
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Ok(vec![PeerOf::Net(parse_net(address)?)]);
    }
    if let Some((first, last)) = text.split_once('-')
        && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
    {
        return parse_range_of_addresses(text, first, last);
    }
    Ok(vec![PeerOf::Net(parse_net(text)?)])
}

/// Takes the name of a container, or a selector of several, which whoever knows containers reads. It has no comma, which
/// is between peers, and does not end in ports.
fn parse_selector(text: &str, selector: &str) -> Result<String, PolicyError> {
    let ends_in_ports = || selector.rsplit_once(':').is_some_and(|(_, ports)| ports.parse::<Ports>().is_ok());
    match selector {
        "" => Err(PolicyError::unsupported(text, "names nobody: write the name after the colon")),
        _ if selector.contains(',') || ends_in_ports() => {
            Err(PolicyError::invalid("container", selector, "a name or a selector without comma and ports"))
        }
        _ if selector.len() > LONGEST_NAME => {
            Err(PolicyError::invalid("container", selector, "at most 255 bytes"))
        }
        _ => Ok(selector.to_owned()),
    }
}

fn parse_name(text: &str, name: &str) -> Result<String, PolicyError> {
    match name {
        "" => Err(PolicyError::unsupported(text, "names nobody: write the name after the colon")),
        _ if name.contains(['!', ',', '/', ':']) => {
            Err(PolicyError::invalid("name", name, "one without !, comma, slash and colon"))
        }
        _ if name.len() > LONGEST_NAME => Err(PolicyError::invalid("name", name, "at most 255 bytes")),
        _ => Ok(name.to_owned()),
    }
}

/// The prefixes that have exactly the addresses from `first` to `last`.
fn parse_range_of_addresses(text: &str, first: IpAddr, last: IpAddr) -> Result<Vec<PeerOf>, PolicyError> {
    let subnets = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::from(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::from(Ipv6Subnets::new(first, last, 0)),
        _ => return Err(PolicyError::unsupported(text, "mixes IPv4 and IPv6")),
    };
    if last < first {
        return Err(PolicyError::unsupported(text, "ends before it begins: swap the addresses"));
    }
    Ok(subnets.map(PeerOf::Net).collect())
}

/// Parses an address or a prefix; bits behind the prefix are dropped.
fn parse_net(text: &str) -> Result<IpNet, PolicyError> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net: IpNet| net.trunc()).map_err(|_| PolicyError::unknown("target", text, TARGETS))
}

/// All that may be in a target.
const TARGETS: &str = "write an address, a prefix (10.0.0.0/8), a range (10.0.0.1-10.0.0.9), container:SELECTOR, \
                       host:NAME, a protocol (tcp, udp, icmp, icmpv6, sctp, `proto 47`), `port 443,8000-8080` or \
                       `local-port 80`";

/// Returns true for a number of a port or a protocol.
fn is_number(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for Peer {
    type Err = PolicyError;

    /// Parses `10.0.0.0/8`, `2001:db8::1`, `container:db`, `host:example.org`, each after `!` if it is excepted.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (except, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        match <[PeerOf; 1]>::try_from(peers_without_ports(text)?) {
            Ok([of]) => Ok(Self { of, except }),
            Err(_) => Err(PolicyError::unsupported(text, "is more than one prefix: write them one by one")),
        }
    }
}

impl FromStr for Protocol {
    type Err = PolicyError;

    /// Parses `tcp`, `!udp`, `47`.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (except, name) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let known = PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = known.or_else(|| name.parse().ok()).ok_or_else(|| {
            PolicyError::unknown("protocol", text, "write tcp, udp, icmp, icmpv6, sctp or a number up to 255")
        })?;
        Ok(Self { number, except })
    }
}

impl FromStr for Ports {
    type Err = PolicyError;

    /// Parses `443`, `443,8000-8080`, `8000:8080`, `!22`: with `!`, all others.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (except, list) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let ranges = list.split(',').take(MAX_RANGES + 1).map(parse_range).collect::<Result<Vec<_>, _>>()?;
        if ranges.len() > MAX_RANGES {
            return Err(PolicyError::too_many("ranges of ports", MAX_RANGES, ""));
        }
        Self::new(ranges, except).ok_or_else(|| PolicyError::unsupported(text, "leaves no port"))
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), PolicyError> {
    let bad = || {
        let expected = "for example 443, 8000-8080 or 443,8000-8080, with `!` before all of them";
        PolicyError::invalid("port", text, expected)
    };
    let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok()).ok_or_else(bad)?;
    if range.1 < range.0 {
        return Err(PolicyError::unsupported(text, "ends before it begins: swap the ports"));
    }
    Ok(range)
}
