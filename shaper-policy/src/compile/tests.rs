use std::{collections::BTreeSet, net::Ipv4Addr, sync::mpsc, thread};

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};
use shaper_common::policy::{Address, RuleList};

use std::time::Duration;

use super::{targets::Prefix, *};
use crate::{
    model::{MatchRule, Peer, PeerOf, Target},
    samples::{any_policy, effects, step},
};

fn target(rule: &str) -> Target {
    let rule = rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}"));
    Target { rule, schedule: Schedule::always(effects("delay 1ms")) }
}

fn compile(rules: &[&str], peers: &Peers) -> Maps {
    let targets = rules.iter().map(|rule| target(rule)).collect();
    Policy { targets, ..Policy::default() }.compile(7, 42, peers).expect("it compiles")
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
    let ports =
        ports.map_or(policy::Ports::default(), |(peer, local)| policy::Ports { known: true, peer, local });
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
    let rules = ["container:db !host:example.org", "!container:db tcp"];
    let nobody = compile(&rules, &Peers::new());
    assert_eq!((class(&nobody, "10.0.0.5", 6, None), class(&nobody, "10.0.0.5", 17, None)), (2, 0));
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let maps = compile(&rules, &[(db, vec![address("10.0.0.5"), address("fd00::5")])].into());
    assert_eq!((class(&maps, "10.0.0.5", 6, None), class(&maps, "fd00::5", 17, None)), (1, 1));
    assert_eq!((class(&maps, "10.0.0.6", 6, None), class(&maps, "10.0.0.6", 17, None)), (2, 0));
    let policy = Policy { targets: rules.map(target).to_vec(), ..Policy::default() };
    let names: Vec<String> = policy.names().iter().map(ToString::to_string).collect();
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
    let ports = (0..33).map(|port| (port * 2).to_string()).collect::<Vec<_>>().join(",");
    let targets = ["port", "local-port"].map(|word| target(&format!("10.0.0.1 {word} {ports}"))).to_vec();
    let policy = Policy { targets, ..Policy::default() };
    let error = policy.compile(0, 0, &Peers::new()).expect_err("too many").to_string();
    assert!(error.contains("too many rules for the same address: the most are 64"), "{error}");
}

#[test]
fn many_prefixes_compile_fast_and_share_their_lists() {
    let peers: Vec<Peer> = (0..65_000_u32)
        .map(|number| format!("{}/28", Ipv4Addr::from(0x0a00_0000 + number * 16)).parse().expect("a prefix"))
        .collect();
    let one = Target { rule: MatchRule::default().with_peers(peers).expect("peers"), ..target("all") };
    let policy =
        Policy { targets: vec![one, target("10.0.0.0/9 tcp"), target("all udp")], ..Policy::default() };
    let (sender, compiled) = mpsc::channel();
    thread::spawn(move || sender.send(policy.compile(0, 0, &Peers::new())).is_ok());
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });
    let maps = compiled.recv_timeout(bound).expect("in time").expect("it compiles");
    assert_eq!(maps.targets.len(), 65_002);
    let lists: BTreeSet<_> = maps.targets.iter().map(|(_, _, list)| (list.first, list.count)).collect();
    assert_eq!((lists.len(), maps.rules.len()), (3, 6));
}

#[test]
fn each_schedule_has_steps_a_ring_and_a_seed_of_its_own() {
    let steps =
        vec![step(10, false, "delay 1ms limit 50"), step(5, false, "rate 1mbit limit 20 mark 10packets")];
    let schedule = Schedule::new(steps, true).expect("a schedule");
    let other = Target { schedule: Schedule::always(effects("rate 1mbit limit 30")), ..target("10.0.0.1") };
    let nothing = Target { schedule: Schedule::default(), ..target("10.0.0.2") };
    let policy = Policy { seed: Some(1), schedule, targets: vec![other, nothing], ..Policy::default() };
    let maps = policy.compile(7, 42, &Peers::new()).expect("it compiles");
    let [own, other, nothing] = maps.schedules[..] else { panic!("three schedules") };
    assert_eq!((own.begins_at_ns, own.period_ns, own.first, own.count), (7, 15_000_000_000, 0, 2));
    assert_eq!((own.ring, own.ring_length, other.ring, other.ring_length), (0, 50, 50, 30));
    assert_eq!((other.period_ns, other.first, other.count, maps.ring_length), (0, 2, 1, 80));
    assert_eq!((nothing.count, nothing.ring_length), (0, 0));
    assert_eq!(maps.steps[1].ends_ns, 15_000_000_000);
    assert_eq!(maps.steps[2].ends_ns, u64::MAX);
    assert!(own.seed != other.seed && own.seed != nothing.seed);
    assert_eq!(policy.compile(7, 43, &Peers::new()), Ok(maps), "its own seed counts");
}

