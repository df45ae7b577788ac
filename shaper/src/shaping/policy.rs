//! What can be wrong is parsed once, here: latency and loss, and the policy they make.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use shaper_common::{MAX_DELAY_NS, ORPHAN_FROM_NS};

use super::{Change, Lifetime, Request};

/// A delay: more than zero, at most five minutes, in whole nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Latency(Duration);

impl Latency {
    /// The longest.
    pub(crate) const MAX: Duration = Duration::from_nanos(MAX_DELAY_NS);

    /// Takes a duration; zero is no latency (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is longer than [`Self::MAX`].
    pub(crate) fn new(duration: Duration) -> Result<Option<Self>, String> {
        if duration > Self::MAX {
            return Err(format!("a latency of {} is too long: the longest is 5m", text(duration)));
        }
        Ok((!duration.is_zero()).then_some(Self(duration)))
    }

    /// Parses `120ms`, `1.5s`, `2m`; zero is no latency (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is not a duration of that form, negative, or longer than [`Self::MAX`].
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        Self::new(parse_duration(text, "latency")?)
    }

    /// As a duration.
    pub(crate) const fn as_duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Latency {
    /// In milliseconds, as the old plugin showed it: `2000ms`, `0.5ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&text(self.0))
    }
}

fn text(duration: Duration) -> String {
    let (ms, ns) = (duration.as_millis(), duration.subsec_nanos() % 1_000_000);
    if ns == 0 {
        return format!("{ms}ms");
    }
    let fraction = format!("{ns:06}");
    format!("{ms}.{}ms", fraction.trim_end_matches('0'))
}

/// Parses a number with a unit, of which the number may have a fraction; `what` names it in the error.
pub(super) fn parse_duration(text: &str, what: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(format!("a {what} cannot be negative: {trimmed}"));
    }
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if trimmed.parse::<f64>().is_ok() {
        return Err(format!("the {what} {trimmed} has no unit: write {trimmed}ms or {trimmed}s"));
    }
    // humantime knows no fractions; a decimal number with one unit is the only form that has any.
    if let Some(duration) = parse_fraction(trimmed) {
        return Ok(duration);
    }
    humantime::parse_duration(trimmed)
        .map_err(|error| format!("{trimmed:?} is no {what} ({error}): write for example 120ms, 1.5s or 2m"))
}

fn parse_fraction(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let (whole, fraction) = number.trim_end().split_once('.')?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let unit_ns = humantime::parse_duration(&format!("1{unit}")).ok()?.as_nanos();
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(fraction.parse().ok()?)?;
    let ns = parts.checked_mul(unit_ns)? / scale;
    Some(Duration::from_nanos(u64::try_from(ns).ok()?))
}

/// A probability of losing a packet, above 0 % and up to 100 %, in steps of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss(u32);

/// 2^32.
const WHOLE: f64 = 4_294_967_296.0;

impl Loss {
    /// Takes per cent; zero is no loss (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is not from 0 to 100, or too small to be told from nothing.
    pub(crate) fn from_percent(percent: f64) -> Result<Option<Self>, String> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("a loss of {percent}% is impossible: it is from 0% to 100%"));
        }
        if percent == 0.0 {
            return Ok(None);
        }
        // `loss` stands for (loss + 1) / 2^32, and 0 for none.
        let steps = (percent / 100.0 * WHOLE).round();
        if steps < 2.0 {
            return Err(format!("a loss of {percent}% is too small: the least is 0.00000005%"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 2^32 - 1")]
        Ok(Some(Self((steps - 1.0) as u32)))
    }

    /// Parses `2.5%` or `2.5`; zero is no loss (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// As [`Self::from_percent`], and when it is no number.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let percent: f64 =
            number.parse().map_err(|_| format!("{text:?} is no loss: write per cent, for example 2.5%"))?;
        Self::from_percent(percent)
    }

    /// In per cent.
    pub(crate) fn percent(self) -> f64 {
        (f64::from(self.0) + 1.0) / WHOLE * 100.0
    }
}

impl fmt::Display for Loss {
    /// In per cent with as many decimals as were meant: `10%`, `0.1%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One step is 0.00000002 %: of all but the least, one decimal less hides what rounding to steps added.
        let decimals = if self.percent() < 0.000_001 { 8 } else { 7 };
        let text = format!("{:.decimals$}", self.percent());
        f.pad(&format!("{}%", text.trim_end_matches('0').trim_end_matches('.')))
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::parse(text)?.ok_or_else(|| format!("{text:?} is nothing"))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(Latency, Loss);

/// What is done to one interface in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// How long each packet is delayed.
    pub(crate) latency: Option<Latency>,
    /// How many packets are lost.
    pub(crate) loss: Option<Loss>,
    /// When it ends, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) expires_at_ns: Option<NonZeroU64>,
}

impl Policy {
    /// Whether it does anything at `now_ns`.
    pub(crate) fn is_in_force(&self, now_ns: u64) -> bool {
        (self.latency.is_some() || self.loss.is_some())
            && self.expires_at_ns.is_none_or(|deadline| now_ns < deadline.get())
    }

    /// How long it will still last; none is for ever.
    pub(crate) fn remaining(&self, now_ns: u64) -> Option<Duration> {
        self.expires_at_ns.map(|deadline| Duration::from_nanos(deadline.get().saturating_sub(now_ns)))
    }

