//! Delays have the distribution that was asked for, and are delays.

mod bits;

use bits::correlation_bits;
use proptest::prelude::*;
use shaper_common::{
    MAX_DELAY_NS,
    policy::{Effects, State},
    random::RandomStreams,
};
use shaper_statistics::{assert_binomial, assert_correlation, assert_stepped, deviation, mean};

const COUNT: u64 = 100_000;
const MS: u64 = 1_000_000;

fn delays(effects: Effects, table: &[i32]) -> Vec<f64> {
    let mut state = State::default();
    (0..COUNT)
        .map(|number| {
            effects.delay_ns(&mut state, RandomStreams::new(11, number), |entry| table[entry as usize]) as f64
        })
        .collect()
}

fn uniform(delay_ns: u64, jitter_ns: u64) -> Effects {
    Effects { delay_ns, jitter_ns, ..Effects::default() }
}

/// A table as netem has them: quantiles in order, here of a lopsided distribution.
fn table() -> Vec<i32> {
    (0..4_096)
        .map(|place| {
            let it = f64::from(place) / 4_096.0;
            (it * it * 30_000.0 - 9_000.0) as i32
        })
        .collect()
}

fn by_table(delay_ns: u64, jitter_ns: u64, entry: u32) -> Effects {
    Effects { distribution: entry, distribution_length: 4_096, ..uniform(delay_ns, jitter_ns) }
}

/// netem's `tabledist` (Linux 6.1), in 128 bits.
fn tabledist(mean: u64, sigma: u64, t: i32) -> i128 {
    let (mean, sigma, t) = (i128::from(mean), i128::from(sigma), i128::from(t));
    let x = (sigma % 8_192) * t;
    let x = if x >= 0 { x + 4_096 } else { x - 4_096 };
    x / 8_192 + (sigma / 8_192) * t + mean
}

#[test]
fn without_jitter_each_packet_has_the_same_delay() {
    assert!(delays(uniform(7 * MS, 0), &[]).iter().all(|delay| *delay == 7e6));
}

#[test]
fn jitter_without_a_table_is_uniform_about_the_delay() {
    for (mean, width) in [(100 * MS, 20 * MS), (MS, MS), (150_000 * MS, 150_000 * MS)] {
        let below = |delay: f64| {
            let share = (delay - (mean - width) as f64) / (2 * width) as f64;
            (share, share)
        };
        let delays = delays(uniform(mean, width), &[]);
        assert!(delays.iter().all(|delay| (*delay - mean as f64).abs() <= width as f64));
        assert_stepped(delays, below);
    }
}

#[test]
fn jitter_of_some_nanoseconds_is_even() {
    let delays = delays(uniform(100, 3), &[]);
    assert_stepped(delays, |delay| ((delay - 97.0) / 6.0, (delay - 96.0) / 6.0));
}

#[test]
fn jitter_by_a_table_has_its_distribution() {
    let (table, before) = (table(), 100);
    let mut all = vec![i32::MAX; before];
    all.extend(&table);
    let mut expected: Vec<i128> = table.iter().map(|t| tabledist(100 * MS, 10 * MS, *t)).collect();
    expected.sort_unstable();
    // Half a nanosecond is rounded up here, and away from 0 there.
    let share =
        |bound: f64| expected.partition_point(|it| (*it as f64) < bound) as f64 / expected.len() as f64;
    let delays = delays(by_table(100 * MS, 10 * MS, before as u32), &all);
    assert_stepped(delays, |delay| (share(delay - 1.5), share(delay + 1.5)));
}