#[test]
fn a_step_between_two_ramps_is_what_each_of_them_needs() {
    let steps = vec![
        step(10, true, "loss gemodel 1% 10%"),
        step(10, true, "delay 1ms"),
        step(0, false, "delay 1ms loss 5% 25%"),
    ];
    let maps = Policy { schedule: Schedule::new(steps, false).expect("a schedule"), ..Policy::default() };
    let maps = maps.compile(0, 0, &Peers::new()).expect("it compiles");
    let ends: Vec<u64> = maps.steps.iter().map(|step| step.ends_ns / 1_000_000_000).collect();
    assert_eq!(ends, [10, 10, 20, u64::MAX / 1_000_000_000]);
    let schedule = maps.schedules[0];
    let ends_ns = |step: u32| maps.steps[(schedule.first + step) as usize].ends_ns;
    let at =
        |seconds: u64| shaper_common::schedule::step_at(schedule.count, seconds * 1_000_000_000, ends_ns);
    assert_eq!((at(9), at(10), at(19), at(20)), (0, 2, 2, 3));
    let [from, to, own, _] = &maps.steps[..] else { panic!("four steps") };
    assert_eq!((to.effects.loss_model, to.effects.loss[0]), (from.effects.loss_model, 0));
    assert_eq!((own.effects.loss[0], own.effects.loss[1]), (0, 1 << 30));
}

#[test]
fn more_packets_than_the_queue_holds_are_refused() {
    let schedule = Schedule::always(effects("delay 1ms limit 600000"));
    let other = Target { schedule: schedule.clone(), ..target("10.0.0.1") };
    let policy = Policy { schedule, targets: vec![other], ..Policy::default() };
    assert!(
        policy
            .compile(0, 0, &Peers::new())
            .expect_err("too many")
            .to_string()
            .contains("bound their queues in fewer")
    );
}

proptest! {
    #[test]
    fn any_policy_compiles_or_says_why(policy in any_policy()) {
        if let Ok(maps) = policy.compile(0, 0, &Peers::new()) {
            prop_assert_eq!(maps.schedules.len(), policy.targets.len() + 1);
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
            Target { rule: MatchRule { peers, ..MatchRule::default() }, ..target("all") }
        }).collect();
        let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + address));
        let has = |target: &Target| {
            let covering = target.rule.peers.iter().filter_map(|peer| match &peer.of {
                PeerOf::Net(net) if net.contains(&address) => Some((net.prefix_len(), !peer.except)),
                _ => None,
            });
            covering.max().map_or(target.rule.has_others(), |(_, has)| has)
        };
        let expected = targets.iter().position(has).map_or(0, |target| number(target + 1));
        let maps = Policy { targets, ..Policy::default() }.compile(0, 0, &Peers::new()).expect("it compiles");
        prop_assert_eq!(class(&maps, &address.to_string(), 6, None), expected);
    }
}

#[test]
fn schedules_that_cannot_be_are_refused() {
    for (steps, repeats, said) in [
        (vec![], false, "a schedule needs steps"),
        (vec![step(0, false, ""), step(0, false, "")], false, "step 1 has no end"),
        (vec![step(1, false, ""), step(0, false, "")], true, "the last step has no end, so nothing repeats"),
        (vec![step(1, false, "")], false, "the last step stays"),
        (vec![step(1, false, ""), step(0, true, "")], false, "the last step has none after it"),
        (vec![step(1, true, ""), step(0, false, "rate 1mbit")], false, "step 1 cannot ramp to the next one"),
        (vec![step(u64::MAX, false, ""), step(0, false, "")], false, "more than ten years"),
    ] {
        let error = schedule(steps, repeats).expect_err(said).to_string();
        assert!(error.contains(said), "{error:?} lacks {said:?}");
    }
}
