//! Tells whether the daemon does its work, and since when it cannot shape.

use std::time::{Duration, Instant, SystemTime};

use crate::shaping::{Failure, Problem, ShapingError};
use parking_lot::Mutex;

/// The longest time between two looks at all shaping. A look waits for changes under way, which may take a minute each.
const LONGEST_LOOK: Duration = Duration::from_secs(180);

/// The daemon's own state.
pub(super) struct Health {
    pub(super) started: SystemTime,
    problem: Mutex<Option<Problem>>,
    settled: Mutex<Instant>,
    sampled: Mutex<Instant>,
}

impl Health {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            started: SystemTime::now(),
            problem: Mutex::default(),
            settled: Mutex::new(now),
            sampled: Mutex::new(now),
        }
    }

    /// Notes that what is over is being looked for again.
    pub(super) fn settles(&self) {
        *self.settled.lock() = Instant::now();
    }

    /// Notes that counters are being read again.
    pub(super) fn samples(&self) {
        *self.sampled.lock() = Instant::now();
    }

    /// Notes whether anything can be shaped.
    pub(super) fn note(&self, ready: &Result<(), ShapingError>) {
        let mut problem = self.problem.lock();
        *problem = ready.as_ref().err().map(|error| {
            let since = problem.as_ref().map_or_else(SystemTime::now, |problem| problem.since);
            Problem { reason: error.to_string(), since }
        });
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        self.problem.lock().clone()
    }

    /// Returns an error when a task has hung for minutes.
    pub(super) fn alive(&self) -> Result<(), ShapingError> {
        for (what, last) in [("looked for what is over", &self.settled), ("read counters", &self.sampled)] {
            let last = last.lock().elapsed();
            if last > LONGEST_LOOK {
                let seconds = last.as_secs();
                return Err(Failure::Stalled { what, seconds }.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::Refusal;

    fn failed(reason: &str) -> Result<(), ShapingError> {
        Err(Refusal::Blind { reason: reason.to_owned() }.into())
    }

    #[test]
    fn a_problem_lasts_from_its_first_reason_to_its_end() {
        let health = Health::new();
        health.note(&failed("no bpffs"));
        let first = health.problem().expect("a problem");
        health.note(&failed("another daemon"));
        let second = health.problem().expect("still one");
        assert_eq!((second.reason.as_str(), second.since), ("another daemon", first.since));
        health.note(&Ok(()));
        assert_eq!(health.problem(), None);
    }

    #[test]
    fn a_daemon_one_of_whose_tasks_hangs_is_not_alive() {
        let long_ago = Instant::now().checked_sub(LONGEST_LOOK * 2).expect("the machine has run for minutes");
        let health = Health::new();
        health.alive().expect("it has just begun");
        for (task, said) in [(&health.settled, "looked for what is over"), (&health.sampled, "read counters")]
        {
            let last = std::mem::replace(&mut *task.lock(), long_ago);
            let error = health.alive().expect_err("it hangs").to_string();
            assert!(error.starts_with(&format!("the daemon has not {said} for 360s")), "{error}");
            *task.lock() = last;
        }
        health.settles();
        health.samples();
        health.alive().expect("it goes on");
    }
}