#[test]
fn correlated_jitter_has_its_correlation_and_netems_width() {
    let table: Vec<i32> = (0..4_096).map(|place| place * 4 - 8_190).collect();
    for correlation in [0.1, 0.25, 0.5, 0.9] {
        let jitter_correlation = correlation_bits(correlation);
        for effects in [uniform(100 * MS, 10 * MS), by_table(100 * MS, 10 * MS, 0)] {
            // Random numbers begin in the middle, which is forgotten after some packets.
            let delays = delays(Effects { jitter_correlation, ..effects }, &table).split_off(500);
            (1..=3).for_each(|lag| assert_correlation(&delays, lag, correlation.powi(lag as i32)));
            let (mean, variance) = (mean(&delays), deviation(&delays).powi(2));
            // Of a mix u (1 - c) + last c: the variance is that of u, times (1 - c) / (1 + c).
            let expected = (20e6_f64).powi(2) / 12.0 * (1.0 - correlation) / (1.0 + correlation);
            let length = delays.len() as f64;
            let spread = (expected / length * (1.0 + correlation) / (1.0 - correlation)).sqrt();
            assert!((mean - 100e6).abs() <= 5.0 * spread, "{correlation}: mean {mean}");
            // The variance of a variance is at most 2 v^2 / n, times (1 + c^2) / (1 - c^2) in a chain; a table has steps.
            let squared = correlation * correlation;
            let off = 5.0 * (2.0 / length * (1.0 + squared) / (1.0 - squared)).sqrt() + 1e-3;
            assert!(
                (variance / expected - 1.0).abs() <= off,
                "{correlation}: {variance}, expected {expected}"
            );
        }
    }
}

#[test]
fn what_correlated_jitter_begins_with_favours_neither_side() {
    let effects = Effects { jitter_correlation: u32::MAX, ..uniform(100 * MS, 10 * MS) };
    assert!(delays(effects, &[]).iter().all(|delay| *delay == 100e6));
}

#[test]
fn delays_end_at_0_and_at_the_longest() {
    let low = delays(uniform(MS, 100 * MS), &[]);
    let none = low.iter().filter(|delay| **delay == 0.0).count();
    assert_binomial("none", none as u64, low.len() as u64, 99.0 / 200.0);
    let high = delays(uniform(MAX_DELAY_NS, MAX_DELAY_NS), &[]);
    let longest = high.iter().filter(|delay| **delay == MAX_DELAY_NS as f64).count();
    assert_binomial("longest", longest as u64, high.len() as u64, 0.5);
}

proptest! {
    #[test]
    fn a_delay_by_a_table_is_netems(mean in 0..=MAX_DELAY_NS, sigma in 1..=MAX_DELAY_NS, t in -32_768_i32..32_768, seed: u64) {
        let effects = by_table(mean, sigma, 0);
        let delay = effects.delay_ns(&mut State::default(), RandomStreams::new(seed, 0), |_| t);
        let expected = tabledist(mean, sigma, t).clamp(0, i128::from(MAX_DELAY_NS));
        prop_assert!((i128::from(delay) - expected).abs() <= 1);
    }

    #[test]
    fn any_delay_is_one(
        mean in 0..=MAX_DELAY_NS,
        jitter in 0..=MAX_DELAY_NS,
        length: u32,
        correlation: u32,
        t: i32,
        last: u32,
        seed: u64,
    ) {
        let effects = Effects { distribution_length: length, jitter_correlation: correlation, ..uniform(mean, jitter) };
        let mut state = State { jitter: last, ..State::default() };
        for number in 0..3 {
            let streams = RandomStreams::new(seed, number);
            let delay = effects.delay_ns(&mut state, streams, |entry| if entry < length { t } else { panic!("beyond") });
            prop_assert!(delay <= MAX_DELAY_NS);
        }
    }

    #[test]
    fn packets_depart_early_only_where_nothing_else_says_when(delay_ns in 0..=MAX_DELAY_NS, jitter_ns in 0_u64..2, rate in 0_u64..2, slots in 0_u32..2, trace_length in 0_u32..2) {
        let effects = Effects { delay_ns, jitter_ns, rate, slots, trace_length, ..Effects::default() };
        let is_plain = jitter_ns + rate + u64::from(slots + trace_length) == 0;
        let expected = if is_plain { (delay_ns / 50).min(100_000) } else { 0 };
        prop_assert_eq!(effects.early_ns(), expected);
    }
}
