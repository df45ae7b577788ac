//! Says on standard error what is being done, and how long it took.

use std::io::Write as _;
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

/// One line for work that shows nothing: what it is when it starts, how long it took when it ends.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprint!("[{:6.1} s] {what} ... ", elapsed().as_secs_f64());
    // Nothing to be done about a closed standard error, and nothing worth stopping for.
    drop(std::io::stderr().flush());
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "failed" };
    eprintln!("{verdict} in {:.1} s", start.elapsed().as_secs_f64());
    result
}
