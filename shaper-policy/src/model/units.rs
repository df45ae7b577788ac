//! Numbers with units, as `tc` reads and shows them.

use std::{fmt, time::Duration};

use shaper_common::MAX_DELAY_NS;

use super::{error::PolicyError, quote::short};

/// 2^32.
const WHOLE: u64 = 1 << 32;

/// A share from 0 % to 100 %, in steps of 2^-32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u64);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(WHOLE);

    /// Takes per cent; `what` names it in the error.
    ///
    /// # Errors
    ///
    /// When it is not from 0 to 100, or too small to be told from nothing.
    pub fn new(percent: f64, what: &str) -> Result<Self, PolicyError> {
        let bad = |range| Err(PolicyError::out_of_range(what.to_owned(), format!("{percent}%"), range));
        if !(0.0..=100.0).contains(&percent) {
            return bad("impossible: it is from 0% to 100%");
        }
        let steps = Self::steps(percent);
        if percent > 0.0 && steps < 2 {
            return bad("too small: the least is 0.00000005%");
        }
        Ok(Self(steps))
    }

    fn steps(percent: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^32")]
        let steps = (percent / 100.0 * 4_294_967_296.0).round() as u64;
        steps
    }

    /// Parses `2.5%` or `2.5`; `what` names it in the error.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and when it is no number.
    pub fn parse(text: &str, what: &str) -> Result<Self, PolicyError> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let percent = number
            .parse()
            .map_err(|_| PolicyError::invalid(what.to_owned(), text, "per cent, such as 2.5%"))?;
        Self::new(percent, what)
    }

    /// From a number as [`shaper_common::Shaping::loss`] has probabilities.
    pub fn from_probability(probability: u32) -> Self {
        if probability == 0 { Self::ZERO } else { Self(u64::from(probability) + 1) }
    }

    /// Returns true if it is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the rest of the whole.
    pub const fn rest(self) -> Self {
        // One step alone cannot be told from nothing.
        if self.0 == WHOLE - 1 { Self::ZERO } else { Self(WHOLE - self.0) }
    }

    /// Returns it as a number from 0 to 100.
    pub fn as_f64(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^32")]
        let steps = self.0 as f64;
        steps / 4_294_967_296.0 * 100.0
    }

    /// Returns it as [`shaper_common::Shaping::loss`] has probabilities.
    pub fn probability(self) -> u32 {
        u32::try_from(self.0.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Returns it as [`shaper_common::policy::Effects`] has correlations.
    pub fn correlation(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Percent {
    /// With as few decimals as tell it from its neighbours: `10%`, `0.1%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.as_f64();
        let exact = |text: &String| text.parse().map(Self::steps) == Ok(self.0);
        let text = (0..12).map(|decimals| format!("{percent:.decimals$}")).find(exact);
        f.pad(&format!("{}%", text.unwrap_or_else(|| percent.to_string())))
    }
}

/// The rate of a bottleneck in bytes per second: more than nothing, at most 4 Tbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// Rates are interpolated in numbers below 2^39.
const MAX_RATE: u64 = 500_000_000_000;
const TOO_HIGH: &str = "too high: the highest is 4tbit";

impl Rate {
    /// Takes bytes per second.
    ///
    /// # Errors
    ///
    /// When it is nothing, or more than 4 Tbit/s.
    pub fn new(bytes_per_second: u64) -> Result<Self, PolicyError> {
        match bytes_per_second {
            0 => Err(PolicyError::contradiction(
                "a rate of less than 8bit carries nothing",
                "`partition` loses all packets",
            )),
            1..=MAX_RATE => Ok(Self(bytes_per_second)),
            _ => Err(PolicyError::out_of_range("rate", format!("{}bit", bytes_per_second * 8), TOO_HIGH)),
        }
    }

    /// Parses `5mbit`, `640kbps`, `1gibit`; without a unit it is bits per second.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and when it is no rate.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.ends_with('%') {
            return Err(PolicyError::invalid(
                "rate",
                text,
                "a rate that is no share of the device's, such as 10mbit",
            ));
        }
        let bad =
            || PolicyError::invalid("rate", text, "a number with a unit such as 10mbit, 640kbps or 1gbit");
        let (number, unit) = number(text).ok_or_else(bad)?;
        let bits = number * bits_of(&unit.to_ascii_lowercase()).ok_or_else(bad)?;
        if bits / 8.0 > 1e18 {
            return Err(PolicyError::out_of_range("rate", text, TOO_HIGH));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, below 2^60"
        )]
        Self::new((bits / 8.0) as u64)
    }

    /// Returns it as a number.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

