use std::sync::Arc;

use proptest::{option, prelude::*};
use shaper_common::plan::{LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_RANDOM, MAX_QUEUE_PACKETS};

use super::*;

/// A distribution `wifi` and a trace `lte`.
pub(crate) fn named() -> Named {
    let wifi = Distribution::Table { name: "wifi".to_owned(), entries: Arc::new([-8192, -100, 9000]) };
    let lte = Deliveries { name: "lte".to_owned(), times_ms: Arc::new([0, 3, 3, 10]) };
    Named { distributions: [("wifi".to_owned(), wifi)].into(), traces: [("lte".to_owned(), lte)].into() }
}

pub(crate) fn effects(words: &str) -> Effects {
    Effects::parse(words, &named()).unwrap_or_else(|error| panic!("{words}: {error}"))
}

fn map(words: &str) -> shaper_common::plan::Effects {
    effects(words).to_map(&mut Tables::default())
}

/// A share of 2^32 as the map has probabilities.
fn share(of: f64) -> u32 {
    Percent::new(of * 100.0, "share").expect("in range").probability()
}

#[test]
fn netems_words_are_read_and_shown() {
    for (words, shown) in [
        ("", ""),
        ("delay 100ms", "delay 100ms"),
        ("delay 100000", "delay 100ms"),
        ("latency 1s 20ms 25%", "delay 1000ms 20ms 25%"),
        ("delay 0 20ms", "delay 0ms 20ms"),
        ("delay 100ms 20ms distribution uniform", "delay 100ms 20ms"),
        ("distribution normal delay 100ms 20ms 25", "delay 100ms 20ms 25% distribution normal"),
        ("delay 100ms 20ms dist wifi reordering", "delay 100ms 20ms distribution wifi reordering"),
        ("loss 1%", "loss 1%"),
        ("loss random 1 25", "loss 1% 25%"),
        ("drop 1%", "loss 1%"),
        ("partition", "loss 100%"),
        ("loss every 7", "loss every 7"),
        ("loss gemodel 1%", "loss gemodel 1%"),
        ("loss gemodel 1% 99%", "loss gemodel 1%"),
        ("loss gemodel 1% 10% 70% 0.1% ecn", "loss gemodel 1% 10% 70% 0.1% ecn"),
        ("loss state 1%", "loss state 1%"),
        ("loss state 1 10 5 30 2", "loss state 1% 10% 5% 30% 2%"),
        ("duplicate 1% 50%", "duplicate 1% 50%"),
        ("corrupt 0.1% fixed", "corrupt 0.1% fixed"),
        ("delay 10ms reorder 25% 50% gap 5", "delay 10ms reorder 25% 50% gap 5"),
        ("gap 5 delay 10ms reorder 25%", "delay 10ms reorder 25% gap 5"),
        ("rate 5mbit", "rate 5Mbit"),
        ("rate 5mbit 14", "rate 5Mbit 14"),
        ("rate 256kbit -14 48 5", "rate 256Kbit -14 48 5"),
        ("rate 1mbit queue 100ms queue 64kb 50packets", "limit 50 rate 1Mbit queue 100ms 64kb"),
        ("rate 1mbit limit 50 mark 10 packets 5ms", "limit 50 rate 1Mbit mark 5ms 10packets"),
        ("trace lte queue 2s", "trace lte queue 2000ms"),
        ("slot 800us 1ms packets 42 bytes 512", "slot 0.8ms 1ms packets 42 bytes 512"),
        ("slot 20000000", "slot 20ms 20ms"),
        ("slot distribution pareto 20ms 5ms", "slot distribution pareto 20ms 5ms"),
        ("seed 42 loss 1%", "loss 1% seed 42"),
        ("limit 1000", "limit 1000"),
        ("limit 10000000", "limit 1000000"),
        ("limit 5mb", "limit 1000000"),
        ("limit 0", "loss 100%"),
        ("limit 0 loss 1% ecn", "loss 100%"),
        ("delay 100ms 0ms 25%", "delay 100ms"),
        ("loss 0% 25% duplicate 0% 50%", ""),
        ("delay 1e2ms loss 1e0%", "delay 100ms loss 1%"),
        ("delay 2.5e+1ms 1E-1ms", "delay 25ms 0.1ms"),
    ] {
        assert_eq!(effects(words).to_string(), shown, "{words}");
    }
}

