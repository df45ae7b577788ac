//! Says on standard error what is being done, and how long it took.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Result;

static START: OnceLock<Instant> = OnceLock::new();

/// Starts the clock that [`say`] shows. Call it first.
pub(crate) fn start_clock() {
    elapsed();
}

/// Time since the command started.
pub(crate) fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// One line with the time since the command started, before work that shows its own output.
pub(crate) fn say(what: &str) {
    eprintln!("[{:6.1} s] {what}", elapsed().as_secs_f64());
}

/// A line when work that shows nothing starts, and one when it ends: other work may say something in between.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(what);
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "failed" };
    say(&format!("{verdict} in {:.1} s: {what}", start.elapsed().as_secs_f64()));
    result
}
