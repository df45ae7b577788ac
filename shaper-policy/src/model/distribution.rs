//! Shapes of random times: netem's own, tables in netem's format, and files of measured samples.

use std::{
    f64::consts::FRAC_1_SQRT_2,
    sync::{Arc, LazyLock},
    time::Duration,
};

use shaper_common::{MAX_DELAY_NS, policy::DISTRIBUTION_SCALE};

use super::{error::PolicyError, units::parse_duration};

/// The scale of tables, for arithmetic: as many entries' units as one standard deviation has.
const SCALE: f64 = DISTRIBUTION_SCALE as f64;
/// The number of entries of each of netem's own tables.
const BUILTIN_ENTRIES: u32 = 4_096;
/// The most entries of a table (iproute2's `MAX_DIST`).
pub(crate) const MAX_ENTRIES: usize = 16_384;
/// The most samples of a file.
const MAX_SAMPLES: usize = 1_000_000;

static NORMAL: LazyLock<Arc<[i32]>> = LazyLock::new(|| builtin_table(|k| clipped(normal(k))));
static PARETO: LazyLock<Arc<[i32]>> = LazyLock::new(|| builtin_table(|k| clipped(pareto(k))));
static PARETO_NORMAL: LazyLock<Arc<[i32]>> = LazyLock::new(|| builtin_table(pareto_normal));

/// The shape of a random time about a mean, in units of its spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// `uniform`: any time within the spread of the mean, as netem draws without a table.
    Uniform,
    /// `normal`.
    Normal,
    /// `pareto`.
    Pareto,
    /// `paretonormal`: a quarter normal, three quarters pareto.
    ParetoNormal,
    /// A table of its own.
    Table {
        /// The name.
        name: String,
        /// The entries, in which [`shaper_common::policy::DISTRIBUTION_SCALE`] stands for one standard deviation.
        entries: Arc<[i32]>,
    },
}

/// The distribution of measured times: `delay MEAN DEVIATION distribution NAME` is delayed as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The shape alone, without mean and standard deviation.
    pub distribution: Distribution,
    /// The mean of the samples.
    pub mean: Duration,
    /// Their standard deviation.
    pub deviation: Duration,
}

impl Distribution {
    /// The distributions that need no table of the user's.
    pub const BUILTIN: [Self; 4] = [Self::Uniform, Self::Normal, Self::Pareto, Self::ParetoNormal];

    /// The one of [`Self::BUILTIN`] that is called so.
    pub fn builtin(name: &str) -> Option<Self> {
        Self::BUILTIN.into_iter().find(|distribution| distribution.name() == name)
    }

