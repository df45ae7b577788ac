//! Delays have the distribution that was asked for, and are delays.

mod bits;

use bits::correlation_bits;
use proptest::prelude::*;
use shaper_common::{
    MAX_DELAY_NS, in_turn_ns,
    policy::{Effects, State},
    random::RandomStreams,
};
use shaper_statistics::{
    DEVIATIONS, assert_binomial, assert_correlation, assert_stepped, correlation, deviation, mean,
};
use statrs::distribution::{ContinuousCDF as _, Normal};

const COUNT: u64 = 100_000;
const MS: u64 = 1_000_000;

/// The time of the first packet.
const BEGIN: u64 = 3_600_000 * MS;

/// The delays of packets that come `interval_ns` apart.
fn delays_of(effects: Effects, table: &[i32], count: u64, interval_ns: u64) -> Vec<f64> {
    let (mut state, mut last_ns) = (State::default(), 0);
    (0..count)
        .map(|number| {
            let (ready_ns, streams) = (BEGIN + number * interval_ns, RandomStreams::new(11, number));
            let delay_ns = effects.delay_ns(&mut state, ready_ns, streams, |entry| table[entry as usize]);
            let departure_ns = ready_ns + delay_ns;
            // As the program does for packets that keep their order.
            last_ns =
                if effects.unordered == 0 { in_turn_ns(departure_ns, last_ns, 0) } else { departure_ns };
            (last_ns - ready_ns) as f64
        })
        .collect()
}

