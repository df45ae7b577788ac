//! Turns a plan into what the kernel reads.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use shaper_common::{
    draws,
    plan::{self, Address, MAX_COURSES, MAX_QUEUE_PACKETS, MAX_RULES, Rule, RuleList},
};

use super::{
    effects::Tables,
    maps::Maps,
    plan::{Course, Plan, Target},
    ramp,
    selector::{Name, PeerOf, Selector},
};

/// The addresses that names have now; a name without any has no packets.
pub(crate) type Peers = BTreeMap<Name, Vec<IpAddr>>;

/// The most prefixes that a plan may name.
const MAX_PREFIXES: usize = 262_144;
/// The most rules of a plan.
const MAX_ALL_RULES: usize = 1 << 20;

impl Plan {
    /// What the maps are to be filled with, for courses that begin at `now_ns` of `CLOCK_MONOTONIC`; random numbers are
    /// drawn from `seed` where the plan has none.
    ///
    /// # Errors
    ///
    /// When there are more prefixes, rules or packets than the maps hold.
    pub(crate) fn compile(&self, now_ns: u64, seed: u64, peers: &Peers) -> Result<Maps, String> {
        let mut maps = Maps::default();
        let mut tables = Tables::default();
        let seed = self.seed.unwrap_or(seed);
        for (class, course) in self.courses().enumerate() {
            add_course(&mut maps, course, class_seed(course, seed, class), now_ns, &mut tables)?;
        }
        (maps.distributions, maps.deliveries) = (tables.distributions, tables.deliveries);
        add_targets(&mut maps, &self.targets, peers)?;
        Ok(maps)
    }
}

/// What the random numbers of a class are drawn from: the seed in its own words, or one of its own from the plan's.
fn class_seed(course: &Course, seed: u64, class: usize) -> u64 {
    let own = course.steps().iter().find_map(|step| step.effects.seed);
    draws::mix(draws::mix(own.unwrap_or(seed)).wrapping_add(class as u64))
}

fn add_course(
    maps: &mut Maps,
    course: &Course,
    seed: u64,
    now_ns: u64,
    tables: &mut Tables,
) -> Result<(), String> {
    let first = number(maps.steps.len());
    let steps = if course.is_empty() { Vec::new() } else { steps(course, tables)? };
    let bounds = steps.iter().map(|step| step.effects.queue_packets.max(step.effects.mark_packets));
    let ring_length = bounds.max().unwrap_or(0);
    let ring = maps.ring_length;
    maps.ring_length += ring_length;
    if maps.ring_length > MAX_QUEUE_PACKETS {
        return Err(format!(
            "more packets may wait for all targets together than {MAX_QUEUE_PACKETS}: bound their queues in fewer, or in \
             time or bytes"
        ));
    }
    let period_ns = if course.repeats() { steps.last().map_or(0, |step| step.ends_ns) } else { 0 };
    let count = number(steps.len());
    maps.courses.push(plan::Course {
        begins_at_ns: now_ns,
        period_ns,
        seed,
        first,
        count,
        ring,
        ring_length,
    });
    maps.steps.extend(steps);
    Ok(())
}

