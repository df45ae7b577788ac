//! Tests of samples against theory.
//!
//! Bounds are those that a right sample exceeds once in a million: five standard deviations, or quantiles of as much.
//! Seeds are fixed, so what holds once holds always.
#![allow(dead_code, reason = "no file of tests needs all of it")]

/// Five standard deviations: beyond them lies less than a millionth.
const SIGMAS: f64 = 5.0;

/// Asserts that `count` of `of` is what a probability of `expected` yields.
#[track_caller]
pub(crate) fn assert_share(count: usize, of: usize, expected: f64) {
    assert_share_of_runs(count, of, expected, 0.0);
}

/// Asserts a share as [`assert_share`], where there is `correlation` between one and the next: the variance of the sum
/// of a stationary two-state chain is greater by (1 + c) / (1 - c).
#[track_caller]
pub(crate) fn assert_share_of_runs(count: usize, of: usize, expected: f64, correlation: f64) {
    let of = of as f64;
    let variance = of * expected * (1.0 - expected) * (1.0 + correlation) / (1.0 - correlation);
    let off = count as f64 - of * expected;
    assert!(off.abs() <= SIGMAS * variance.sqrt() + 1e-9, "{count} of {of}, expected {expected}");
}

/// Asserts that the mean of `sample`, whose members are independent, is `expected`.
#[track_caller]
pub(crate) fn assert_mean(sample: &[f64], expected: f64) {
    let (mean, variance) = moments(sample);
    let bound = SIGMAS * (variance / sample.len() as f64).sqrt() + 1e-9;
    assert!(
        (mean - expected).abs() <= bound,
        "mean {mean} of {}, expected {expected} +- {bound}",
        sample.len()
    );
}

/// Asserts that the correlation of a sample with itself `lag` later is `expected` within what chance makes of it, which
/// is at most 1 / sqrt(n) for each standard deviation (Bartlett), and more where members depend on one another.
#[track_caller]
pub(crate) fn assert_correlation(sample: &[f64], lag: usize, expected: f64) {
    let found = correlation(sample, &sample[lag..]);
    // Bartlett's formula for a chain with correlation c^k at lag k: (1 - c^2)(1 + 3 c^2) / (1 - c^2), below 4 in all.
    let bound = SIGMAS * 2.0 / (sample.len() as f64).sqrt();
    assert!((found - expected).abs() <= bound, "correlation {found}, expected {expected} +- {bound}");
}

/// Asserts that members of two samples do not depend on one another.
#[track_caller]
pub(crate) fn assert_independent(one: &[f64], other: &[f64]) {
    let found = correlation(one, other);
    let bound = SIGMAS / (one.len().min(other.len()) as f64).sqrt();
    assert!(found.abs() <= bound, "correlation {found}, expected none +- {bound}");
}

/// Mean and variance.
pub(crate) fn moments(sample: &[f64]) -> (f64, f64) {
    let mean = sample.iter().sum::<f64>() / sample.len() as f64;
    let variance = sample.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / sample.len() as f64;
    (mean, variance)
}

/// The correlation of two samples, as far as the shorter one goes.
pub(crate) fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let length = one.len().min(other.len());
    let ((mean, variance), (other_mean, other_variance)) =
        (moments(&one[..length]), moments(&other[..length]));
    let pairs = one.iter().zip(other);
    let covariance = pairs.map(|(a, b)| (a - mean) * (b - other_mean)).sum::<f64>() / length as f64;
    covariance / (variance * other_variance).sqrt()
}

/// Asserts that the sample's distribution is `below`, which says which share is less than a number and which is not
/// greater than it: Kolmogorov and Smirnov's test. Samples in steps are what `below` has two answers for.
#[track_caller]
pub(crate) fn assert_distribution(mut sample: Vec<f64>, below: impl Fn(f64) -> (f64, f64)) {
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let mut distance: f64 = 0.0;
    for group in sample.chunk_by(|a, b| a == b) {
        let before = sample.partition_point(|it| *it < group[0]) as f64 / n;
        let (less, at_most) = below(group[0]);
        distance = distance.max((before - less).abs()).max((before + group.len() as f64 / n - at_most).abs());
    }
    // 2 exp(-2 x^2) is a millionth at x = 2.693.
    let bound = 2.693 / n.sqrt();
    assert!(distance <= bound, "distance {distance}, at most {bound}");
}

/// Asserts that all counts are of equal probability: the chi-square test, by Wilson and Hilferty's approximation.
#[track_caller]
pub(crate) fn assert_even(counts: &[usize]) {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let chi = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum::<f64>();
    let freedom = (counts.len() - 1) as f64;
    let part = 2.0 / (9.0 * freedom);
    let normal = ((chi / freedom).cbrt() - (1.0 - part)) / part.sqrt();
    assert!(normal.abs() <= SIGMAS, "chi-square {chi} of {freedom} degrees of freedom");
}

/// The lengths of all runs of what happened.
pub(crate) fn runs(sample: &[bool]) -> Vec<f64> {
    sample.chunk_by(|a, b| a == b).filter(|run| run[0]).map(|run| run.len() as f64).collect()
}

/// Converts outcomes to numbers: 1 for what happened.
pub(crate) fn numbers(sample: &[bool]) -> Vec<f64> {
    sample.iter().map(|it| f64::from(u8::from(*it))).collect()
}

/// Counts what happened.
pub(crate) fn count(sample: &[bool]) -> usize {
    sample.iter().filter(|it| **it).count()
}

/// A probability as the maps have it: 0 is none, else the number and one, of 2^32.
pub(crate) fn probability(share: f64) -> u32 {
    if share == 0.0 { 0 } else { (share * 4_294_967_296.0 - 1.0).round() as u32 }
}

/// A correlation as the maps have it, of 2^32.
pub(crate) fn correlation_bits(share: f64) -> u32 {
    (share * 4_294_967_296.0).round() as u32
}