    /// Returns its name, as it follows netem's word `distribution`.
    pub fn name(&self) -> &str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::ParetoNormal => "paretonormal",
            Self::Table { name, .. } => name,
        }
    }

    /// Returns its entries, one of which is drawn for each packet; in them [`DISTRIBUTION_SCALE`] stands for one
    /// spread. A uniform one has none.
    ///
    /// netem's own are computed as iproute2's `netem/normal.c`, `pareto.c` and `paretonormal.c` define them, and differ
    /// by at most 1 from what iproute2 6.1 installs. Like those, `pareto` and `paretonormal` are not quite of mean 0 and
    /// standard deviation 1: -0.033 and 0.820, -0.025 and 0.834.
    pub fn table(&self) -> Option<Arc<[i32]>> {
        match self {
            Self::Uniform => None,
            Self::Normal => Some(Arc::clone(&NORMAL)),
            Self::Pareto => Some(Arc::clone(&PARETO)),
            Self::ParetoNormal => Some(Arc::clone(&PARETO_NORMAL)),
            Self::Table { entries, .. } => Some(Arc::clone(entries)),
        }
    }

    /// Makes a table of these entries.
    ///
    /// They come in any order. Measured ones may have entries beyond netem's 16 bits.
    ///
    /// # Errors
    ///
    /// When there are none or more than 16,384, or the name is empty, has white space, or is one of netem's own.
    pub fn from_entries(name: &str, entries: impl Into<Vec<i32>>) -> Result<Self, PolicyError> {
        let mut entries = entries.into();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PolicyError::invalid("name of a distribution", name, "one word"));
        }
        if Self::builtin(name).is_some() {
            return Err(PolicyError::contradiction(
                format!("a distribution of your own cannot be called {name}"),
                "netem has one of that name",
            ));
        }
        if entries.is_empty() {
            return Err(PolicyError::contradiction(
                format!("distribution {name} is empty"),
                "it needs at least one entry",
            ));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(too_many_entries(name));
        }
        // The kernel looks them up as quantiles, so that what is correlated stays so.
        entries.sort_unstable();
        Ok(Self::Table { name: name.to_owned(), entries: entries.into() })
    }

    /// Parses netem's `.dist` format: whole numbers between white space, and comments from `#` on.
    ///
    /// # Errors
    ///
    /// When one is not from -32768 to 32767 (names the line), and as [`Self::from_entries`].
    pub fn parse_table(name: &str, text: &str) -> Result<Self, PolicyError> {
        let mut entries = Vec::new();
        for (number, line) in content(text) {
            for word in line.split_whitespace() {
                let entry: i16 = word.parse().map_err(|_| {
                    PolicyError::invalid("number", word, "a whole one from -32768 to 32767")
                        .within(line_of(name, number))
                })?;
                if entries.len() == MAX_ENTRIES {
                    return Err(too_many_entries(name));
                }
                entries.push(i32::from(entry));
            }
        }
        Self::from_entries(name, entries)
    }

    /// Parses a file of measured times, one a line, in milliseconds if it has no unit, and comments from `#` on.
    ///
    /// As iproute2's `maketable` does, this takes mean and standard deviation out and keeps the quantiles, up to 16,384
    /// of them. Unlike there, what is more than four standard deviations away is kept, too.
    ///
    /// # Errors
    ///
    /// When a line is no time from 0 to 5 minutes (names the line), there are more than 1,000,000, or all are alike; and
    /// as [`Self::from_entries`].
    pub fn from_samples(name: &str, text: &str) -> Result<Measured, PolicyError> {
        let mut samples = Vec::new();
        for (number, line) in content(text) {
            if samples.len() == MAX_SAMPLES {
                let too_many = PolicyError::too_many("samples", MAX_SAMPLES, "leave some out");
                return Err(too_many.within(line_of(name, number)));
            }
            let sample = sample_ns(line).map_err(|error| error.within(line_of(name, number)))?;
            samples.push(sample);
        }
        let samples = quantiles(samples);
        let (mean, deviation) = moments(&samples);
        if deviation < 1.0 {
            return Err(PolicyError::missing(
                format!("distribution {name}"),
                "at least two different samples",
                "for a constant delay, leave the distribution out",
            ));
        }
        let entries: Vec<i32> = samples.iter().map(|ns| rounded((ns - mean) / deviation * SCALE)).collect();
        Ok(Measured {
            distribution: Self::from_entries(name, entries)?,
            mean: nanoseconds(mean),
            deviation: nanoseconds(deviation),
        })
    }
}

fn too_many_entries(name: &str) -> PolicyError {
    PolicyError::too_many("entries", MAX_ENTRIES, "").within(format!("distribution {name}"))
}

fn line_of(name: &str, number: usize) -> String {
    format!("distribution {name}, line {number}")
}

/// The lines that say something, with their numbers, without comments.
pub(super) fn content(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // There may be millions of empty ones, which are not to be searched for comments.
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.is_empty());
    lines
        .map(|(line, number)| (number, line.split('#').next().unwrap_or_default().trim()))
        .filter(|(_, line)| !line.is_empty())
}

