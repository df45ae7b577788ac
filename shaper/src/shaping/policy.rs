//! What is done to one interface in one direction; latency and loss, which say most of it.

use std::{fmt, num::NonZeroU64, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use shaper_common::{MAX_DELAY_NS, ORPHAN_FROM_NS};

use super::{
    Change, Direction, Lifetime, Request,
    effects::{Chance, Delay, Effects, LossModel, Losses},
    plan::Plan,
    units::{Percent, as_ns, quoted, short},
};

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
pub(crate) fn parse_duration(text: &str, what: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(format!("a {what} cannot be negative: {}", short(trimmed)));
    }
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if trimmed.parse::<f64>().is_ok() {
        let number = short(trimmed);
        return Err(format!("the {what} {number} has no unit: write {number}ms or {number}s"));
    }
    // humantime knows no fractions; a decimal number with one unit is the only form that has any.
    if let Some(duration) = parse_fraction(trimmed) {
        return Ok(duration);
    }
    humantime::parse_duration(trimmed).map_err(|error| {
        format!("{} is no {what} ({error}): write for example 120ms, 1.5s or 2m", quoted(trimmed))
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

/// A probability of losing a packet, above 0 % and up to 100 %, in steps of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss(Percent);

impl Loss {
    /// Takes a share; none of it is no loss (`None`).
    pub(crate) fn new(percent: Percent) -> Option<Self> {
        (!percent.is_zero()).then_some(Self(percent))
    }

    /// Takes per cent; zero is no loss (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// When it is not from 0 to 100, or too small to be told from nothing.
    pub(crate) fn from_percent(percent: f64) -> Result<Option<Self>, String> {
        Percent::new(percent, "loss").map(Self::new)
    }

    /// Parses `2.5%` or `2.5`; zero is no loss (`Ok(None)`).
    ///
    /// # Errors
    ///
    /// As [`Self::from_percent`], and when it is no number.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        Percent::parse(text, "loss").map(Self::new)
    }

    /// As a share.
    pub(crate) const fn percent(self) -> Percent {
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
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::parse(text)?.ok_or_else(|| format!("{} is nothing", quoted(text)))
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// To which packets, and when.
    pub(crate) plan: Arc<Plan>,
    /// When it ends, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) expires_at_ns: Option<NonZeroU64>,
}

impl From<Effects> for Policy {
    /// The same for all packets until it is cleared.
    fn from(effects: Effects) -> Self {
        Self { plan: Arc::new(Plan::always(effects)), expires_at_ns: None }
    }
}

impl Policy {
    /// How long each packet of no target is delayed, or is in the mean, if that is the same at all times.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let delay = self.plan.course.settled()?.delay.as_ref()?;
        Latency::new(delay.time).ok().flatten()
    }

    /// How many packets of no target are lost, if that is independent, and the same at all times.
    pub(crate) fn loss(&self) -> Option<Loss> {
        match self.plan.course.settled()?.loss.as_ref()?.model {
            LossModel::Random(chance) => Loss::new(chance.probability),
            _ => None,
        }
    }

    /// What is done to packets of no target, in netem's words; empty is nothing.
    pub(crate) fn words(&self) -> String {
        self.plan.course.to_string()
    }

    /// The first lines of its targets, and what is done to their packets, in netem's words.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (String, String)> {
        self.plan.targets.iter().map(|target| {
            let words = target.course.to_string();
            let words = if words.is_empty() { "nothing".to_owned() } else { words };
            (target.selector.short(), words)
        })
    }

    /// Whether latency and loss say all that is done to packets.
    pub(crate) fn is_simple(&self) -> bool {
        self.simple().is_some()
    }

    /// Whether the kernel needs a plan, and not only latency and loss: also to keep which interfaces were chosen.
    pub(crate) fn needs_plan(&self) -> bool {
        !self.is_simple() || self.plan.interfaces.is_some()
    }

    fn simple(&self) -> Option<(Option<Latency>, Option<Loss>)> {
        let Plan { interfaces: _, seed: None, course, targets } = &*self.plan else { return None };
        course.constant().filter(|_| targets.is_empty())?.simple()
    }

    /// Whether packets wait anywhere.
    pub(crate) fn needs_queue(&self) -> bool {
        self.plan.effects().any(Effects::needs_queue)
    }

    /// Whether it acts on single packets, so that several may not pass as one (GSO).
    pub(crate) fn needs_single_segments(&self) -> bool {
        self.plan.effects().any(Effects::needs_single_segments)
    }

    /// Whether it does anything at `now_ns`.
    pub(crate) fn is_in_force(&self, now_ns: u64) -> bool {
        !self.plan.is_empty() && self.expires_at_ns.is_none_or(|deadline| now_ns < deadline.get())
    }

    /// How long it will still last; none is for ever.
    pub(crate) fn remaining(&self, now_ns: u64) -> Option<Duration> {
        self.expires_at_ns.map(|deadline| Duration::from_nanos(deadline.get().saturating_sub(now_ns)))
    }

    /// The policy after `request`: what it does not mention stays. One that is over counts as nothing.
    ///
    /// # Errors
    ///
    /// When what is asked contradicts what is in force, or cannot be reached from it.
    pub(crate) fn after(&self, request: &Request, direction: Direction, now_ns: u64) -> Result<Self, String> {
        let old = if self.is_in_force(now_ns) { self.clone() } else { Self::default() };
        Ok(Self {
            plan: request.applied_to(&old.plan, direction)?,
            expires_at_ns: match request.lifetime {
                Change::Keep => old.expires_at_ns,
                Change::To(Lifetime::Forever) => None,
                Change::To(Lifetime::For(duration)) => {
                    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                    NonZeroU64::new(now_ns.saturating_add(ns))
                }
            },
        })
    }

    /// As the kernel reads it; what is not simple is in the maps of the plan.
    pub(crate) fn to_map(&self) -> shaper_common::Policy {
        let expires_at_ns = self.expires_at_ns.map_or(0, NonZeroU64::get);
        let Some((latency, loss)) = self.simple().filter(|_| !self.needs_plan()) else {
            return shaper_common::Policy { expires_at_ns, plan: 1, ..shaper_common::Policy::default() };
        };
        let delay_ns = latency.map_or(0, |latency| as_ns(latency.as_duration()));
        shaper_common::Policy {
            expires_at_ns,
            delay_ns,
            plan: 0,
            queueless: 0,
            loss: loss.map_or(0, |loss| loss.percent().probability()),
            orphan: u32::from(delay_ns >= ORPHAN_FROM_NS),
        }
    }

    /// What the kernel has, where the plan, if it has one, is `asked`. A delay beyond [`Latency::MAX`] is not carried
    /// out and so is none.
    pub(crate) fn from_map(map: &shaper_common::Policy, asked: Option<&Arc<Plan>>) -> Self {
        let expires_at_ns = NonZeroU64::new(map.expires_at_ns);
        if map.plan != 0 {
            return Self { plan: asked.cloned().unwrap_or_default(), expires_at_ns };
        }
        let time = Duration::from_nanos(map.delay_ns);
        let delay = (!time.is_zero() && time <= Latency::MAX).then_some(Delay { time, jitter: None });
        let chance = Chance { probability: Percent::from_probability(map.loss), correlation: Percent::ZERO };
        let loss = (map.loss != 0).then_some(Losses { model: LossModel::Random(chance), ecn: false });
        Self { expires_at_ns, ..Effects { delay, loss, ..Effects::default() }.into() }
    }
}

impl Serialize for Policy {
    /// Latency and loss by themselves, all in netem's words, and the plan as a document.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            latency: Option<Latency>,
            loss: Option<Loss>,
            netem: Option<String>,
            plan: &'a Plan,
            expires_at_ns: Option<NonZeroU64>,
        }
        let netem = Some(self.words()).filter(|words| !words.is_empty());
        let (latency, loss) = (self.latency(), self.loss());
        Shown { latency, loss, netem, plan: &self.plan, expires_at_ns: self.expires_at_ns }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    /// From the plan; the rest only repeats it.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            plan: Plan,
            expires_at_ns: Option<NonZeroU64>,
        }
        let Read { plan, expires_at_ns } = Read::deserialize(deserializer)?;
        Ok(Self { plan: Arc::new(plan), expires_at_ns })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shaping::{effects::Named, plan::tests::any_plan};

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
        let all = Loss::parse("100%").expect("a loss").map(|loss| loss.percent().probability());
        assert_eq!(all, Some(u32::MAX));
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

    fn policy(words: &str) -> Policy {
        Effects::parse(words, &Named::default()).expect(words).into()
    }

    fn after(old: &Policy, request: &Request, now_ns: u64) -> Policy {
        old.after(request, Direction::Egress, now_ns).expect("it can be done")
    }

    #[test]
    fn setting_one_effect_keeps_the_other_and_the_deadline() {
        let old = Policy { expires_at_ns: NonZeroU64::new(100), ..policy("delay 1s") };
        let request = Request::of_loss(Loss::parse("10%").expect("a loss"));
        assert_eq!(
            after(&old, &request, 50),
            Policy { expires_at_ns: NonZeroU64::new(100), ..policy("delay 1s loss 10%") }
        );
    }

    #[test]
    fn a_policy_that_is_over_leaves_nothing_to_keep() {
        let old = Policy { expires_at_ns: NonZeroU64::new(100), ..policy("delay 1s") };
        let request = Request::of_loss(Loss::parse("10%").expect("a loss"));
        assert_eq!(after(&old, &request, 100), policy("loss 10%"));
    }

    #[test]
    fn latency_and_loss_are_shown_beside_all_that_there_is() {
        let json = |words: &str| serde_json::to_value(policy(words)).expect("JSON");
        let both = json("delay 2s 10ms loss 10% duplicate 1%");
        assert_eq!((both["latency"].as_str(), both["loss"].as_str()), (Some("2000ms"), Some("10%")));
        assert_eq!(both["netem"], "delay 2000ms 10ms loss 10% duplicate 1%");
        assert_eq!(both["plan"]["netem"], both["netem"]);
        let none = json("");
        assert!(
            ["latency", "loss", "netem", "expires_at_ns"].iter().all(|key| none[key].is_null()),
            "{none}"
        );
        assert!(json("loss gemodel 1%")["loss"].is_null());
    }

    #[test]
    fn what_is_not_simple_is_in_the_plan_alone() {
        let whole = policy("delay 2s 10ms");
        let map = whole.to_map();
        assert_eq!((map.plan, map.delay_ns, map.loss), (1, 0, 0));
        assert_eq!(Policy::from_map(&map, Some(&whole.plan)), whole);
        assert_eq!(Policy::from_map(&map, None), Policy::default());
        assert!(policy("delay 2s loss 1%").is_simple() && !whole.is_simple());
    }

    proptest! {
        #[test]
        fn a_policy_survives_the_map(ns in 1..=MAX_DELAY_NS, percent in 0.000_001..=100.0_f64, deadline in any::<u64>()) {
            let latency = Latency::new(Duration::from_nanos(ns)).expect("in range").expect("some");
            let loss = Loss::from_percent(percent).expect("in range").expect("some");
            let policy = Policy {
                expires_at_ns: NonZeroU64::new(deadline),
                ..policy(&format!("delay {latency} loss {loss}"))
            };
            prop_assert_eq!(Policy::from_map(&policy.to_map(), None), policy);
        }

        #[test]
        fn a_policy_survives_its_json(plan in any_plan(), deadline in any::<u64>()) {
            let policy = Policy { plan: Arc::new(plan), expires_at_ns: NonZeroU64::new(deadline) };
            let json = serde_json::to_string(&policy).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Policy>(&json).map_err(|error| error.to_string()), Ok(policy));
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
