//! Slots, in which packets depart in bursts.

use std::time::Duration;

use crate::model::{
    Distribution, Effects, Named, PolicyError, Slot, SlotTime, Unitless, parse_size, parse_time, show_time,
};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption, Unit},
    words::Words,
};

pub(in crate::text) const SLOT: Clause = Clause {
    name: "slot",
    words: &["slot"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "SLOT",
        help: "When packets depart in bursts: 20ms, '20ms 40ms packets 10', 'distribution normal 20ms 5ms'",
        kind: FlagKind::Text,
    },
    read: |words, named, draft| {
        draft.once("slot")?;
        let slot = read(words, named)?;
        let is_none = slot.opens == SlotTime::Between(Duration::ZERO, Duration::ZERO);
        draft.effects.slot = (!is_none).then_some(slot);
        Ok(())
    },
    show,
    show_field: show,
    copy: |from, to| to.slot.clone_from(&from.slot),
    tc: &[TcOption {
        name: "slot",
        form: Form::Values(
            "slot",
            &[
                ("min-delay", Unit::Seconds),
                ("max-delay", Unit::Seconds),
                ("packets", Unit::Named),
                ("bytes", Unit::Named),
                ("distribution", Unit::Unshown(NAME_IS_UNSHOWN)),
            ],
        ),
    }],
    ..Clause::NONE
};

const NAME_IS_UNSHOWN: &str = "`tc` does not show which distribution a slot has";
/// The advice for a distribution without its times.
const WHOLE: &str = "for example `slot distribution normal 20ms 5ms`";

fn time(word: &str, what: &str) -> Result<Duration, PolicyError> {
    parse_time(word, what, Unitless::Nanoseconds)
}

fn read(words: &mut Words<'_>, named: &Named) -> Result<Slot, PolicyError> {
    let opens =
        if words.skip("distribution") { read_distribution(words, named)? } else { read_range(words)? };
    let mut slot = Slot { opens, packets: 0, bytes: 0 };
    loop {
        if words.skip("packets") {
            slot.packets = words.integer("slot packets")?;
        } else if words.skip("bytes") {
            slot.bytes = parse_size(words.value("slot bytes", "a whole number")?, "slot in bytes")?;
        } else {
            return Ok(slot);
        }
    }
}

fn read_range(words: &mut Words<'_>) -> Result<SlotTime, PolicyError> {
    let least = time(words.value("slot", "for example `slot 20ms`")?, "slot")?;
    let most = words.number().map_or(Ok(least), |word| time(word, "slot"))?;
    if most < least {
        return Err(PolicyError::contradiction(
            "the longest time of a slot is shorter than the shortest one",
            "swap them",
        ));
    }
    Ok(SlotTime::Between(least, most))
}

fn read_distribution(words: &mut Words<'_>, named: &Named) -> Result<SlotTime, PolicyError> {
    let name = words.value("slot distribution", WHOLE)?;
    if time(name, "slot").is_ok() {
        return Err(PolicyError::contradiction(NAME_IS_UNSHOWN, "write its name behind the word"));
    }
    let distribution = named.distribution(name)?;
    let mut next = |needed: &'static str, what: &str| time(words.value(needed, WHOLE)?, what);
    let mean = next("a slot's distribution", "slot")?;
    let spread = next("a slot's distribution with a mean", "slot's jitter")?;
    if spread.is_zero() {
        return Err(PolicyError::missing(
            "a slot's distribution",
            "a jitter",
            "write `slot MIN` if there is none",
        ));
    }
    if distribution == Distribution::Uniform && spread > mean {
        let what = "a slot's uniform jitter is at most its mean";
        return Err(PolicyError::contradiction(what, "make it smaller, so that no time is negative"));
    }
    Ok(SlotTime::About { distribution, mean, spread })
}

fn show(effects: &Effects) -> Option<String> {
    let Slot { opens, packets, bytes } = effects.slot.as_ref()?;
    let opens = match opens {
        SlotTime::Between(least, most) => format!("{} {}", show_time(*least), show_time(*most)),
        SlotTime::About { distribution, mean, spread } => {
            format!("distribution {} {} {}", distribution.name(), show_time(*mean), show_time(*spread))
        }
    };
    let bound = |word: &str, bound: u32| if bound > 0 { format!(" {word} {bound}") } else { String::new() };
    Some(format!("{opens}{}{}", bound("packets", *packets), bound("bytes", *bytes)))
}