/// A measured time, in nanoseconds.
fn sample_ns(line: &str) -> Result<f64, PolicyError> {
    let duration = match line.parse::<f64>() {
        Ok(ms) => Duration::try_from_secs_f64(ms / 1_000.0)
            .map_err(|_| PolicyError::invalid("time", line, "milliseconds, such as 12.5"))?,
        Err(_) => parse_duration(line, "time")?,
    };
    if duration > Duration::from_nanos(MAX_DELAY_NS) {
        return Err(PolicyError::out_of_range("time", line, "too long: the longest is 5m"));
    }
    Ok(duration.as_secs_f64() * 1e9)
}

/// Sorts samples, and puts the mean of those next to one another in their place where there are too many.
fn quantiles(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    let count = samples.len();
    let bins = count.min(MAX_ENTRIES);
    (0..bins).map(|bin| mean(&samples[bin * count / bins..(bin + 1) * count / bins])).collect()
}

/// The mean of some samples; of none, it is 0.
fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len().max(1) as f64
}

/// Mean and standard deviation, the latter with `n - 1` as `maketable` has it; of less than two samples, it is 0.
fn moments(samples: &[f64]) -> (f64, f64) {
    let mean = mean(samples);
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, (squares / samples.len().saturating_sub(1).max(1) as f64).sqrt())
}

fn nanoseconds(ns: f64) -> Duration {
    Duration::try_from_secs_f64(ns / 1e9).unwrap_or_default()
}

fn builtin_table(entry: impl Fn(u32) -> i32) -> Arc<[i32]> {
    (0..BUILTIN_ENTRIES).map(entry).collect()
}

/// Entry `k` of the normal distribution, before it is clipped: the inverse of its cumulative distribution function
/// half a quarter of a step above `k` steps (`normal.c` rounds to steps of a quarter, and keeps the last of each).
fn normal(k: u32) -> f64 {
    let share = (f64::from(k) + 0.125) / f64::from(BUILTIN_ENTRIES);
    let (mut low, mut high) = (-10.0, 10.0);
    // Halves what is left to less than a float can tell.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if libm::erfc(-middle * FRAC_1_SQRT_2) / 2.0 < share { low = middle } else { high = middle }
    }
    low * SCALE
}

/// Entry `k` of Pareto's distribution with the exponent 3 and the least value 1, so of mean 3/2, before it is clipped;
/// scaled by 4/3, as `pareto.c` has it.
fn pareto(k: u32) -> f64 {
    let beyond = 1.0 - f64::from(k) / f64::from(BUILTIN_ENTRIES);
    (beyond.cbrt().recip() - 1.5) * (4.0 / 3.0) * SCALE
}

/// Entry `k` of a quarter normal and three quarters pareto: of entries, not of draws, as `paretonormal.c` has it.
fn pareto_normal(k: u32) -> i32 {
    let pareto = pareto(k).min(f64::from(i16::MAX));
    (rounded(normal(k)) + 3 * rounded(pareto)) / 4
}

