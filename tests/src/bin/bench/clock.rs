//! Time that the processor was busy. Where the machine's clock counts instructions, that is instructions.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

/// A moment, and how long the first processor had been idle by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    now: Duration,
    idle: Duration,
}

impl Moment {
    pub(crate) fn now() -> Result<Self> {
        let idle = idle()?;
        Ok(Self { now: Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?), idle })
    }

    /// Nanoseconds since then in which the processor did something.
    #[expect(clippy::cast_precision_loss, reason = "no bench runs for 2^53 ns")]
    pub(crate) fn busy_ns(&self) -> Result<f64> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let idle = idle()?;
        Ok(((now - self.now).as_nanos() as f64) - (idle - self.idle).as_nanos() as f64)
    }

    /// The share of the time since then in which it did nothing.
    pub(crate) fn idle_share(&self) -> Result<f64> {
        let idle = idle()? - self.idle;
        Ok(idle.as_secs_f64()
            / (Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?) - self.now).as_secs_f64())
    }
}

/// `idle_sleeptime` of the first processor, to the nanosecond; `/proc/stat` has it to the hundredth of a second.
fn idle() -> Result<Duration> {
    let timers = fs::read_to_string("/proc/timer_list").context("read how long the processor was idle")?;
    let line = timers.lines().find(|line| line.trim_start().starts_with(".idle_sleeptime"));
    let nanoseconds = line.and_then(|line| line.split(':').nth(1)).context("the kernel says no idle time")?;
    let number = nanoseconds.trim().split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(number.parse().with_context(|| format!("read {number:?} as nanoseconds"))?))
}