    /// The policy after `request`: what it does not mention stays. One that is over counts as nothing.
    pub(crate) fn after(self, request: &Request, now_ns: u64) -> Self {
        let old = if self.is_in_force(now_ns) { self } else { Self::default() };
        Self {
            latency: request.latency.applied_to(old.latency),
            loss: request.loss.applied_to(old.loss),
            expires_at_ns: match request.lifetime {
                Change::Keep => old.expires_at_ns,
                Change::To(Lifetime::Forever) => None,
                Change::To(Lifetime::For(duration)) => {
                    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                    NonZeroU64::new(now_ns.saturating_add(ns))
                }
            },
        }
    }

    /// As the kernel reads it.
    pub(crate) fn to_map(self) -> shaper_common::Policy {
        let delay_ns = self
            .latency
            .map_or(0, |latency| u64::try_from(latency.as_duration().as_nanos()).unwrap_or(MAX_DELAY_NS));
        shaper_common::Policy {
            expires_at_ns: self.expires_at_ns.map_or(0, NonZeroU64::get),
            delay_ns,
            plan: 0,
            loss: self.loss.map_or(0, |Loss(loss)| loss),
            orphan: u32::from(delay_ns >= ORPHAN_FROM_NS),
        }
    }

    /// What the kernel has; a delay beyond [`Latency::MAX`] is not carried out and so is none.
    pub(crate) fn from_map(map: &shaper_common::Policy) -> Self {
        Self {
            latency: Latency::new(Duration::from_nanos(map.delay_ns)).ok().flatten(),
            loss: (map.loss != 0).then_some(Loss(map.loss)),
            expires_at_ns: NonZeroU64::new(map.expires_at_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency(text: &str) -> Result<Option<String>, String> {
        Latency::parse(text).map(|latency| latency.map(|latency| latency.to_string()))
    }

    #[test]
    fn latencies_are_shown_in_milliseconds() {
        for (text, shown) in [
            ("2s", "2000ms"),
            ("120ms", "120ms"),
            ("1.5s", "1500ms"),
            ("250us", "0.25ms"),
            ("1s 5ms", "1005ms"),
        ] {
            assert_eq!(latency(text), Ok(Some(shown.to_owned())));
        }
        assert_eq!(latency("0"), Ok(None));
        assert_eq!(latency("0ms"), Ok(None));
    }

    #[test]
    fn bad_latencies_say_what_is_wrong() {
        assert_eq!(latency("-1ms"), Err("a latency cannot be negative: -1ms".to_owned()));
        assert_eq!(latency("100"), Err("the latency 100 has no unit: write 100ms or 100s".to_owned()));
        assert_eq!(latency("6m"), Err("a latency of 360000ms is too long: the longest is 5m".to_owned()));
        for bad in ["", "fast", "1.s", "ms", "1..5s", "99999999999999999999s", "1e400"] {
            assert!(latency(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn losses_are_shown_as_they_were_meant() {
        for (text, shown) in [
            ("10%", "10%"),
            ("0.1", "0.1%"),
            ("100%", "100%"),
            ("2.5 %", "2.5%"),
            ("33.3333", "33.3333%"),
            ("0.00000005", "0.00000005%"),
        ] {
            let loss = Loss::parse(text).expect("a loss").expect("some loss");
            assert_eq!(loss.to_string(), shown);
        }
        assert_eq!(Loss::parse("0%"), Ok(None));
        assert_eq!(Loss::parse("100%").expect("a loss").map(|Loss(loss)| loss), Some(u32::MAX));
    }

    #[test]
    fn bad_losses_say_what_is_wrong() {
        assert_eq!(
            Loss::parse("101%"),
            Err("a loss of 101% is impossible: it is from 0% to 100%".to_owned())
        );
        for bad in ["-1%", "nan", "", "%", "ten", "inf", "0.000000001%"] {
            assert!(Loss::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn setting_one_effect_keeps_the_other_and_the_deadline() {
        let latency = Latency::parse("1s").expect("a latency");
        let old = Policy { latency, loss: None, expires_at_ns: NonZeroU64::new(100) };
        let loss = Loss::parse("10%").expect("a loss");
        let request = Request { loss: Change::To(loss), ..Request::default() };
        assert_eq!(old.after(&request, 50), Policy { loss, ..old });
    }

    #[test]
    fn a_policy_that_is_over_leaves_nothing_to_keep() {
        let old = Policy {
            latency: Latency::parse("1s").expect("a latency"),
            loss: None,
            expires_at_ns: NonZeroU64::new(100),
        };
        let loss = Loss::parse("10%").expect("a loss");
        let request = Request { loss: Change::To(loss), ..Request::default() };
        assert_eq!(old.after(&request, 100), Policy { latency: None, loss, expires_at_ns: None });
    }

    proptest! {
        #[test]
        fn a_policy_survives_the_map(ns in 1..=MAX_DELAY_NS, percent in 0.000_001..=100.0_f64, deadline in any::<u64>()) {
            let policy = Policy {
                latency: Latency::new(Duration::from_nanos(ns)).expect("in range"),
                loss: Loss::from_percent(percent).expect("in range"),
                expires_at_ns: NonZeroU64::new(deadline),
            };
            prop_assert_eq!(Policy::from_map(&policy.to_map()), policy);
        }

        #[test]
        fn a_loss_survives_its_text(percent in 1..=100_000_u32) {
            let loss = Loss::from_percent(f64::from(percent) / 1000.0).expect("in range").expect("some");
            prop_assert_eq!(loss.to_string().parse(), Ok(loss));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = Latency::parse(&text);
            let _ = Loss::parse(&text);
        }
    }
}