/// Returns the number of bits per second of a unit.
fn bits_of(unit: &str) -> Option<f64> {
    let (prefix, bits) = match unit {
        "" | "bit" => return Some(1.0),
        _ => unit
            .strip_suffix("bit")
            .map(|prefix| (prefix, 1.0))
            .or_else(|| unit.strip_suffix("bps").map(|prefix| (prefix, 8.0)))?,
    };
    let (prefix, kilo) = prefix.strip_suffix('i').map_or((prefix, 1000_f64), |prefix| (prefix, 1024.0));
    let power = match prefix {
        "" if kilo < 1024.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    Some(kilo.powi(power) * bits)
}

impl fmt::Display for Rate {
    /// In bits per second, as `tc` shows it: `5Mbit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut bits, mut unit) = (self.0 * 8, 0);
        while bits.is_multiple_of(1000) && unit < 4 {
            (bits, unit) = (bits / 1000, unit + 1);
        }
        f.pad(&format!("{bits}{}bit", ["", "K", "M", "G", "T"][unit]))
    }
}

/// Splits a number, perhaps with an exponent, from what follows it (`strtod`, as iproute2 reads numbers).
fn number(text: &str) -> Option<(f64, &str)> {
    let end_of = |text: &str, is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    let mut end = end_of(text, |c| c.is_ascii_digit() || c == '.');
    if let Some(rest) = text[end..].strip_prefix(['e', 'E']) {
        let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let count = end_of(digits, |c| c.is_ascii_digit());
        if count > 0 {
            end = text.len() - digits.len() + count;
        }
    }
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The unit of a time that is given without one: in `tc`, microseconds everywhere but in slots, where they are
/// nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unitless {
    /// Microseconds, as in `get_time` of iproute2.
    Microseconds,
    /// Nanoseconds, as in `get_time64` of iproute2.
    Nanoseconds,
}

/// Parses `120ms`, `1.5s`, `20usecs`: at most five minutes; `what` names it in the error.
///
/// # Errors
///
/// When it is no time, negative, or longer than five minutes.
pub(crate) fn parse_time(text: &str, what: &str, unitless: Unitless) -> Result<Duration, PolicyError> {
    if text.starts_with('-') {
        return Err(negative(what, text));
    }
    let bad = || PolicyError::invalid(what.to_owned(), text, "a time such as 120ms, 1.5s or 250us");
    let (number, unit) = number(text).ok_or_else(bad)?;
    let unit_ns = match unit.to_ascii_lowercase().as_str() {
        "" => match unitless {
            Unitless::Microseconds => 1e3,
            Unitless::Nanoseconds => 1.0,
        },
        unit => unit_ns(unit).ok_or_else(bad)?,
    };
    let ns = (number * unit_ns).round();
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    if ns > MAX_DELAY_NS as f64 {
        return Err(PolicyError::out_of_range(what.to_owned(), text, "too long: the longest is 5m"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to MAX_DELAY_NS")]
    Ok(Duration::from_nanos(ns as u64))
}

fn unit_ns(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" | "nsec" | "nsecs" => 1.0,
        "us" | "usec" | "usecs" => 1e3,
        "ms" | "msec" | "msecs" => 1e6,
        "s" | "sec" | "secs" => 1e9,
        "m" | "min" => 6e10,
        _ => return None,
    })
}

/// A time in milliseconds: `100ms`, `0.25ms`.
pub fn show_time(duration: Duration) -> String {
    let (ms, ns) = (duration.as_millis(), duration.subsec_nanos() % 1_000_000);
    if ns == 0 {
        return format!("{ms}ms");
    }
    let fraction = format!("{ns:06}");
    format!("{ms}.{}ms", fraction.trim_end_matches('0'))
}

/// A time of at most five minutes in nanoseconds.
pub(crate) fn as_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(MAX_DELAY_NS)
}

fn negative(what: &str, text: &str) -> PolicyError {
    PolicyError::invalid(what.to_owned(), text, "a time that is not negative")
}

/// Parses a number with a unit, of which the number may have a fraction; `what` names it in the error.
///
/// # Errors
///
/// When it is no such number, or negative.
pub fn parse_duration(text: &str, what: &str) -> Result<Duration, PolicyError> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(negative(what, trimmed));
    }
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if trimmed.parse::<f64>().is_ok() {
        let number = short(trimmed);
        return Err(PolicyError::contradiction(
            format!("the {what} {number} has no unit"),
            format!("write {number}ms or {number}s"),
        ));
    }
    // humantime knows no fractions; a decimal number with one unit is the only form that has any.
    if let Some(duration) = parse_fraction(trimmed) {
        return Ok(duration);
    }
    humantime::parse_duration(trimmed).map_err(|error| {
        PolicyError::invalid(what.to_owned(), trimmed, format!("a time such as 120ms, 1.5s or 2m ({error})"))
    })
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