/// To a whole number of 16 bits, as netem's tables have them.
fn clipped(value: f64) -> i32 {
    rounded(value).clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

#[expect(clippy::cast_possible_truncation, reason = "a float beyond the integers becomes the last of them")]
fn rounded(value: f64) -> i32 {
    value.round_ties_even() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 1, 5, 10, 25, 50, 75, 90, 95 and 99 % of one of iproute2 6.1's tables (`/usr/lib/tc/*.dist`), its mean and its
    /// standard deviation.
    struct Digest {
        name: &'static str,
        quantiles: [i32; 9],
        mean: f64,
        deviation: f64,
    }

    const IPROUTE2: [Digest; 3] = [
        Digest {
            name: "normal",
            quantiles: [-19_121, -13_488, -10_504, -5_525, 0, 5_526, 10_495, 13_473, 19_064],
            mean: -0.000_78,
            deviation: 1.000_05,
        },
        Digest {
            name: "pareto",
            quantiles: [-5_426, -5_274, -5_072, -4_362, -2_622, 955, 7_141, 13_255, 32_767],
            mean: -0.033_49,
            deviation: 0.819_68,
        },
        Digest {
            name: "paretonormal",
            quantiles: [-8_849, -7_327, -6_430, -4_652, -1_966, 2_097, 7_979, 13_309, 29_341],
            mean: -0.025_30,
            deviation: 0.833_94,
        },
    ];

    fn builtin(name: &str) -> Arc<[i32]> {
        Distribution::builtin(name).and_then(|distribution| distribution.table()).expect("it has a table")
    }

    fn entries(distribution: &Distribution) -> Arc<[i32]> {
        distribution.table().expect("it has a table")
    }

    #[test]
    fn netems_own_tables_have_the_quantiles_of_those_that_iproute2_installs() {
        for digest in &IPROUTE2 {
            let table = builtin(digest.name);
            assert_eq!(table.len(), 4_096);
            assert!(table.is_sorted());
            for (percent, expected) in [1, 5, 10, 25, 50, 75, 90, 95, 99].into_iter().zip(digest.quantiles) {
                let entry = table[percent * table.len() / 100];
                assert!(
                    entry.abs_diff(expected) <= 1,
                    "{}, {percent} %: {entry} is not {expected}",
                    digest.name
                );
            }
        }
    }

    #[test]
    fn netems_own_tables_have_the_moments_of_those_that_iproute2_installs() {
        for digest in &IPROUTE2 {
            let values: Vec<f64> =
                builtin(digest.name).iter().map(|&entry| f64::from(entry) / SCALE).collect();
            let (mean, deviation) = moments(&values);
            // An entry differs by 1 at most, and so do the mean and the deviation, in units of the scale.
            assert!((mean - digest.mean).abs() < 1.0 / SCALE, "{}: mean {mean}", digest.name);
            assert!((deviation - digest.deviation).abs() < 1.5 / SCALE, "{}: {deviation}", digest.name);
        }
    }

    #[test]
    fn a_builtin_distribution_is_found_by_its_name_only() {
        for distribution in Distribution::BUILTIN {
            assert_eq!(Distribution::builtin(distribution.name()), Some(distribution.clone()));
        }
        assert_eq!(Distribution::builtin("Normal"), None);
        assert_eq!(Distribution::Uniform.table(), None);
    }

    #[test]
    fn a_table_is_numbers_and_comments() {
        let table = Distribution::parse_table("wifi", "# measured\n -32768 0\n\n 32767 # and more\n12");
        assert_eq!(*entries(&table.expect("a table")), [-32_768, 0, 12, 32_767], "in order");
    }

    #[test]
    fn bad_tables_say_what_is_wrong_and_where() {
        let many = "1\n".repeat(16_385);
        for (name, text, error) in [
            (
                "wifi",
                "# a\n1 2\n3 x4",
                "distribution wifi, line 3: invalid number \"x4\": expected a whole one from -32768 to 32767",
            ),
            (
                "wifi",
                "32768",
                "distribution wifi, line 1: invalid number \"32768\": expected a whole one from -32768 to 32767",
            ),
            ("wifi", "# nothing", "distribution wifi is empty: it needs at least one entry"),
            ("wifi", &many, "distribution wifi: too many entries: the most are 16384"),
            ("pareto", "1", "a distribution of your own cannot be called pareto: netem has one of that name"),
            ("my wifi", "1", "invalid name of a distribution \"my wifi\": expected one word"),
        ] {
            assert_eq!(Distribution::parse_table(name, text).expect_err(error).to_string(), error);
        }
    }

    #[test]
    fn samples_are_milliseconds_unless_they_say_otherwise() {
        let measured =
            Distribution::from_samples("wifi", "# ping\n10\n0.03s\n\n20ms # usual").expect("samples");
        assert_eq!(measured.mean, Duration::from_millis(20));
        assert_eq!(measured.deviation, Duration::from_millis(10));
        assert_eq!(*entries(&measured.distribution), [-8_192, 0, 8_192]);
    }

    #[test]
    fn a_far_outlier_among_samples_is_kept() {
        let text = format!("{}1000", "10\n".repeat(999));
        let measured = Distribution::from_samples("wifi", &text).expect("samples");
        let last = f64::from(entries(&measured.distribution)[999]);
        let outlier_ms =
            (measured.mean.as_secs_f64() + measured.deviation.as_secs_f64() * last / SCALE) * 1e3;
        assert!((outlier_ms - 1_000.0).abs() < 0.01, "{outlier_ms}");
    }

    #[test]
    fn many_samples_become_as_many_quantiles_as_a_table_has_room_for() {
        let text: String = (0..50_000).map(|n| format!("{}us\n", n * 7_919 % 50_000)).collect();
        let measured = Distribution::from_samples("wifi", &text).expect("samples");
        assert_eq!(entries(&measured.distribution).len(), MAX_ENTRIES);
        // Of a uniform distribution over 50 ms: half of it, and by the square root of 12. Bins of three and of four samples
        // weigh alike, which moves either by less than one sample.
        let (mean, deviation) = (measured.mean.as_secs_f64(), measured.deviation.as_secs_f64());
        assert!((mean - 0.025).abs() < 2e-6, "{mean}");
        assert!((deviation - 0.05 / 12_f64.sqrt()).abs() < 2e-6, "{deviation}");
    }

    #[test]
    fn bad_samples_say_what_is_wrong_and_where() {
        let constant = "distribution wifi needs at least two different samples: for a constant delay, leave the \
                        distribution out";
        for (text, error) in [
            ("1\n-2", "distribution wifi, line 2: invalid time \"-2\": expected milliseconds, such as 12.5"),
            ("nan", "distribution wifi, line 1: invalid time \"nan\": expected milliseconds, such as 12.5"),
            ("1\n\n400s", "distribution wifi, line 3: a time of 400s is too long: the longest is 5m"),
            ("5\n5\n5", constant),
            ("5", constant),
            ("", constant),
        ] {
            let refused = Distribution::from_samples("wifi", text).expect_err(error);
            assert_eq!(refused.to_string(), error, "{text:?}");
        }
        assert!(
            Distribution::from_samples("wifi", "1\nfast")
                .is_err_and(|error| error.to_string().contains("line 2"))
        );
    }

    proptest! {
        #[test]
        fn a_table_survives_its_text(entries in prop::collection::vec(any::<i16>(), 1..100)) {
            let text: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
            let entries: Vec<i32> = entries.into_iter().map(i32::from).collect();
            let expected = Distribution::from_entries("wifi", entries);
            prop_assert_eq!(Distribution::parse_table("wifi", &text), expected);
        }

        #[test]
        fn mean_and_deviation_bring_the_samples_back(mut us in prop::collection::vec(0..10_000_000_u32, 2..200)) {
            us[0] = us[1] + 1;
            let text: String = us.iter().map(|us| format!("{us}us\n")).collect();
            let measured = Distribution::from_samples("wifi", &text).expect("samples");
            us.sort_unstable();
            let (mean, deviation) = (measured.mean.as_secs_f64(), measured.deviation.as_secs_f64());
            let entries = entries(&measured.distribution);
            prop_assert!(entries.is_sorted());
            for (&entry, us) in entries.iter().zip(us) {
                let back = mean + deviation * f64::from(entry) / SCALE;
                // Half a step of the table, and what rounding to nanoseconds loses.
                let bound = deviation / SCALE / 2.0 + 1e-9 * (1.0 + f64::from(entry.abs()) / SCALE);
                prop_assert!((back - f64::from(us) / 1e6).abs() <= bound, "{back} is not {us} us");
            }
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "[-0-9. \nmsux#e]*|.*") {
            let _ = Distribution::parse_table("wifi", &text);
            let _ = Distribution::from_samples("wifi", &text);
        }
    }
}
