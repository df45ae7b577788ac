//! Tests of random samples against theory.
//!
//! Bounds are those that 99.999 % of samples keep: tests have about a hundred of them, all of which 99.9 % of samples keep then
//! (Bonferroni). With a hundred bounds of 99.9 %, every tenth set of seeds would break one.

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// The probability that a sample keeps a bound.
const LEVEL: f64 = 0.99999;
/// The number of standard deviations from the mean within which that share of a normal distribution lies.
pub const DEVIATIONS: f64 = 4.42;
/// The critical value of Kolmogorov's distribution: `sqrt(-ln((1 - LEVEL) / 2) / 2)`.
const KOLMOGOROV: f64 = 2.47;
/// The least that is expected of a class for the chi-square test to hold (Cochran, 1954).
const LEAST_EXPECTED: f64 = 5.0;

/// A number as a float.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted beyond 2^53")]
pub const fn float(number: u64) -> f64 {
    number as f64
}

/// The mean of some values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / float(values.len() as u64)
}

/// The standard deviation of some values.
#[must_use]
pub fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / float(values.len() as u64)).sqrt()
}

/// The correlation between each value and the next one.
#[must_use]
pub fn autocorrelation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let product = |pair: &[f64]| (pair[0] - mean) * (pair[1] - mean);
    values.windows(2).map(product).sum::<f64>()
        / values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
}

/// The correlation of two samples, as far as the shorter one goes.
#[must_use]
pub fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let length = one.len().min(other.len());
    let (one, other) = (&one[..length], &other[..length]);
    let (mean_of_one, mean_of_other) = (mean(one), mean(other));
    let products = one.iter().zip(other).map(|(a, b)| (a - mean_of_one) * (b - mean_of_other));
    products.sum::<f64>() / float(length as u64) / (deviation(one) * deviation(other))
}

/// The half width of the interval around its mean in which a binomial number lies, unless it is further off than so many
/// standard deviations.
#[must_use]
pub fn binomial_bound(of: u64, probability: f64, deviations: f64) -> f64 {
    // Half a packet for what is whole.
    deviations * (float(of) * probability * (1.0 - probability)).sqrt() + 0.5
}

/// Returns true if `count` of `of` is what happens with that probability.
#[must_use]
pub fn is_binomial(count: u64, of: u64, probability: f64) -> bool {
    (float(count) - float(of) * probability).abs() <= binomial_bound(of, probability, DEVIATIONS)
}

/// Asserts that `count` of `of` is what happens with that probability.
///
/// # Panics
///
/// When it is not.
#[track_caller]
pub fn assert_binomial(what: &str, count: u64, of: u64, probability: f64) {
    let expected = float(of) * probability;
    let bound = binomial_bound(of, probability, DEVIATIONS);
    println!("{what}: {count} of {of}, expected {expected:.1} +- {bound:.1}");
    assert!(
        is_binomial(count, of, probability),
        "{what}: {count} of {of}, expected {expected:.1} +- {bound:.1}"
    );
}

/// Asserts a share as [`assert_binomial`], where there is `correlation` between one and the next: the variance of the sum
/// of a stationary two-state chain is greater by (1 + c) / (1 - c).
///
/// # Panics
///
/// When it is another one.
#[track_caller]
pub fn assert_share_of_runs(count: usize, of: usize, expected: f64, correlation: f64) {
    let (count, of) = (float(count as u64), float(of as u64));
    let variance = of * expected * (1.0 - expected) * (1.0 + correlation) / (1.0 - correlation);
    let off = count - of * expected;
    assert!(off.abs() <= DEVIATIONS * variance.sqrt() + 1e-9, "{count} of {of}, expected {expected}");
}

/// Asserts that the mean of a sample, whose members are independent, is `expected`.
///
/// # Panics
///
/// When it is another one.
#[track_caller]
pub fn assert_mean(sample: &[f64], expected: f64) {
    let found = mean(sample);
    let bound = DEVIATIONS * deviation(sample) / float(sample.len() as u64).sqrt() + 1e-9;
    assert!((found - expected).abs() <= bound, "mean {found}, expected {expected} +- {bound}");
}

/// Asserts that the correlation of a sample with itself `lag` later is `expected` within what chance makes of it, which
/// is at most 1 / sqrt(n) for each standard deviation (Bartlett), and more where members depend on one another.
///
/// # Panics
///
/// When it is another one.
#[track_caller]
pub fn assert_correlation(sample: &[f64], lag: usize, expected: f64) {
    let found = correlation(sample, &sample[lag..]);
    // Bartlett's formula for a chain with correlation c^k at lag k: (1 - c^2)(1 + 3 c^2) / (1 - c^2), below 4 in all.
    let bound = DEVIATIONS * 2.0 / float(sample.len() as u64).sqrt();
    assert!((found - expected).abs() <= bound, "correlation {found}, expected {expected} +- {bound}");
}

