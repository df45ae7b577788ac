use proptest::prelude::*;

use crate::{
    model::Effects,
    samples::{any_effects, effects, named},
};

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
        let error = Effects::parse(&words, &named()).expect_err("it is too long for anything").to_string();
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
        ("delya 100ms", "unknown keyword \"delya\"; did you mean \"delay\"?"),
        ("xyzzy", "unknown keyword \"xyzzy\""),
        ("d 100ms", "\"d\" may be any of delay, distribution, drop, duplicate: write more of it"),
        ("delay", "delay needs a value: for example `delay 100ms 20ms 25%`"),
        ("delay fast", "invalid delay \"fast\": expected a time such as 120ms, 1.5s or 250us"),
        ("delay -5ms", "invalid delay \"-5ms\": expected a time that is not negative"),
        ("delay 301s", "a delay of 301s is too long: the longest is 5m"),
        ("delay 1ms 301s", "a jitter of 301s is too long: the longest is 5m"),
        ("delay 1ms delay 2ms", "delay is given twice: leave one of them out"),
        (
            "delay 1ms distribution normal",
            "distribution needs a jitter: write for example `delay 100ms 20ms`",
        ),
        ("delay 1ms reordering", "reordering needs a jitter: write for example `delay 100ms 20ms`"),
        (
            "delay 9ms 1ms distribution gauss",
            "unknown distribution \"gauss\": there are uniform, normal, pareto, paretonormal, wifi",
        ),
        ("loss 101%", "a loss of 101% is impossible: it is from 0% to 100%"),
        ("loss -1%", "a loss of -1% is impossible: it is from 0% to 100%"),
        ("loss 1% 101%", "a loss's correlation of 101% is impossible: it is from 0% to 100%"),
        ("loss 1% partition", "loss is given twice: leave one of them out"),
        ("loss every 0", "loss every 0 is none of them: the least is 1, which loses all"),
        ("loss gemodle 1%", "unknown keyword \"gemodle\"; did you mean \"gemodel\"?"),
        (
            "loss state 60 50 51",
            "loss state: p31 and p32 are more than 100% together: make one of them smaller",
        ),
        ("ecn", "ecn needs a loss in whose place packets are marked: add for example `loss 1%`"),
        ("duplicate ten", "invalid duplicate \"ten\": expected per cent, such as 2.5%"),
        ("reorder 25%", "reorder needs a delay that packets can escape: add for example `delay 10ms`"),
        (
            "delay 1ms gap 5",
            "gap needs to know how many packets are reordered: add for example `reorder 25%`",
        ),
        ("rate 0", "a rate of less than 8bit carries nothing: `partition` loses all packets"),
        (
            "rate 1mbit 0 0 5",
            "a cell overhead needs a cell size before it: write for example `rate 1mbit 0 48 5`",
        ),
        ("rate 1mbit trace lte", "rate and trace contradict one another: leave one of them out"),
        ("trace umts", "unknown trace \"umts\": there are lte"),
        ("queue 100ms", "queue needs a bottleneck to wait for: add for example `rate 10mbit`"),
        ("mark 10packets", "mark needs a bottleneck to wait for: add for example `rate 10mbit`"),
        (
            "rate 1mbit queue 100",
            "invalid bound of a queue \"100\": expected for example 100ms, 64kb or 50packets",
        ),
        ("rate 1mbit queue 1ms 2ms", "queue in time is given twice: leave one of them out"),
        (
            "rate 1mbit queue 1ms mark 2ms",
            "mark is at or beyond the end of the queue in time, and never reached: make it smaller",
        ),
        (
            "limit 50 rate 1mbit queue 60packets",
            "limit (the queue in packets) is given twice: leave one of them out",
        ),
        ("limit 5gb", "a limit of 5gb is too large: it is less than 4gb"),
        ("rate 1mbit queue 2000000packets", "too many packets to wait: the most are 1000000"),
        ("slot 2ms 1ms", "the longest time of a slot is shorter than the shortest one: swap them"),
        (
            "slot distribution 1ms 1ms",
            "`tc` does not show which distribution a slot has: write its name behind the word",
        ),
        (
            "slot distribution uniform 1ms 2ms",
            "a slot's uniform jitter is at most its mean: make it smaller, so that no time is negative",
        ),
        ("seed many", "invalid number for seed \"many\": expected a whole number that is not too large"),
    ] {
        let error = Effects::parse(words, &named()).expect_err(said).to_string();
        assert_eq!(error, said, "{words}");
    }
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
