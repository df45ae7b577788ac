//! The distributions of jitter in theory: those that iproute2's tables are samples of.

use shaper_tests::statistics::{deviation, float, kolmogorov_smirnov, mean};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// The number of quantiles that stand for a distribution.
const QUANTILES: u32 = 100_000;
/// The most that an entry of a table can say, in standard deviations (`SHRT_MAX` of `NETEM_DIST_SCALE`).
const LONGEST: f64 = 32_767.0 / 8_192.0;
/// The difference below which a number is taken for the longest one.
const NEARLY: f64 = 0.01;

/// The distribution of a random number about 0, in units of the jitter.
pub(super) struct Distribution {
    pub(super) name: &'static str,
    /// All [`QUANTILES`] of them, from the least on.
    quantiles: Vec<f64>,
}

impl Distribution {
    /// The four that netem has.
    pub(super) fn all() -> [Self; 4] {
        let normal = Normal::standard();
        let pareto_normal = |share| (normal.inverse_cdf(share) + 3.0 * pareto(share)) / 4.0;
        [
            Self::new("uniform", |share| 2.0 * share - 1.0),
            Self::new("normal", |share| normal.inverse_cdf(share)),
            Self::new("pareto", pareto),
            Self::new("paretonormal", pareto_normal),
        ]
    }

    fn new(name: &'static str, quantile: impl Fn(f64) -> f64) -> Self {
        let share = |number: u32| (f64::from(number) + 0.5) / f64::from(QUANTILES);
        Self { name, quantiles: (0..QUANTILES).map(|number| quantile(share(number))).collect() }
    }

    pub(super) fn mean(&self) -> f64 {
        mean(&self.quantiles)
    }

    pub(super) fn deviation(&self) -> f64 {
        deviation(&self.quantiles)
    }

    /// Returns the distance of these numbers from the distribution (Kolmogorov-Smirnov).
    pub(super) fn distance(&self, numbers: impl Iterator<Item = f64>) -> f64 {
        let is_cut = self.quantiles.ends_with(&[LONGEST, LONGEST]);
        // The numbers that are cut off are one in theory, and are not to be told apart by a packet's way.
        let cut = |number: f64| if is_cut && LONGEST - number < NEARLY { LONGEST } else { number };
        let mut numbers: Vec<_> = numbers.map(cut).collect();
        kolmogorov_smirnov(&mut numbers, |number| {
            let at_most = self.quantiles.partition_point(|quantile| *quantile <= number);
            float(at_most as u64) / f64::from(QUANTILES)
        })
    }
}

/// The quantile of iproute2's `pareto.c`, whose shape is 3; beyond the longest entry it is cut off.
fn pareto(share: f64) -> f64 {
    (((1.0 - share).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0).min(LONGEST)
}
