//! Samples for tests: any policy, and ones that are written down.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use shaper_common::policy::MAX_QUEUE_PACKETS;

use crate::{
    compile,
    model::{
        Bottleneck, Bounds, Chance, Corruption, Delay, Distribution, Effects, Interfaces, Jitter, LossModel,
        Losses, MatchRule, Named, Peer, Percent, Policy, Ports, Protocol, Rate, Reordering, Schedule, Slot,
        SlotTime, Step, Target, Trace,
    },
};

/// A distribution `wifi` and a trace `lte`.
pub(crate) fn named() -> Named {
    let wifi = Distribution::Table { name: "wifi".to_owned(), entries: Arc::new([-8192, -100, 9000]) };
    let lte = Trace { name: "lte".to_owned(), times_ms: Arc::new([0, 3, 3, 10]) };
    Named { distributions: [("wifi".to_owned(), wifi)].into(), traces: [("lte".to_owned(), lte)].into() }
}

/// Effects in words.
pub(crate) fn effects(words: &str) -> Effects {
    Effects::parse(words, &named()).unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// A step, for so many seconds if not for ever.
pub(crate) fn step(seconds: u64, ramp: bool, words: &str) -> Step {
    let lasts = (seconds > 0).then(|| Duration::from_secs(seconds));
    Step { lasts, ramp, effects: effects(words) }
}

fn percents() -> impl Strategy<Value = Percent> {
    (0.000_001..=100.0_f64).prop_map(|percent| Percent::new(percent, "share").expect("in range"))
}

fn chances() -> impl Strategy<Value = Chance> {
    let correlation = prop_oneof![Just(Percent::ZERO), percents()];
    (percents(), correlation).prop_map(|(probability, correlation)| Chance { probability, correlation })
}

fn times() -> impl Strategy<Value = Duration> {
    (1..=300_000_000_000_u64).prop_map(Duration::from_nanos)
}

fn distributions() -> impl Strategy<Value = Distribution> {
    let wifi = named().distributions.remove("wifi").expect("it is there");
    prop_oneof![
        Just(Distribution::Uniform),
        Just(Distribution::Normal),
        Just(Distribution::Pareto),
        Just(Distribution::ParetoNormal),
        Just(wifi),
    ]
}

fn delays() -> impl Strategy<Value = Delay> {
    let jitter = (times(), prop_oneof![Just(Percent::ZERO), percents()], distributions(), any::<bool>());
    let jitter = jitter.prop_map(|(spread, correlation, distribution, reorders)| Jitter {
        spread,
        correlation,
        distribution,
        reorders,
    });
    (times(), option::of(jitter)).prop_map(|(time, jitter)| Delay { time, jitter })
}

fn losses() -> impl Strategy<Value = Losses> {
    let model = prop_oneof![
        chances().prop_map(LossModel::Random),
        [percents(), percents(), percents(), percents()].prop_map(LossModel::Gemodel),
        [percents(), percents(), percents(), percents(), percents()].prop_map(|values| {
            let half = |value: Percent| Percent::new(value.as_f64() / 2.0, "share").expect("in range");
            LossModel::State(values.map(half))
        }),
        (1..=u32::MAX).prop_map(LossModel::Every),
    ];
    (model, any::<bool>()).prop_map(|(model, ecn)| Losses { model, ecn })
}

fn bottlenecks() -> impl Strategy<Value = Bottleneck> {
    let cell = prop_oneof![Just((0, 0)), (1..=65_535_u32, -65_535..=65_535_i32)];
    let rate =
        (1..=500_000_000_000_u64, -65_535..=65_535_i32, cell).prop_map(|(rate, overhead, (bytes, more))| {
            Bottleneck::Rate {
                rate: Rate::new(rate).expect("in range"),
                overhead,
                cell_bytes: bytes,
                cell_overhead: more,
            }
        });
    let lte = named().traces.remove("lte").expect("it is there");
    prop_oneof![rate, Just(Bottleneck::Trace(lte))]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (option::of(times()), option::of(1..=u32::MAX), option::of(1..=MAX_QUEUE_PACKETS))
        .prop_map(|(time, bytes, packets)| Bounds { time, bytes, packets })
}

fn slots() -> impl Strategy<Value = Slot> {
    let opens = prop_oneof![
        (times(), times()).prop_map(|(one, other)| SlotTime::Between(one.min(other), one.max(other))),
        (distributions(), times(), times()).prop_map(|(distribution, one, other)| SlotTime::About {
            distribution,
            mean: one.max(other),
            spread: one.min(other),
        }),
    ];
    (opens, any::<u32>(), any::<u32>()).prop_map(|(opens, packets, bytes)| Slot { opens, packets, bytes })
}

/// Any effects that make sense.
pub(crate) fn any_effects() -> impl Strategy<Value = Effects> {
    let chances_of = (
        option::of(losses()),
        option::of(chances()),
        option::of((chances(), any::<bool>()).prop_map(|(chance, fixed)| Corruption { chance, fixed })),
        option::of((chances(), 1..=u32::MAX).prop_map(|(chance, gap)| Reordering { chance, gap })),
    );
    let waits = (option::of(delays()), option::of(bottlenecks()), bounds(), bounds(), option::of(slots()));
    (chances_of, waits, option::of(any::<u64>())).prop_map(|(chances_of, waits, seed)| {
        let (loss, duplicate, corrupt, reorder) = chances_of;
        let (delay, bottleneck, mut queue, mark, slot) = waits;
        let mut reorder = reorder;
        let mut mark = mark;
        if delay.is_none() {
            reorder = None;
        }
        if bottleneck.is_none() {
            (queue.time, queue.bytes, mark) = (None, None, Bounds::default());
        }
        mark.time = mark.time.filter(|mark| queue.time.is_none_or(|queue| *mark < queue));
        mark.bytes = mark.bytes.filter(|mark| queue.bytes.is_none_or(|queue| *mark < queue));
        mark.packets = mark.packets.filter(|mark| queue.packets.is_none_or(|queue| *mark < queue));
        Effects { delay, loss, duplicate, corrupt, reorder, bottleneck, queue, mark, slot, seed }
    })
}

fn peers() -> impl Strategy<Value = Peer> {
    let net = prop_oneof![
        (any::<u32>(), 0..=32_u8)
            .prop_map(|(address, length)| format!("{}/{length}", std::net::Ipv4Addr::from(address))),
        (any::<u128>(), 0..=128_u8)
            .prop_map(|(address, length)| format!("{}/{length}", std::net::Ipv6Addr::from(address))),
        "container:[a-z]{1,8}",
        "container:label:[a-z]{1,3}=[a-z]{1,3}\\+![a-z]{1,3}/\\*",
        "host:[a-z]{1,8}\\.org",
    ];
    (net, any::<bool>()).prop_map(|(of, except)| {
        let peer: Peer = of.parse().expect("a peer");
        Peer { except, ..peer }
    })
}

pub(crate) fn ports() -> impl Strategy<Value = Ports> {
    let some = (vec((any::<u16>(), any::<u16>()), 1..4), any::<bool>()).prop_map(|(list, except)| {
        let list: Vec<_> = list.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect();
        format!("{}{}", if except { "!" } else { "" }, list.join(",")).parse().unwrap_or_default()
    });
    prop_oneof![Just(Ports::default()), some]
}

/// Any match rule.
pub(crate) fn any_match_rule() -> impl Strategy<Value = MatchRule> {
    let protocol = option::of((any::<u8>(), any::<bool>()));
    (vec(peers(), 0..5), protocol, ports(), ports()).prop_map(|(mut peers, protocol, ports, local_ports)| {
        peers.sort();
        peers.dedup_by(|one, other| one.of == other.of);
        let protocol = protocol.map(|(number, except)| Protocol { number, except });
        let portless = matches!(protocol, Some(Protocol { number: 1 | 58, except: false }));
        let of = |ports| if portless { Ports::default() } else { ports };
        let (ports, local_ports) = (of(ports), of(local_ports));
        MatchRule { peers, protocol, ports, local_ports, ..MatchRule::default() }
    })
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let lasts = (1..=1_000_000_000_000_u64).prop_map(Duration::from_nanos);
    let step =
        (lasts, any_effects()).prop_map(|(lasts, effects)| Step { lasts: Some(lasts), ramp: false, effects });
    (vec(step, 1..4), any::<bool>()).prop_map(|(mut steps, repeats)| {
        if !repeats {
            steps.last_mut().expect("one").lasts = None;
        }
        // What turns into itself always can.
        let first = steps[0].clone();
        if first.lasts.is_some() {
            steps.insert(0, Step { ramp: true, ..first });
        }
        compile::schedule(steps, repeats).expect("a good one")
    })
}

/// Any choice of interfaces, or none.
pub(crate) fn any_interfaces() -> impl Strategy<Value = Option<Interfaces>> {
    let patterns = |pattern: &'static str| option::of(vec(pattern, 1..3));
    (patterns("[a-z]{1,15}[*]?"), patterns("([a-z]{1,5}/)?[a-z_]{1,15}[*]?")).prop_map(|(names, networks)| {
        Interfaces::new(names.map(Into::into), networks.map(Into::into)).expect("good patterns")
    })
}

/// Any policy that makes sense.
pub(crate) fn any_policy() -> impl Strategy<Value = Policy> {
    let target = (any_match_rule(), schedules()).prop_map(|(rule, schedule)| Target { rule, schedule });
    let parts = (any_interfaces(), any::<bool>(), any::<Option<u64>>(), schedules(), vec(target, 0..4));
    parts.prop_map(|(interfaces, prepared, seed, schedule, mut targets)| {
        targets.dedup_by(|one, other| one.rule == other.rule);
        Policy { interfaces, prepared, seed, schedule, targets }.checked().unwrap_or_default()
    })
}