/// Asserts that members of two samples do not depend on one another.
///
/// # Panics
///
/// When they do.
#[track_caller]
pub fn assert_independent(one: &[f64], other: &[f64]) {
    let found = correlation(one, other);
    let bound = DEVIATIONS / float(one.len().min(other.len()) as u64).sqrt();
    assert!(found.abs() <= bound, "correlation {found}, expected none +- {bound}");
}

/// Asserts that all classes came alike often.
///
/// # Panics
///
/// When they did not.
#[track_caller]
pub fn assert_even(counts: &[u64]) {
    assert_shares("even", counts, &vec![1.0 / float(counts.len() as u64); counts.len()]);
}

/// Asserts that how often each class came is as the shares that theory has; classes of which less than five are expected
/// are put together with the last one.
///
/// # Panics
///
/// When chi-square is beyond what it is of theirs.
#[track_caller]
pub fn assert_shares(what: &str, counts: &[u64], shares: &[f64]) {
    assert_eq!(counts.len(), shares.len(), "{what}");
    let total = float(counts.iter().sum());
    let (mut chi_square, mut classes) = (0.0, 0_u32);
    let (mut rest, mut rest_expected) = (0.0, 0.0);
    let mut add = |count: f64, expected: f64| {
        chi_square += (count - expected).powi(2) / expected;
        classes += 1;
    };
    for (&count, share) in counts.iter().zip(shares) {
        let expected = total * share;
        if expected < LEAST_EXPECTED {
            (rest, rest_expected) = (rest + float(count), rest_expected + expected);
        } else {
            add(float(count), expected);
        }
    }
    if rest_expected >= LEAST_EXPECTED {
        add(rest, rest_expected);
    }
    assert!(classes > 1, "{what}: too few to tell: {counts:?}");
    let bound = ChiSquared::new(f64::from(classes - 1)).expect("it is positive").inverse_cdf(LEVEL);
    println!("{what}: chi-square {chi_square:.1} of {classes} classes, at most {bound:.1}");
    assert!(chi_square <= bound, "{what}: chi-square {chi_square:.1} > {bound:.1}");
}

/// Asserts that runs, all of them at least `from` long, end after each of their members with the probability `end`.
///
/// # Panics
///
/// When their lengths are not geometric.
#[track_caller]
pub fn assert_geometric(what: &str, lengths: &[u64], from: u64, end: f64) {
    const CLASSES: usize = 64;
    let mut counts = [0; CLASSES];
    for length in lengths {
        counts[usize::try_from(length - from).map_or(CLASSES - 1, |beyond| beyond.min(CLASSES - 1))] += 1;
    }
    let mut shares: Vec<f64> = (0..63).map(|beyond| (1.0 - end).powi(beyond) * end).collect();
    shares.push((1.0 - end).powi(63));
    assert_shares(what, &counts, &shares);
}

/// The greatest distance between the distribution of `values` and that of `cdf`, which says what share is at most a value
/// (Kolmogorov-Smirnov).
pub fn kolmogorov_smirnov(values: &mut [f64], cdf: impl Fn(f64) -> f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = float(values.len() as u64);
    let (mut upto, mut greatest) = (0, 0.0_f64);
    for same in values.chunk_by(|one, other| one.total_cmp(other).is_eq()) {
        upto += same.len() as u64;
        greatest = greatest.max((float(upto) / count - cdf(same[0])).abs());
    }
    greatest
}

/// The distance that `count` independent values keep.
#[must_use]
pub fn kolmogorov_bound(count: usize) -> f64 {
    KOLMOGOROV / float(count as u64).sqrt()
}

/// The lengths of runs of what equals `of` in a sequence; the first and the last are left out, as their ends are not seen.
pub fn runs(sequence: &[bool], of: bool) -> Vec<u64> {
    let runs: Vec<_> = sequence.chunk_by(|one, other| one == other).collect();
    let inner = runs.get(1..runs.len().saturating_sub(1)).unwrap_or_default();
    inner.iter().filter(|run| run[0] == of).map(|run| run.len() as u64).collect()
}

/// Asserts that `values` are distributed as `cdf` says, which may be off by `tolerance` as it is.
///
/// # Panics
///
/// When they are too far from it.
#[track_caller]
pub fn assert_distribution(what: &str, values: &mut [f64], tolerance: f64, cdf: impl Fn(f64) -> f64) {
    let distance = kolmogorov_smirnov(values, cdf);
    let bound = kolmogorov_bound(values.len()) + tolerance;
    println!("{what}: Kolmogorov-Smirnov distance {distance:.5}, at most {bound:.5}");
    assert!(distance <= bound, "{what}: {distance} > {bound}");
}