/// The steps of a course. One that turns into another which has to be different in the ramp and by itself gets one of no
/// duration behind it that is only turned into.
fn steps(course: &Course, tables: &mut Tables) -> Result<Vec<plan::Step>, String> {
    let mut pairs = Vec::new();
    for (step, next) in course.pairs() {
        let effects = step.effects.to_map(tables);
        pairs.push(if step.ramp {
            let (from, to) = ramp::aligned(effects, next.effects.to_map(tables))?;
            (from, Some(to))
        } else {
            (effects, None)
        });
    }
    let (mut steps, mut ends_ns) = (Vec::new(), 0_u64);
    for (index, step) in course.steps().iter().enumerate() {
        let lasts_ns = step.lasts.map_or(0, as_ns);
        ends_ns = if step.lasts.is_some() { ends_ns.saturating_add(lasts_ns) } else { u64::MAX };
        let (effects, turns_into) = pairs[index];
        steps.push(plan::Step { ends_ns, lasts_ns, ramp: u64::from(step.ramp), effects });
        let next = pairs[(index + 1) % pairs.len()].0;
        if let Some(effects) = turns_into.filter(|effects| *effects != next) {
            steps.push(plan::Step { ends_ns, lasts_ns: 0, ramp: 0, effects });
        }
    }
    Ok(steps)
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Which targets have the packets of an address: a bit for each.
type Bits = [u64; MAX_COURSES as usize / 64];

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
struct Prefix {
    address: u128,
    length: u8,
}

impl Prefix {
    const ALL: Self = Self { address: 0, length: 0 };
    /// All of IPv4.
    const MAPPED: Self = Self { address: 0xffff_0000_0000, length: 96 };

    fn of(net: IpNet) -> Self {
        match net.trunc() {
            IpNet::V4(net) => Self {
                address: Self::MAPPED.address | u128::from(u32::from(net.addr())),
                length: Self::MAPPED.length + net.prefix_len(),
            },
            IpNet::V6(net) => Self { address: u128::from(net.addr()), length: net.prefix_len() },
        }
    }

    fn has(self, other: Self) -> bool {
        let differ = u32::from(self.length)
            .checked_sub(1)
            .map_or(0, |last| (self.address ^ other.address) >> (127 - last));
        self.length <= other.length && differ == 0
    }
}

fn add_targets(maps: &mut Maps, targets: &[Target], peers: &Peers) -> Result<(), String> {
    let mut others = Bits::default();
    let mut entries = Vec::new();
    for (number, Target { selector, .. }) in targets.iter().enumerate() {
        set(&mut others, number, selector.has_others());
        add_entries(&mut entries, selector, number, peers);
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
        return Err(format!("{} prefixes are too many: the most are {MAX_PREFIXES}", maps.targets.len()));
    }
    Ok(())
}

fn add_entries(entries: &mut Vec<Entry>, selector: &Selector, target: usize, peers: &Peers) {
    let mut splits_mapped = false;
    let mut names_mapped = false;
    for peer in &selector.peers {
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
        entries.push(Entry { prefix: Prefix::MAPPED, target, has: Reverse(selector.has_others()) });
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
        let rules_of = targets.iter().enumerate().map(|(target, it)| rules(&it.selector, number(target + 1)));
        Self {
            targets,
            rules_of: rules_of.collect(),
            rules: Vec::new(),
            known: [(Bits::default(), RuleList::default())].into(),
        }
    }

    /// The list of those targets, in their order.
    fn of(&mut self, bits: Bits) -> Result<RuleList, String> {
        if let Some(list) = self.known.get(&bits) {
            return Ok(*list);
        }
        let has = |target: &usize| bits[target / 64] >> (target % 64) & 1 == 1;
        let (first, before) = (number(self.rules.len()), self.rules.len());
        for target in (0..self.targets.len()).filter(has) {
            self.rules.extend(&self.rules_of[target]);
            if self.rules.len() - before > MAX_RULES as usize {
                return Err(format!(
                    "up to the target {}, there are more than {MAX_RULES} rules for the same address: name fewer targets \
                     and ranges of ports",
                    self.targets[target].selector
                ));
            }
        }
        if self.rules.len() > MAX_ALL_RULES {
            return Err("targets overlap in too many ways: name fewer of them".to_owned());
        }
        let list = RuleList { first, count: number(self.rules.len() - before) };
        self.known.insert(bits, list);
        Ok(list)
    }
}

/// One rule for each range of the peer's and the container's ports.
fn rules(selector: &Selector, class: u32) -> Vec<Rule> {
    let (protocol, other_protocols) = selector
        .protocol
        .map_or((Rule::ANY_PROTOCOL, 0), |protocol| (u16::from(protocol.number), u16::from(protocol.except)));
    let local = selector.local_ports.ranges();
    let of_range = |range: std::ops::RangeInclusive<u16>| {
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
    selector.ports.ranges().into_iter().flat_map(of_range).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr, time::Instant};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::shaping::{
        effects::tests::effects,
        plan::tests::{any_plan, step},
        selector::Peer,
    };

    fn target(selector: &str) -> Target {
        let selector = selector.parse().unwrap_or_else(|error| panic!("{selector}: {error}"));
        Target { selector, course: Course::always(effects("delay 1ms")) }
    }

    fn compile(selectors: &[&str], peers: &Peers) -> Maps {
        let targets = selectors.iter().map(|selector| target(selector)).collect();
        Plan { targets, ..Plan::default() }.compile(7, 42, peers).expect("it compiles")
    }

    /// The class of a packet, as the kernel finds it.
    fn class(maps: &Maps, address: &str, protocol: u8, ports: Option<(u16, u16)>) -> u32 {
        let address: IpAddr = address.parse().expect("an address");
        let address = Prefix::of(IpNet::from(address));
        let covers = |(prefix, length, _): &&(Address, u32, RuleList)| {
            let prefix = Prefix {
                address: u128::from_be_bytes(prefix.bytes),
                length: u8::try_from(*length).expect("a length"),
            };
            prefix.has(address)
        };
        let Some((_, _, list)) = maps.targets.iter().filter(covers).max_by_key(|target| target.1) else {
            return 0;
        };
        let rules = &maps.rules[list.first as usize..][..list.count as usize];
        rules.iter().find(|rule| rule.fits(protocol, ports)).map_or(0, |rule| rule.class)
    }

    #[test]
    fn the_most_specific_prefix_decides_and_then_the_first_target() {
        let maps = compile(
            &[
                "10.0.0.0/8 !10.1.0.0/16 10.1.2.0/24 tcp port 443,8000-8080",
                "10.1.0.0/16",
                "all udp",
                "!10.0.0.0/8 !::/0",
            ],
            &Peers::new(),
        );
        for (address, protocol, ports, expected) in [
            ("10.0.0.1", 6, Some((443, 5)), 1),
            ("10.0.0.1", 6, Some((8080, 5)), 1),
            ("10.0.0.1", 6, Some((80, 5)), 0),
            ("10.1.0.1", 6, Some((443, 5)), 2),
            ("10.1.2.1", 6, Some((443, 5)), 1),
            ("10.1.2.1", 17, Some((443, 5)), 2),
            ("10.9.0.1", 17, Some((443, 5)), 3),
            ("192.0.2.1", 6, Some((443, 5)), 4),
            ("192.0.2.1", 1, None, 4),
            ("2001:db8::1", 6, Some((443, 5)), 0),
            ("2001:db8::1", 17, Some((443, 5)), 3),
        ] {
            assert_eq!(class(&maps, address, protocol, ports), expected, "{address} {protocol} {ports:?}");
        }
    }

    #[test]
    fn a_prefix_of_all_is_of_one_family_only() {
        let maps = compile(&["::/0"], &Peers::new());
        assert_eq!((class(&maps, "2001:db8::1", 6, None), class(&maps, "192.0.2.1", 6, None)), (1, 0));
        let maps = compile(&["0.0.0.0/0"], &Peers::new());
        assert_eq!((class(&maps, "2001:db8::1", 6, None), class(&maps, "192.0.2.1", 6, None)), (0, 1));
        let maps = compile(&["::/0 0.0.0.0/0"], &Peers::new());
        assert_eq!((class(&maps, "2001:db8::1", 6, None), class(&maps, "192.0.2.1", 6, None)), (1, 1));
        let maps = compile(&["all"], &Peers::new());
        assert_eq!((class(&maps, "2001:db8::1", 6, None), class(&maps, "192.0.2.1", 6, None)), (1, 1));
        assert_eq!(maps.targets.len(), 1);
    }

    #[test]
    fn names_have_their_addresses_and_none_has_no_packets() {
        let db = Name::Container("db".to_owned());
        let selectors = ["container:db !host:example.org", "!container:db tcp"];
        let nobody = compile(&selectors, &Peers::new());
        assert_eq!((class(&nobody, "10.0.0.5", 6, None), class(&nobody, "10.0.0.5", 17, None)), (2, 0));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let maps = compile(&selectors, &[(db, vec![address("10.0.0.5"), address("fd00::5")])].into());
        assert_eq!((class(&maps, "10.0.0.5", 6, None), class(&maps, "fd00::5", 17, None)), (1, 1));
        assert_eq!((class(&maps, "10.0.0.6", 6, None), class(&maps, "10.0.0.6", 17, None)), (2, 0));
        let plan = Plan { targets: selectors.map(target).to_vec(), ..Plan::default() };
        let names: Vec<String> = plan.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["container:db", "host:example.org"]);
    }

    #[test]
    fn all_other_ports_and_protocols_have_rules() {
        let maps = compile(&["all !tcp port !22"], &Peers::new());
        assert_eq!(maps.rules.len(), 2);
        assert_eq!(class(&maps, "10.0.0.1", 17, Some((22, 1))), 0);
        assert_eq!(class(&maps, "10.0.0.1", 17, Some((23, 1))), 1);
        assert_eq!(class(&maps, "10.0.0.1", 6, Some((23, 1))), 0);
        assert_eq!(class(&maps, "10.0.0.1", 1, None), 0, "no ports, and so none of them");
    }

    #[test]
    fn too_many_rules_for_an_address_are_refused() {
        let ports = (0..65).map(|port| (port * 2).to_string()).collect::<Vec<_>>().join(",");
        let plan = Plan { targets: vec![target(&format!("10.0.0.1 port {ports}"))], ..Plan::default() };
        let error = plan.compile(0, 0, &Peers::new()).expect_err("too many");
        assert!(error.contains("more than 64 rules for the same address"), "{error}");
    }

    #[test]
    fn many_prefixes_compile_fast_and_share_their_lists() {
        let peers: Vec<Peer> = (0..65_000_u32)
            .map(|number| {
                format!("{}/28", Ipv4Addr::from(0x0a00_0000 + number * 16)).parse().expect("a prefix")
            })
            .collect();
        let one = Target { selector: Selector::default().with_peers(peers).expect("peers"), ..target("all") };
        let plan =
            Plan { targets: vec![one, target("10.0.0.0/9 tcp"), target("all udp")], ..Plan::default() };
        let begun = Instant::now();
        let maps = plan.compile(0, 0, &Peers::new()).expect("it compiles");
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 }), "{took:?}");
        assert_eq!(maps.targets.len(), 65_002);
        let lists: BTreeSet<_> = maps.targets.iter().map(|(_, _, list)| (list.first, list.count)).collect();
        assert_eq!((lists.len(), maps.rules.len()), (3, 6));
    }

    #[test]
    fn each_course_has_steps_a_ring_and_a_seed_of_its_own() {
        let steps =
            vec![step(10, false, "delay 1ms limit 50"), step(5, false, "rate 1mbit limit 20 mark 10packets")];
        let course = Course::new(steps, true).expect("a course");
        let other = Target { course: Course::always(effects("rate 1mbit limit 30")), ..target("10.0.0.1") };
        let nothing = Target { course: Course::default(), ..target("10.0.0.2") };
        let plan = Plan { seed: Some(1), course, targets: vec![other, nothing] };
        let maps = plan.compile(7, 42, &Peers::new()).expect("it compiles");
        let [own, other, nothing] = maps.courses[..] else { panic!("three courses") };
        assert_eq!((own.begins_at_ns, own.period_ns, own.first, own.count), (7, 15_000_000_000, 0, 2));
        assert_eq!((own.ring, own.ring_length, other.ring, other.ring_length), (0, 50, 50, 30));
        assert_eq!((other.period_ns, other.first, other.count, maps.ring_length), (0, 2, 1, 80));
        assert_eq!((nothing.count, nothing.ring_length), (0, 0));
        assert_eq!(maps.steps[1].ends_ns, 15_000_000_000);
        assert_eq!(maps.steps[2].ends_ns, u64::MAX);
        assert!(own.seed != other.seed && own.seed != nothing.seed);
        assert_eq!(plan.compile(7, 43, &Peers::new()), Ok(maps), "its own seed counts");
    }

    #[test]
    fn a_step_between_two_ramps_is_what_each_of_them_needs() {
        let steps = vec![
            step(10, true, "loss gemodel 1% 10%"),
            step(10, true, "delay 1ms"),
            step(0, false, "delay 1ms loss 5% 25%"),
        ];
        let maps = Plan { course: Course::new(steps, false).expect("a course"), ..Plan::default() };
        let maps = maps.compile(0, 0, &Peers::new()).expect("it compiles");
        let ends: Vec<u64> = maps.steps.iter().map(|step| step.ends_ns / 1_000_000_000).collect();
        assert_eq!(ends, [10, 10, 20, u64::MAX / 1_000_000_000]);
        let course = maps.courses[0];
        let at =
            |seconds: u64| course.step_at(seconds * 1_000_000_000, |step| maps.steps[step as usize].ends_ns);
        assert_eq!((at(9), at(10), at(19), at(20)), (0, 2, 2, 3));
        let [from, to, own, _] = &maps.steps[..] else { panic!("four steps") };
        assert_eq!((to.effects.loss_model, to.effects.loss[0]), (from.effects.loss_model, 0));
        assert_eq!((own.effects.loss[0], own.effects.loss[1]), (0, 1 << 30));
    }

    #[test]
    fn more_packets_than_the_queue_holds_are_refused() {
        let course = Course::always(effects("delay 1ms limit 600000"));
        let other = Target { course: course.clone(), ..target("10.0.0.1") };
        let plan = Plan { course, targets: vec![other], ..Plan::default() };
        assert!(
            plan.compile(0, 0, &Peers::new()).expect_err("too many").contains("bound their queues in fewer")
        );
    }

    proptest! {
        #[test]
        fn any_plan_compiles_or_says_why(plan in any_plan()) {
            if let Ok(maps) = plan.compile(0, 0, &Peers::new()) {
                prop_assert_eq!(maps.courses.len(), plan.targets.len() + 1);
                for (_, _, list) in &maps.targets {
                    prop_assert!((list.first + list.count) as usize <= maps.rules.len());
                }
            }
        }

        #[test]
        fn the_class_of_an_address_is_that_of_the_first_target_that_has_it(
            lists in vec(vec((0..16_u32, 24..=32_u8, any::<bool>()), 0..6), 1..5),
            address in 0..4096_u32,
        ) {
            let net = |block: u32, length: u8| IpNet::new(Ipv4Addr::from(0x0a00_0000 + block * 256 + 17).into(), length).expect("a net").trunc();
            let targets: Vec<Target> = lists.iter().map(|list| {
                let mut peers: Vec<Peer> = list.iter().map(|(block, length, except)| Peer { of: PeerOf::Net(net(*block, *length)), except: *except }).collect();
                peers.sort();
                peers.dedup_by(|one, other| one.of == other.of);
                Target { selector: Selector { peers, ..Selector::default() }, ..target("all") }
            }).collect();
            let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + address));
            let has = |target: &Target| {
                let covering = target.selector.peers.iter().filter_map(|peer| match &peer.of {
                    PeerOf::Net(net) if net.contains(&address) => Some((net.prefix_len(), !peer.except)),
                    _ => None,
                });
                covering.max().map_or(target.selector.has_others(), |(_, has)| has)
            };
            let expected = targets.iter().position(has).map_or(0, |target| number(target + 1));
            let maps = Plan { targets, ..Plan::default() }.compile(0, 0, &Peers::new()).expect("it compiles");
            prop_assert_eq!(class(&maps, &address.to_string(), 6, None), expected);
        }
    }
}
