//! The delay, and its variation.

use std::time::Duration;

use crate::model::{
    Delay, Distribution, Effects, Jitter, Latency, PolicyError, Unitless, parse_time, show_time,
};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption, Unit},
};

pub(in crate::text) const DELAY: Clause = Clause {
    name: "delay",
    words: &["delay", "latency"],
    can_be_shortened: true,
    field: Field::Document,
    read: |words, _, draft| {
        draft.once("delay")?;
        draft.delay.time = time(words.value("delay", "for example `delay 100ms 20ms 25%`")?, "delay")?;
        let Some(jitter) = words.number() else { return Ok(()) };
        draft.once("jitter")?;
        draft.delay.spread = time(jitter, "jitter")?;
        draft.delay.correlation = words.correlation("delay")?;
        Ok(())
    },
    show: show_delay,
    show_field: show_delay,
    copy: |from, to| to.delay.clone_from(&from.delay),
    tc: &[TcOption {
        name: "delay",
        form: Form::Values(
            "delay",
            &[("delay", Unit::Seconds), ("jitter", Unit::Seconds), ("correlation", Unit::Share)],
        ),
    }],
    ..Clause::NONE
};

/// The delay without its variation.
pub(in crate::text) const LATENCY: Clause = Clause {
    name: "latency",
    field: Field::Flag {
        value: "TIME",
        help: "Delay of each packet: 120ms, 1.5s, at most 5m; 0 for none",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        draft.once("delay")?;
        draft.delay.time = Latency::parse(&words.rest())?.map_or(Duration::ZERO, Latency::as_duration);
        Ok(())
    },
    show_field: |effects| {
        let time = effects.delay.as_ref()?.time;
        (!time.is_zero()).then(|| show_time(time))
    },
    copy: copy_latency,
    ..Clause::NONE
};

pub(in crate::text) const JITTER: Clause = Clause {
    name: "jitter",
    field: Field::Flag {
        value: "JITTER",
        help: "Delay variation: 20ms, '20ms 25% distribution normal reordering'",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        draft.once("jitter")?;
        draft.delay.spread = time(words.value("jitter", "for example 20ms")?, "jitter")?;
        draft.delay.correlation = words.correlation("jitter")?;
        Ok(())
    },
    show_field: |effects| effects.delay.as_ref()?.jitter.as_ref().map(show_jitter),
    copy: copy_jitter,
    ..Clause::NONE
};

pub(in crate::text) const DISTRIBUTION: Clause = Clause {
    name: "distribution",
    words: &["distribution"],
    can_be_shortened: true,
    follows: &["delay", "jitter"],
    read: |words, named, draft| {
        draft.once("distribution")?;
        let name = words.value("distribution", "for example `distribution normal`")?;
        draft.delay.distribution = Some(named.distribution(name)?);
        Ok(())
    },
    ..Clause::NONE
};

pub(in crate::text) const REORDERING: Clause = Clause {
    name: "reordering",
    words: &["reordering"],
    follows: &["delay", "jitter"],
    read: |_, _, draft| {
        draft.delay.reorders = true;
        draft.once("reordering")
    },
    ..Clause::NONE
};

fn time(word: &str, what: &str) -> Result<Duration, PolicyError> {
    parse_time(word, what, Unitless::Microseconds)
}

/// Without a latency there is no jitter either, but for one that is given.
fn copy_latency(from: &Effects, to: &mut Effects) {
    let time = from.delay.as_ref().map(|delay| delay.time).unwrap_or_default();
    to.delay = match to.delay.take() {
        _ if time.is_zero() => None,
        Some(delay) => Some(Delay { time, ..delay }),
        None => Some(Delay { time, jitter: None }),
    };
}

fn copy_jitter(from: &Effects, to: &mut Effects) {
    let jitter = from.delay.as_ref().and_then(|delay| delay.jitter.clone());
    let time = to.delay.take().map(|delay| delay.time).unwrap_or_default();
    to.delay = (!time.is_zero() || jitter.is_some()).then_some(Delay { time, jitter });
}

fn show_delay(effects: &Effects) -> Option<String> {
    let Delay { time, jitter } = effects.delay.as_ref()?;
    let jitter = jitter.as_ref().map(|jitter| format!(" {}", show_jitter(jitter)));
    Some(format!("{}{}", show_time(*time), jitter.unwrap_or_default()))
}

fn show_jitter(jitter: &Jitter) -> String {
    let Jitter { spread, correlation, distribution, reorders } = jitter;
    let correlation = (!correlation.is_zero()).then(|| correlation.to_string());
    let distribution =
        (*distribution != Distribution::Uniform).then(|| format!("distribution {}", distribution.name()));
    let reorders = reorders.then(|| "reordering".to_owned());
    let parts = [Some(show_time(*spread)), correlation, distribution, reorders];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
