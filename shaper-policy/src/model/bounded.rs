//! Numbers within bounds that have a meaning of their own: latency and loss.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use shaper_common::MAX_DELAY_NS;

use super::{
    error::PolicyError,
    units::{Percent, parse_duration, show_time},
};

/// A delay: more than zero, at most five minutes, in whole nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Latency(Duration);

impl Latency {
    /// The longest.
    pub const MAX: Duration = Duration::from_nanos(MAX_DELAY_NS);

    /// Takes a duration; zero is no latency (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is longer than [`Self::MAX`].
    pub fn new(duration: Duration) -> Result<Option<Self>, PolicyError> {
        if duration > Self::MAX {
            return Err(PolicyError::out_of_range(
                "latency",
                show_time(duration),
                "too long: the longest is 5m",
            ));
        }
        Ok((!duration.is_zero()).then_some(Self(duration)))
    }

    /// Parses `120ms`, `1.5s`, `2m`; zero is no latency (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is not a duration of that form, negative, or longer than [`Self::MAX`].
    pub fn parse(text: &str) -> Result<Option<Self>, PolicyError> {
        Self::new(parse_duration(text, "latency")?)
    }

    /// Returns it as a duration.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Latency {
    /// In milliseconds, as the old plugin showed it: `2000ms`, `0.5ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&show_time(self.0))
    }
}

/// A probability of losing a packet, above 0 % and up to 100 %, in steps of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss(Percent);

impl Loss {
    /// Takes a share; none of it is no loss (`None`).
    pub fn new(percent: Percent) -> Option<Self> {
        (!percent.is_zero()).then_some(Self(percent))
    }

    /// Takes per cent; zero is no loss (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is not from 0 to 100, or too small to be told from nothing.
    pub fn from_percent(percent: f64) -> Result<Option<Self>, PolicyError> {
        Percent::new(percent, "loss").map(Self::new)
    }

    /// Parses `2.5%` or `2.5`; zero is no loss (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// As [`Self::from_percent`], and when it is no number.
    pub fn parse(text: &str) -> Result<Option<Self>, PolicyError> {
        Percent::parse(text, "loss").map(Self::new)
    }

    /// Returns it as a share.
    pub const fn percent(self) -> Percent {
        self.0
    }
}

impl fmt::Display for Loss {
    /// In per cent with as many decimals as were meant: `10%`, `0.1%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
            type Err = PolicyError;

            fn from_str(text: &str) -> Result<Self, PolicyError> {
                Self::parse(text)?.ok_or_else(|| PolicyError::invalid("value", text, "one above zero"))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency(text: &str) -> Result<Option<String>, String> {
        let latency = Latency::parse(text).map_err(|error| error.to_string());
        latency.map(|latency| latency.map(|latency| latency.to_string()))
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
        assert_eq!(
            latency("-1ms"),
            Err("invalid latency \"-1ms\": expected a time that is not negative".to_owned())
        );
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
        let all = Loss::parse("100%").expect("a loss").map(|loss| loss.percent().probability());
        assert_eq!(all, Some(u32::MAX));
    }

    #[test]
    fn bad_losses_say_what_is_wrong() {
        let error = Loss::parse("101%").expect_err("too much").to_string();
        assert_eq!(error, "a loss of 101% is impossible: it is from 0% to 100%");
        for bad in ["-1%", "nan", "", "%", "ten", "inf", "0.000000001%"] {
            assert!(Loss::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
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
