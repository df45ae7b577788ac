//! The share of packets that a loss model loses in the long run.

use super::{
    effects::{Chance, LossModel},
    units::Percent,
};

impl LossModel {
    /// The mean share of lost packets, in per cent from 0 to 100: exact where packets are independent, else to four digits.
    pub fn mean_percent(&self) -> f64 {
        match *self {
            Self::Random(Chance { probability, .. }) => probability.as_f64(),
            Self::Gemodel(chances) => rounded(gemodel(chances.map(share))),
            Self::State(chances) => rounded(four_states(chances.map(share))),
            Self::Every(packets) => rounded(1.0 / f64::from(packets)),
        }
    }
}

fn share(percent: Percent) -> f64 {
    percent.as_f64() / 100.0
}

/// The stationary distribution of good and bad (good at the start), each with its own loss.
fn gemodel([to_bad, to_good, lost_in_bad, lost_in_good]: [f64; 4]) -> f64 {
    if to_bad == 0.0 {
        return lost_in_good;
    }
    (to_bad * lost_in_bad + to_good * lost_in_good) / (to_bad + to_good)
}

/// The time spent in the states that lose, 3 in a burst and 4 in a gap, by the balance of what enters and leaves each.
fn four_states([p13, p31, p32, p23, p14]: [f64; 5]) -> f64 {
    if p13 == 0.0 {
        return p14 / (1.0 + p14);
    }
    // State 2 is entered from 3 alone: where it is not, what leaves it does not matter.
    let p23 = if p32 == 0.0 { 1.0 } else { p23 };
    let lost = p23 * (p13 + p14 * p31);
    lost / (lost + p23 * p31 + p13 * p32)
}

/// In per cent, to four significant digits.
fn rounded(share: f64) -> f64 {
    format!("{:.3e}", share * 100.0).parse().unwrap_or(share * 100.0)
}

#[cfg(test)]
mod tests {
    use crate::samples::effects;

    #[test]
    fn each_loss_model_has_a_mean() {
        for (words, percent) in [
            ("loss 10%", 10.0),
            ("loss 0.3% 25%", 0.3),
            ("loss gemodel 1% 10%", 9.091),
            ("loss gemodel 1% 9% 50% 1%", 5.9),
            ("loss gemodel 100% 0% 50% 0%", 50.0),
            ("loss state 1%", 1.0),
            ("loss state 1% 9%", 10.0),
            ("loss state 1% 10% 10% 10%", 8.333),
            ("loss state 0% 0% 0% 0% 25%", 20.0),
            ("loss every 3", 33.33),
        ] {
            let mean = effects(words).loss.expect("a loss").model.mean_percent();
            assert!((mean - percent).abs() < 0.001, "{words}: {mean}");
        }
    }
}