/// Asserts the distribution of a sample in steps: `below` says which share is less than a number, and which is not greater
/// than it.
///
/// # Panics
///
/// When it is too far from that.
#[track_caller]
pub fn assert_stepped(mut sample: Vec<f64>, below: impl Fn(f64) -> (f64, f64)) {
    sample.sort_by(f64::total_cmp);
    let count = float(sample.len() as u64);
    let (mut before, mut distance) = (0.0, 0.0_f64);
    for group in sample.chunk_by(|one, other| one.total_cmp(other).is_eq()) {
        let (less, at_most) = below(group[0]);
        let after = before + float(group.len() as u64) / count;
        distance = distance.max((before - less).abs()).max((after - at_most).abs());
        before = after;
    }
    let bound = kolmogorov_bound(sample.len());
    assert!(distance <= bound, "distance {distance}, at most {bound}");
}

/// The lengths of all runs of what happened, those at the ends too.
#[must_use]
pub fn all_runs(sample: &[bool]) -> Vec<f64> {
    sample.chunk_by(|a, b| a == b).filter(|run| run[0]).map(|run| float(run.len() as u64)).collect()
}

/// Converts outcomes to numbers: 1 for what happened.
#[must_use]
pub fn numbers(sample: &[bool]) -> Vec<f64> {
    sample.iter().map(|it| f64::from(u8::from(*it))).collect()
}

/// Counts what happened.
#[must_use]
pub fn count(sample: &[bool]) -> usize {
    sample.iter().filter(|it| **it).count()
}

/// The number of steps after which a chain has forgotten where it began.
const LONG: usize = 10_000;

/// A chain of states of which each has a probability of loss.
#[derive(Debug)]
pub struct Chain<const N: usize> {
    /// From which state to which one, with what probability.
    pub steps: [[f64; N]; N],
    /// The probability that each state loses a packet.
    pub loses: [f64; N],
}

impl<const N: usize> Chain<N> {
    /// The share of lost packets in the long run, and the standard deviation of that share among `count` of them.
    #[must_use]
    pub fn rate(&self, count: usize) -> (f64, f64) {
        let stationary = self.stationary();
        let rate = self.lost(&stationary);
        // Each step tells how probable another loss is so much later.
        let mut after = self.after_a_loss(&stationary);
        let mut variance = rate * (1.0 - rate);
        for _ in 0..LONG {
            after = self.step(&after);
            variance += 2.0 * (self.lost(&after) - rate * rate);
        }
        (rate, (variance / float(count as u64)).sqrt())
    }

    /// The mean length of runs of lost packets.
    #[must_use]
    pub fn mean_burst(&self) -> f64 {
        let stationary = self.stationary();
        let rate = self.lost(&stationary);
        // Lost, and the next one is not: a run ends.
        rate / (rate - self.lost(&self.step(&self.after_a_loss(&stationary))))
    }

    fn step(&self, state: &[f64; N]) -> [f64; N] {
        std::array::from_fn(|to| (0..N).map(|from| state[from] * self.steps[from][to]).sum())
    }

    fn lost(&self, state: &[f64; N]) -> f64 {
        state.iter().zip(self.loses).map(|(share, loses)| share * loses).sum()
    }

    fn stationary(&self) -> [f64; N] {
        (0..LONG).fold([1.0 / float(N as u64); N], |state, _| self.step(&state))
    }

    /// The states at a loss, not scaled.
    fn after_a_loss(&self, stationary: &[f64; N]) -> [f64; N] {
        std::array::from_fn(|state| stationary[state] * self.loses[state])
    }

    /// Asserts that `lost` is a part of `count` packets as the chain loses it.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn assert_loses(&self, what: &str, lost: usize, count: usize) {
        let (rate, deviation) = self.rate(count);
        let share = float(lost as u64) / float(count as u64);
        println!("{what}: {share:.5}, expected {rate:.5} +- {:.5}", DEVIATIONS * deviation);
        assert!(
            (share - rate).abs() <= DEVIATIONS * deviation,
            "{what}: {share} is not {rate} +- {DEVIATIONS} * {deviation}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_runs_are_found() {
        let sequence = [true, false, false, true, true, true, false, true];
        assert_eq!(runs(&sequence, true), [3]);
        assert_eq!(runs(&sequence, false), [2, 1]);
    }

    #[test]
    fn a_chain_without_memory_is_binomial() {
        let (rate, deviation) = Chain { steps: [[0.9, 0.1], [0.9, 0.1]], loses: [0.0, 1.0] }.rate(100);
        assert!((rate - 0.1).abs() < 1e-9 && (deviation - 0.03).abs() < 1e-9, "{rate} {deviation}");
    }

    #[test]
    fn bursts_are_as_long_as_the_bad_state_where_it_loses_all() {
        let burst = Chain { steps: [[0.98, 0.02], [0.2, 0.8]], loses: [0.0, 1.0] }.mean_burst();
        assert!((burst - 5.0).abs() < 1e-9, "{burst}");
    }

    #[test]
    fn a_bad_sample_is_seen() {
        assert_shares("dice", &[100, 101, 99], &[1.0 / 3.0; 3]);
        let bad = || assert_shares("dice", &[150, 100, 50], &[1.0 / 3.0; 3]);
        std::panic::catch_unwind(bad).expect_err("it is bad");
    }
}