#[test]
fn an_error_quotes_no_more_than_a_word_needs() {
    let long = "x".repeat(1 << 20);
    for words in [
        long.clone(),
        format!("delay {long}"),
        format!("delay -{long}"),
        format!("delay 1{}ms", "0".repeat(1 << 20)),
        format!("rate 1{}", "0".repeat(1 << 20)),
        format!("rate {long}%"),
        format!("loss {long}"),
        format!("limit 1{}", "0".repeat(1 << 20)),
        format!("rate 1mbit queue {long}"),
        format!("slot distribution {long} 1ms 1ms"),
        format!("seed {long}"),
        format!("tc {long}"),
        format!("tc qdisc {long}"),
        format!("tc qdisc add dev {long} root netem\ntc qdisc add dev y root netem"),
        format!("tc qdisc add root {long}"),
        format!("tc qdisc add root tbf rate {long}"),
        format!("[{{\"kind\":\"{long}\"}}]"),
        format!("[{{\"kind\":\"netem\",\"options\":{{\"{long}\":\"{long}\"}}}}]"),
    ] {
        let error = Effects::parse(&words, &named()).expect_err("it is too long for anything");
        assert!(error.len() < 400, "{} bytes: {:.200}", error.len(), error);
    }
}

#[test]
fn what_does_nothing_is_nothing() {
    for words in [
        "delay 0",
        "loss 0%",
        "loss 0% ecn",
        "loss gemodel 0%",
        "loss state 0",
        "duplicate 0",
        "corrupt 0% fixed",
        "reorder 0% gap 5",
        "slot 0",
        "queue 0ms 0kb 0packets",
        "mark 0",
    ] {
        assert_eq!(effects(words), Effects::default(), "{words}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    for (words, said) in [
        ("delya 100ms", "\"delya\" is no word of netem's, nor of ours: is it \"delay\"?"),
        ("xyzzy", "\"xyzzy\" is no word of netem's, nor of ours"),
        ("d 100ms", "\"d\" may be any of delay, drop, duplicate, distribution: write more of it"),
        ("delay", "delay has nothing behind it: write for example `delay 100ms 20ms 25%`"),
        ("delay fast", "\"fast\" is no delay: write for example 120ms, 1.5s or 250us"),
        ("delay -5ms", "a delay cannot be negative: -5ms"),
        ("delay 301s", "a delay of 301s is too long: the longest is 5m"),
        ("delay 1ms 301s", "a jitter of 301s is too long: the longest is 5m"),
        ("delay 1ms delay 2ms", "delay is given twice: leave one of them out"),
        (
            "delay 1ms distribution normal",
            "distribution needs a jitter that it is about: write for example `delay 100ms 20ms`",
        ),
        (
            "delay 1ms reordering",
            "reordering needs a jitter that it is about: write for example `delay 100ms 20ms`",
        ),
        (
            "delay 9ms 1ms distribution gauss",
            "there is no distribution \"gauss\": there are uniform, normal, pareto, paretonormal, wifi",
        ),
        ("loss 101%", "a loss of 101% is impossible: it is from 0% to 100%"),
        ("loss -1%", "a loss of -1% is impossible: it is from 0% to 100%"),
        ("loss 1% 101%", "a loss's correlation of 101% is impossible: it is from 0% to 100%"),
        ("loss 1% partition", "loss is given twice: leave one of them out"),
        ("loss every 0", "loss every 0 is none of them: the least is 1, which loses all"),
        ("loss gemodle 1%", "\"gemodle\" is no word of netem's, nor of ours: is it \"gemodel\"?"),
        (
            "loss state 60 50 51",
            "loss state: p31 and p32 are more than 100% together: make one of them smaller",
        ),
        ("ecn", "ecn needs a loss in whose place packets are marked: add for example `loss 1%`"),
        ("duplicate ten", "\"ten\" is no duplicate: write per cent, for example 2.5%"),
        ("reorder 25%", "reorder needs a delay that packets can escape: add for example `delay 10ms`"),
        ("delay 1ms gap 5", "gap needs to know how many are reordered: add for example `reorder 25%`"),
        ("rate 0", "a rate of less than 8bit carries nothing: `partition` loses all packets"),
        (
            "rate 1mbit 0 0 5",
            "a cell overhead needs a cell size before it: write for example `rate 1mbit 0 48 5`",
        ),
        ("rate 1mbit trace lte", "rate and trace contradict one another: leave one of them out"),
        ("trace umts", "there is no trace \"umts\": there are lte"),
        ("queue 100ms", "queue needs a link to wait for: add for example `rate 10mbit`"),
        ("mark 10packets", "mark needs a link to wait for: add for example `rate 10mbit`"),
        (
            "rate 1mbit queue 100",
            "\"100\" is no bound of a queue: write for example 100ms, 64kb or 50packets",
        ),
        ("rate 1mbit queue 1ms 2ms", "queue in time is given twice: leave one of them out"),
        (
            "rate 1mbit queue 1ms mark 2ms",
            "mark is at or beyond the end of the queue in time, and never reached: make it smaller",
        ),
        ("limit 50 rate 1mbit queue 60packets", "queue in packets is given twice: leave one of them out"),
        ("limit 5gb", "a limit of 5gb is too large: it is less than 4gb"),
        ("rate 1mbit queue 2000000packets", "2000000 packets are too many to wait: the most are 1000000"),
        ("slot 2ms 1ms", "the longest time of a slot is shorter than the shortest one: swap them"),
        (
            "slot distribution 1ms 1ms",
            "`tc` does not show which distribution a slot has: write its name behind the word",
        ),
        (
            "slot distribution uniform 1ms 2ms",
            "a slot's uniform jitter is at most its mean, so that no time is negative",
        ),
        ("seed many", "\"many\" is no number for seed: write a whole one that is not too large"),
    ] {
        assert_eq!(Effects::parse(words, &named()), Err(said.to_owned()), "{words}");
    }
}

#[test]
fn the_map_has_a_delay_with_its_distribution_once() {
    let mut tables = Tables::default();
    let wifi = effects("delay 100ms 20ms 25% distribution wifi").to_map(&mut tables);
    let slots = effects("slot distribution normal 5ms 1ms").to_map(&mut tables);
    let again = effects("delay 1us 2us distribution wifi reordering").to_map(&mut tables);
    assert_eq!((wifi.delay_ns, wifi.jitter_ns), (100_000_000, 20_000_000));
    assert_eq!((wifi.jitter_correlation, wifi.unordered, wifi.orphan), (1 << 30, 0, 1));
    assert_eq!((wifi.distribution, wifi.distribution_length), (0, 3));
    assert_eq!((again.distribution, again.distribution_length, again.unordered, again.orphan), (0, 3, 1, 0));
    assert_eq!((slots.slots, slots.slot_distribution), (1, 3));
    assert_eq!(tables.distributions.len(), 3 + slots.slot_distribution_length as usize);
}

#[test]
fn the_map_has_each_loss_model() {
    let partition = map("partition ecn");
    assert_eq!((partition.loss_model, partition.loss[0], partition.loss_ecn), (LOSS_RANDOM, u32::MAX, 1));
    let correlated = map("loss 10% 25%");
    assert_eq!(correlated.loss, [share(0.1), 1 << 30, 0, 0, 0]);
    let gemodel = map("loss gemodel 1% 10%");
    assert_eq!(gemodel.loss_model, LOSS_GEMODEL);
    assert_eq!(gemodel.loss, [share(0.01), share(0.1), u32::MAX, 0, 0]);
    let state = map("loss state 1%");
    assert_eq!(state.loss_model, LOSS_MARKOV);
    assert_eq!(state.loss, [share(0.01), share(0.99), 0, u32::MAX, 0]);
    let every = map("loss every 7");
    assert_eq!((every.loss_model, every.loss[0]), (LOSS_EVERY, 7));
}

#[test]
fn the_map_has_the_rest() {
    let chances = map("delay 10ms duplicate 1% 2% corrupt 3% 4% fixed reorder 5% 6% gap 7");
    assert_eq!(
        (chances.duplicate, chances.corrupt, chances.reorder),
        (share(0.01), share(0.03), share(0.05))
    );
    assert_eq!((chances.corrupt_fixes_checksums, chances.reorder_gap), (1, 7));
    let rate = map("rate 8mbit -4 48 5 queue 100ms 64kb 50packets mark 50ms 32kb 10packets");
    assert_eq!((rate.rate, rate.overhead, rate.cell_bytes, rate.cell_overhead), (1_000_000, -4, 48, 5));
    assert_eq!((rate.queue_ns, rate.queue_bytes, rate.queue_packets), (100_000_000, 65_536, 50));
    assert_eq!((rate.mark_ns, rate.mark_bytes, rate.mark_packets), (50_000_000, 32_768, 10));
    assert_eq!(rate.orphan, 1);
    let trace = map("trace lte");
    assert_eq!((trace.deliveries, trace.deliveries_length, trace.rate), (0, 4, 0));
    let slot = map("slot 1ms 3ms packets 5 bytes 1k");
    assert_eq!((slot.slots, slot.slot_ns, slot.slot_jitter_ns), (1, 1_000_000, 2_000_000));
    assert_eq!((slot.slot_packets, slot.slot_bytes), (5, 1024));
    let uniform = map("slot distribution uniform 3ms 1ms");
    assert_eq!((uniform.slot_ns, uniform.slot_jitter_ns), (2_000_000, 2_000_000));
}

#[test]
fn a_link_has_room_for_a_thousand_full_packets_unless_it_is_told() {
    assert_eq!(map("rate 1mbit").queue_bytes, 1_514_000);
    assert_eq!(map("trace lte mark 10ms").queue_bytes, 1_514_000);
    assert_eq!(map("rate 1mbit limit 10").queue_bytes, 0);
    assert_eq!(map("rate 1mbit queue 10ms").queue_bytes, 0);
    assert_eq!(map("delay 1ms").queue_bytes, 0);
}

#[test]
fn what_effects_need_follows_from_what_they_do() {
    for (words, queue, single) in [
        ("", false, false),
        ("limit 1000", false, false),
        ("seed 1", false, false),
        ("delay 1ms", true, false),
        ("delay 1ms limit 1000", true, true),
        ("rate 1mbit", true, false),
        ("rate 1mbit queue 100ms mark 64kb", true, false),
        ("rate 1mbit mark 50packets", true, true),
        ("trace lte", true, false),
        ("delay 1ms 1ms", true, true),
        ("slot 1ms", true, true),
        ("loss 1%", false, true),
        ("duplicate 1%", false, true),
        ("corrupt 1%", false, true),
        ("delay 1ms reorder 1%", true, true),
    ] {
        let effects = effects(words);
        assert_eq!((effects.needs_queue(), effects.needs_single_segments()), (queue, single), "{words}");
        assert_eq!(effects.is_empty(), !queue && !single, "{words}");
    }
}

#[test]
fn only_a_constant_delay_and_independent_loss_are_simple() {
    for (words, shown) in [
        ("", Some((None, None))),
        ("delay 2s", Some((Some("2000ms"), None))),
        ("delay 2s loss 10%", Some((Some("2000ms"), Some("10%")))),
        ("partition", Some((None, Some("100%")))),
        ("delay 2s 1ms", None),
        ("loss 10% 1%", None),
        ("loss 10% ecn", None),
        ("loss every 10", None),
        ("delay 2s duplicate 1%", None),
        ("loss 10% seed 1", None),
        ("delay 2s limit 10", None),
    ] {
        let simple = effects(words).simple();
        let simple =
            simple.map(|(latency, loss)| (latency.map(|it| it.to_string()), loss.map(|it| it.to_string())));
        let simple = simple.as_ref().map(|(latency, loss)| (latency.as_deref(), loss.as_deref()));
        assert_eq!(simple, shown, "{words}");
    }
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

fn links() -> impl Strategy<Value = Link> {
    let cell = prop_oneof![Just((0, 0)), (1..=65_535_u32, -65_535..=65_535_i32)];
    let rate =
        (1..=500_000_000_000_u64, -65_535..=65_535_i32, cell).prop_map(|(rate, overhead, (bytes, more))| {
            Link::Rate {
                rate: Rate::new(rate).expect("in range"),
                overhead,
                cell_bytes: bytes,
                cell_overhead: more,
            }
        });
    let lte = named().traces.remove("lte").expect("it is there");
    prop_oneof![rate, Just(Link::Trace(lte))]
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
    let waits = (option::of(delays()), option::of(links()), bounds(), bounds(), option::of(slots()));
    (chances_of, waits, option::of(any::<u64>())).prop_map(|(chances_of, waits, seed)| {
        let (loss, duplicate, corrupt, reorder) = chances_of;
        let (delay, link, mut queue, mark, slot) = waits;
        let mut reorder = reorder;
        let mut mark = mark;
        if delay.is_none() {
            reorder = None;
        }
        if link.is_none() {
            (queue.time, queue.bytes, mark) = (None, None, Bounds::default());
        }
        mark.time = mark.time.filter(|mark| queue.time.is_none_or(|queue| *mark < queue));
        mark.bytes = mark.bytes.filter(|mark| queue.bytes.is_none_or(|queue| *mark < queue));
        mark.packets = mark.packets.filter(|mark| queue.packets.is_none_or(|queue| *mark < queue));
        Effects { delay, loss, duplicate, corrupt, reorder, link, queue, mark, slot, seed }
    })
}

proptest! {
    #[test]
    fn effects_survive_their_words(effects in any_effects()) {
        let words = effects.to_string();
        prop_assert_eq!(Effects::parse(&words, &named()), Ok(effects), "{}", words);
    }

    #[test]
    fn no_words_make_the_parser_panic(words in ".*") {
        let _ = Effects::parse(&words, &named());
    }

    #[test]
    fn no_known_words_make_the_parser_panic(words in "((delay|loss|state|gemodel|rate|slot|queue|mark|reorder|gap|1|2ms|25%|-5|distribution|normal|limit|packets|corrupt|fixed|netem) ?){0,12}") {
        if let Ok(effects) = Effects::parse(&words, &named()) {
            prop_assert_eq!(Effects::parse(&effects.to_string(), &named()), Ok(effects));
        }
    }
}