/// Parses a size as `tc` does: `1514`, `64kb`, `10k`, `1mbit`; `what` names it in the error.
///
/// # Errors
///
/// When it is no size, or 2^32 and more.
pub(crate) fn parse_size(text: &str, what: &str) -> Result<u32, PolicyError> {
    let bad = || PolicyError::invalid(what.to_owned(), text, "a size such as 1514 or 64kb");
    let (number, unit) = number(text).ok_or_else(bad)?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1024.0,
        "m" | "mb" => 1024.0 * 1024.0,
        "g" | "gb" => 1024.0 * 1024.0 * 1024.0,
        "kbit" => 1024.0 / 8.0,
        "mbit" => 1024.0 * 1024.0 / 8.0,
        "gbit" => 1024.0 * 1024.0 * 1024.0 / 8.0,
        _ => return Err(bad()),
    };
    let size = number * scale;
    if size > f64::from(u32::MAX) {
        return Err(PolicyError::out_of_range(what.to_owned(), text, "too large: it is less than 4gb"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to u32::MAX")]
    Ok(size as u32)
}

/// A size in the largest unit that needs no fraction: `64kb`, `1514b`.
pub(crate) fn show_size(bytes: u32) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}mb", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}kb", bytes >> 10),
        _ => format!("{bytes}b"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_as_tc_reads_them() {
        for (text, bytes, shown) in [
            ("5mbit", 625_000, "5Mbit"),
            ("8000", 1000, "8Kbit"),
            ("1Kbit", 125, "1Kbit"),
            ("1kibit", 128, "1024bit"),
            ("640kbps", 640_000, "5120Kbit"),
            ("1MiBps", 1_048_576, "8388608bit"),
            ("1.5gbit", 187_500_000, "1500Mbit"),
            ("4tbit", 500_000_000_000, "4Tbit"),
        ] {
            let rate = Rate::parse(text).expect(text);
            assert_eq!((rate.bytes_per_second(), rate.to_string().as_str()), (bytes, shown), "{text}");
        }
        for bad in ["", "fast", "5mbits", "0", "7bit", "5tbit", "50%", "-1mbit", "ibit", "1ibit", "1e99tbit"]
        {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_as_tc_reads_them() {
        let time = |text| parse_time(text, "delay", Unitless::Microseconds);
        for (text, ns) in [
            ("100ms", 100_000_000),
            ("100.0ms", 100_000_000),
            ("20usecs", 20_000),
            ("1500", 1_500_000),
            ("1.5s", 1_500_000_000),
            ("0", 0),
            ("7ns", 7),
            ("5m", MAX_DELAY_NS),
        ] {
            assert_eq!(time(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        assert_eq!(parse_time("1500", "slot", Unitless::Nanoseconds), Ok(Duration::from_nanos(1500)));
        let error = |text| time(text).expect_err(text).to_string();
        assert_eq!(error("-1ms"), "invalid delay \"-1ms\": expected a time that is not negative");
        assert_eq!(error("301s"), "a delay of 301s is too long: the longest is 5m");
        for bad in ["", "ms", "1.1.1s", "1h", "fast"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_tc_reads_them() {
        let size = |text| parse_size(text, "limit");
        for (text, bytes, shown) in [
            ("1514", 1514, "1514b"),
            ("64kb", 65_536, "64kb"),
            ("1m", 1 << 20, "1mb"),
            ("8kbit", 1024, "1kb"),
        ] {
            assert_eq!(
                size(text).map(|size| (size, show_size(size))),
                Ok((bytes, shown.to_owned())),
                "{text}"
            );
        }
        for bad in ["", "5gb", "1kbs", "-1"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percents_have_the_kernels_extremes() {
        assert_eq!((Percent::ZERO.probability(), Percent::ALL.probability()), (0, u32::MAX));
        assert_eq!((Percent::ZERO.correlation(), Percent::ALL.correlation()), (0, u32::MAX));
        assert_eq!(Percent::ALL.to_string(), "100%");
        assert_eq!(Percent::ALL.rest(), Percent::ZERO);
        assert!(Percent::parse("0.00000001", "loss").is_err());
    }

    proptest! {
        #[test]
        fn each_percent_survives_its_text(steps in 2..=WHOLE) {
            let percent = Percent(steps);
            prop_assert_eq!(Percent::parse(&percent.to_string(), "loss"), Ok(percent));
        }

        #[test]
        fn each_rate_survives_its_text(bytes in 1..=MAX_RATE) {
            let rate = Rate::new(bytes).expect("in range");
            prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
        }

        #[test]
        fn each_time_survives_its_text(ns in 0..=MAX_DELAY_NS) {
            let time = Duration::from_nanos(ns);
            prop_assert_eq!(parse_time(&show_time(time), "delay", Unitless::Microseconds), Ok(time));
        }

        #[test]
        fn each_size_survives_its_text(bytes: u32) {
            prop_assert_eq!(parse_size(&show_size(bytes), "size"), Ok(bytes));
        }
    }
}