/// The delays of packets that may overtake one another.
fn delays(effects: Effects, table: &[i32]) -> Vec<f64> {
    delays_of(Effects { unordered: 1, ..effects }, table, COUNT, MS)
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
fn correlated_jitter_keeps_its_distribution_and_has_its_correlation() {
    let table: Vec<i32> = (0..4_096).map(|place| place * 4 - 8_190).collect();
    for correlation in [0.1, 0.25, 0.5, 0.9] {
        let jitter_correlation = correlation_bits(correlation);
        for effects in [uniform(100 * MS, 10 * MS), by_table(100 * MS, 10 * MS, 0)] {
            let effects = Effects { jitter_correlation, ..effects };
            // Each delay is a draw of its own where packets are far apart, whether they keep their order or not.
            for delays in [delays(effects, &table), delays_of(effects, &table, COUNT, 500 * MS)] {
                (1..=3).for_each(|lag| assert_correlation(&delays, lag, correlation.powi(lag as i32)));
                assert_chain(
                    &format!("{correlation}"),
                    &delays,
                    (100e6, 20e6 / 12.0_f64.sqrt()),
                    correlation,
                );
            }
        }
    }
}

/// Asserts the mean and the standard deviation of numbers of which each equals the last one with the probability
/// `correlation`.
fn assert_chain(what: &str, values: &[f64], (expected, sigma): (f64, f64), correlation: f64) {
    // As many independent numbers tell as much.
    let count = values.len() as f64 * (1.0 - correlation) / (1.0 + correlation);
    let mean = mean(values);
    assert!(
        (mean - expected).abs() <= DEVIATIONS * sigma / count.sqrt(),
        "{what}: mean {mean}, expected {expected}"
    );
    // The variance of a variance is at most that of a normal distribution's; a table has steps.
    let variance = deviation(values).powi(2) / sigma.powi(2);
    assert!(
        (variance - 1.0).abs() <= DEVIATIONS * (2.0 / count).sqrt() + 1e-3,
        "{what}: variance {variance} of what was asked"
    );
}

/// A distribution by its quantiles, as iproute2 makes its tables.
fn quantiles(of: impl Fn(f64) -> f64) -> Vec<i32> {
    (0..4_096)
        .map(|place| (of((f64::from(place) + 0.5) / 4_096.0).clamp(-4.0, 4.0 - 1e-4) * 8_192.0) as i32)
        .collect()
}

#[test]
fn jitter_in_order_has_the_mean_and_the_spread_that_were_asked_at_any_rate() {
    let theory = Normal::standard();
    let normal = quantiles(|share| theory.inverse_cdf(share));
    // A Pareto distribution with the exponent 3 has the mean 3/2 and the variance 3/4.
    let lopsided = |share: f64| ((1.0 - share).powf(-1.0 / 3.0) - 1.5) / 0.75_f64.sqrt();
    let pareto = quantiles(lopsided);
    let both = quantiles(|share| 0.25 * lopsided(share) + 0.75 * theory.inverse_cdf(share));
    let cases = [
        ("uniform", uniform(100 * MS, 75 * MS), &Vec::new()),
        ("normal", by_table(75 * MS, 100 * MS, 0), &normal),
        ("normal", by_table(100 * MS, 25 * MS, 0), &normal),
        ("pareto", by_table(100 * MS, 20 * MS, 0), &pareto),
        ("paretonormal", by_table(100 * MS, 20 * MS, 0), &both),
        ("a table", by_table(100 * MS, 20 * MS, 0), &table()),
    ];
    for (name, effects, table) in cases {
        let asked = delays(effects, table);
        for interval_ns in [200 * MS, 20 * MS, MS, MS / 20] {
            // Enough time for ten thousand draws.
            let time_ns = 10_000 * 3 * effects.jitter_ns;
            let count = (time_ns / interval_ns).clamp(10_000, 8_000_000);
            let delays = delays_of(effects, table, count, interval_ns);
            let what =
                format!("{name} {} {}, one each {interval_ns} ns", effects.delay_ns, effects.jitter_ns);
            let draws = (count * interval_ns / (3 * effects.jitter_ns)).min(count);
            // What so many draws may be off by at most, beside what is promised.
            let off = DEVIATIONS / (draws as f64).sqrt();
            let (mean_is, mean_asked) = (mean(&delays), mean(&asked));
            let tolerance = 0.02 * mean_asked + off * deviation(&asked);
            assert!((mean_is - mean_asked).abs() <= tolerance, "{what}: mean {mean_is}, asked {mean_asked}");
            let spread = deviation(&delays) / deviation(&asked);
            assert!((spread - 1.0).abs() <= 0.15 + off, "{what}: spread {spread} of what was asked");
            let lag = (4 * effects.jitter_ns / interval_ns + 1) as usize;
            let found = correlation(&delays, &delays[lag..]);
            assert!(found.abs() <= 0.05 + off, "{what}: correlation {found} at a distance of {lag}");
        }
    }
}

proptest! {
    #[test]
    fn jitter_in_order_hardly_ever_has_to_hold_packets_back(
        delay_ns in 0..10_000 * MS,
        jitter_ns in 1_000..10_000 * MS,
        intervals in proptest::collection::vec(0.0..6.0_f64, 100),
        seed: u64,
    ) {
        let effects = uniform(delay_ns, jitter_ns);
        let (mut state, mut ready_ns, mut last_ns) = (State::default(), BEGIN, 0);
        for (number, interval) in (0..).zip(intervals) {
            ready_ns += (interval * interval / 6.0 * jitter_ns as f64) as u64;
            let delay_ns = effects.delay_ns(&mut state, ready_ns, RandomStreams::new(seed, number), |_| 0);
            // Draws differ by twice the jitter at most, and hold for no less.
            prop_assert!(ready_ns + delay_ns + 1 >= last_ns, "{number}: {ready_ns} + {delay_ns} < {last_ns}");
            last_ns = ready_ns + delay_ns;
        }
    }
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
        let delay = effects.delay_ns(&mut State::default(), 0, RandomStreams::new(seed, 0), |_| t);
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
        unordered in 0_u32..2,
        times in proptest::array::uniform3(0_u64..1 << 62),
        seed: u64,
    ) {
        let jitter_correlation = correlation;
        let effects = Effects { distribution_length: length, jitter_correlation, unordered, ..uniform(mean, jitter) };
        let mut state = State::default();
        for (number, ready_ns) in (0..).zip(times) {
            let streams = RandomStreams::new(seed, number);
            let delay = effects.delay_ns(&mut state, ready_ns, streams, |entry| if entry < length { t } else { panic!("beyond") });
            prop_assert!(delay <= MAX_DELAY_NS);
        }
    }

    #[test]
    fn packets_depart_early_only_where_nothing_else_says_when(delay_ns in 0..=MAX_DELAY_NS, jitter_ns in 0_u64..2, rate in 0_u64..2, slots in 0_u32..2, trace_length in 0_u32..2) {
        let effects = Effects { delay_ns, jitter_ns, rate, slots, trace_length, ..Effects::default() };
        let is_plain = jitter_ns + rate + u64::from(slots + trace_length) == 0;
        let expected = if is_plain { (delay_ns / 32).min(100_000) } else { 0 };
        prop_assert_eq!(effects.early_ns(), expected);
    }
}
