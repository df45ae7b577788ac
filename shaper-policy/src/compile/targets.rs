//! From targets to a trie of prefixes, each with the rules of the targets that have it.

use std::{cmp::Reverse, collections::HashMap, ops::RangeInclusive};

use ipnet::IpNet;
use shaper_common::policy::{Address, MAX_RULES, MAX_SCHEDULES, Rule, RuleList};

use super::{Maps, Peers, number};
use crate::model::{MAX_PREFIXES, MatchRule, PeerOf, PolicyError, Target};

/// The most rules of a policy.
const MAX_ALL_RULES: usize = 1 << 20;

/// The targets of an address: a bit for each.
type Bits = [u64; MAX_SCHEDULES as usize / 64];

/// A prefix that a target has, or does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    prefix: Prefix,
    target: usize,
    // What is excepted counts, so it comes last.
    has: Reverse<bool>,
}

/// Addresses with the same beginning; in order, each comes before those within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    pub(super) address: u128,
    pub(super) length: u8,
}

impl Prefix {
    const ALL: Self = Self { address: 0, length: 0 };
    /// All of IPv4.
    const MAPPED: Self = Self { address: 0xffff_0000_0000, length: 96 };

    pub(super) fn of(net: IpNet) -> Self {
        match net.trunc() {
            IpNet::V4(net) => Self {
                address: Self::MAPPED.address | u128::from(u32::from(net.addr())),
                length: Self::MAPPED.length + net.prefix_len(),
            },
            IpNet::V6(net) => Self { address: u128::from(net.addr()), length: net.prefix_len() },
        }
    }

    pub(super) fn has(self, other: Self) -> bool {
        let differ = u32::from(self.length)
            .checked_sub(1)
            .map_or(0, |last| (self.address ^ other.address) >> (127 - last));
        self.length <= other.length && differ == 0
    }
}

pub(super) fn add_targets(maps: &mut Maps, targets: &[Target], peers: &Peers) -> Result<(), PolicyError> {
    let mut others = Bits::default();
    let mut entries = Vec::new();
    for (number, Target { rule, .. }) in targets.iter().enumerate() {
        set(&mut others, number, rule.has_others());
        add_entries(&mut entries, rule, number, peers);
    }
    entries.sort_unstable();
    let mut lists = Lists::new(targets);
    // The prefixes around the present one, and who has packets there.
    let mut around: Vec<(Prefix, Bits)> = Vec::new();
    for (prefix, bits) in std::iter::once((Prefix::ALL, &[][..])).chain(by_prefix(&entries)) {
        while around.last().is_some_and(|(outer, _)| !outer.has(prefix)) {
            around.pop();
        }
        let outer = around.last().map(|(_, bits)| *bits);
        let mut inner = outer.unwrap_or(others);
        for entry in bits {
            set(&mut inner, entry.target, entry.has.0);
        }
        around.push((prefix, inner));
        if inner != outer.unwrap_or_default() {
            let address = Address { bytes: prefix.address.to_be_bytes() };
            maps.targets.push((address, u32::from(prefix.length), lists.of(inner)?));
        }
    }
    // `::/0` comes from the targets without peers, or by name; only the latter counts then.
    maps.targets.dedup_by(|second, first| {
        (second.0, second.1) == (first.0, first.1) && {
            *first = *second;
            true
        }
    });
    maps.rules = lists.rules;
    if maps.targets.len() > MAX_PREFIXES {
        return Err(PolicyError::too_many("prefixes", MAX_PREFIXES, ""));
    }
    Ok(())
}

fn add_entries(entries: &mut Vec<Entry>, rule: &MatchRule, target: usize, peers: &Peers) {
    let mut splits_mapped = false;
    let mut names_mapped = false;
    for peer in &rule.peers {
        let mut add = |prefix: Prefix| {
            splits_mapped |= prefix.length < Prefix::MAPPED.length && prefix.has(Prefix::MAPPED);
            names_mapped |= prefix == Prefix::MAPPED;
            entries.push(Entry { prefix, target, has: Reverse(!peer.except) });
        };
        match &peer.of {
            PeerOf::Net(net) => add(Prefix::of(*net)),
            PeerOf::Name(name) => {
                let addresses = peers.get(name).map_or(&[][..], Vec::as_slice);
                addresses.iter().for_each(|address| add(Prefix::of(IpNet::from(*address))));
            }
        }
    }
    // `::/0` and the like are about IPv6 only, though IPv4 is within them here.
    if splits_mapped && !names_mapped {
        entries.push(Entry { prefix: Prefix::MAPPED, target, has: Reverse(rule.has_others()) });
    }
}

/// Entries in order, those of one prefix together.
fn by_prefix(entries: &[Entry]) -> impl Iterator<Item = (Prefix, &[Entry])> {
    entries.chunk_by(|one, other| one.prefix == other.prefix).map(|chunk| (chunk[0].prefix, chunk))
}

fn set(bits: &mut Bits, number: usize, value: bool) {
    let bit = 1 << (number % 64);
    if value { bits[number / 64] |= bit } else { bits[number / 64] &= !bit }
}

/// Lists of rules, each once.
struct Lists<'a> {
    targets: &'a [Target],
    rules_of: Vec<Vec<Rule>>,
    rules: Vec<Rule>,
    known: HashMap<Bits, RuleList>,
}

impl<'a> Lists<'a> {
    fn new(targets: &'a [Target]) -> Self {
        let rules_of = targets.iter().enumerate().map(|(target, it)| rules(&it.rule, number(target + 1)));
        Self {
            targets,
            rules_of: rules_of.collect(),
            rules: Vec::new(),
            known: [(Bits::default(), RuleList::default())].into(),
        }
    }

    /// The list of those targets, in their order.
    fn of(&mut self, bits: Bits) -> Result<RuleList, PolicyError> {
        if let Some(list) = self.known.get(&bits) {
            return Ok(*list);
        }
        let has = |target: &usize| bits[target / 64] >> (target % 64) & 1 == 1;
        let (first, before) = (number(self.rules.len()), self.rules.len());
        for target in (0..self.targets.len()).filter(has) {
            self.rules.extend(&self.rules_of[target]);
            if self.rules.len() - before > MAX_RULES as usize {
                let too_many = PolicyError::too_many(
                    "rules for the same address",
                    MAX_RULES as usize,
                    "name fewer targets and ranges of ports",
                );
                return Err(too_many.within(format!("target {}", self.targets[target].rule.short())));
            }
        }
        if self.rules.len() > MAX_ALL_RULES {
            return Err(PolicyError::contradiction("targets overlap in too many ways", "name fewer of them"));
        }
        let list = RuleList { first, count: number(self.rules.len() - before) };
        self.known.insert(bits, list);
        Ok(list)
    }
}

/// One rule for each range of the peer's and the container's ports.
fn rules(rule: &MatchRule, class: u32) -> Vec<Rule> {
    let (protocol, other_protocols) = rule
        .protocol
        .map_or((Rule::ANY_PROTOCOL, 0), |protocol| (u16::from(protocol.number), u16::from(protocol.except)));
    let local = rule.local_ports.ranges();
    let of_range = |range: RangeInclusive<u16>| {
        local.iter().map(move |local| Rule {
            class,
            protocol,
            other_protocols,
            port_first: *range.start(),
            port_last: *range.end(),
            local_port_first: *local.start(),
            local_port_last: *local.end(),
        })
    };
    rule.ports.ranges().into_iter().flat_map(of_range).collect()
}
