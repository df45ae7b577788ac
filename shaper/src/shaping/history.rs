//! Rates, from counters that were read now and then.

use std::collections::VecDeque;

use super::{Sample, Totals};

/// The number of samples that are kept: a minute's.
const KEPT: usize = 60;

/// The recent rates of one network namespace.
#[derive(Debug, Default)]
pub(crate) struct History {
    last: Option<(u64, Totals)>,
    samples: VecDeque<Sample>,
}

impl History {
    /// Takes in what the counters are at `at_ms`, in milliseconds since the Unix epoch.
    ///
    /// Counters that went down were begun anew, and time that did not pass gives no rate.
    pub(crate) fn record(&mut self, at_ms: u64, totals: Totals) {
        let last = self.last.replace((at_ms, totals));
        let Some((last_ms, last)) = last else { return };
        if at_ms <= last_ms || totals.passed < last.passed || totals.dropped < last.dropped {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "rates need no 53 bits")]
        let rate = |new: u64, old: u64| (new - old) as f64 * 1000.0 / (at_ms - last_ms) as f64;
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at_ms,
            passed: rate(totals.passed, last.passed),
            dropped: rate(totals.dropped, last.dropped),
        });
    }

    /// The rates, oldest first.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn totals(passed: u64, dropped: u64) -> Totals {
        Totals { passed, delayed: 0, dropped }
    }

    #[test]
    fn a_rate_is_what_was_counted_in_the_time_between() {
        let mut history = History::default();
        history.record(1_000, totals(10, 0));
        history.record(3_000, totals(30, 1));
        assert_eq!(history.samples(), [Sample { at_ms: 3_000, passed: 10.0, dropped: 0.5 }]);
    }

    #[test]
    fn counters_begun_anew_give_no_rate() {
        let mut history = History::default();
        history.record(1_000, totals(10, 0));
        history.record(2_000, totals(0, 0));
        assert!(history.samples().is_empty());
        history.record(3_000, totals(5, 0));
        assert_eq!(history.samples().len(), 1);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_no_rate() {
        let mut history = History::default();
        for at_ms in [2_000, 2_000, 1_000] {
            history.record(at_ms, totals(0, 0));
        }
        assert!(history.samples().is_empty());
    }

    #[test]
    fn a_minute_is_kept() {
        let mut history = History::default();
        for second in 0..100 {
            history.record(second * 1_000, totals(second, 0));
        }
        assert_eq!(history.samples().len(), KEPT);
        assert_eq!(history.samples().first().map(|sample| sample.at_ms), Some(40_000));
    }
}
