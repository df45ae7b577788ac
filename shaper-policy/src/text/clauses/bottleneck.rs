//! The bottleneck: a rate, or a delivery trace.

use crate::model::{Bottleneck, Effects, PolicyError, Rate};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    draft::Draft,
    tc::{Form, TcOption, Unit},
    words::Words,
};

pub(in crate::text) const RATE: Clause = Clause {
    name: "rate",
    words: &["rate"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "RATE",
        help: "Rate limit: 5mbit, 640kbps, '256kbit OVERHEAD CELLSIZE CELLOVERHEAD'",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        let rate = read_rate(words)?;
        set(draft, "rate", rate)
    },
    show: show_rate,
    show_field: show_rate,
    copy,
    tc: &[TcOption {
        name: "rate",
        form: Form::Values(
            "rate",
            &[
                ("rate", Unit::BytesPerSecond),
                ("packetoverhead", Unit::None),
                ("cellsize", Unit::None),
                ("celloverhead", Unit::None),
            ],
        ),
    }],
    ..Clause::NONE
};

pub(in crate::text) const TRACE: Clause = Clause {
    name: "trace",
    words: &["trace"],
    field: Field::Flag {
        value: "FILE",
        help: "A delivery trace, as Mahimahi has them, in place of a rate",
        kind: FlagKind::File,
    },
    read: |words, named, draft| {
        let trace = named.trace(words.value("trace", "the name of a trace")?)?;
        set(draft, "trace", Bottleneck::Trace(trace))
    },
    show: show_trace,
    show_field: show_trace,
    copy,
    ..Clause::NONE
};

fn read_rate(words: &mut Words<'_>) -> Result<Bottleneck, PolicyError> {
    let rate = Rate::parse(words.value("rate", "for example `rate 10mbit`")?)?;
    words.skip("packetoverhead");
    let overhead = words.signed_number().map_or(Ok(0), |word| small(word, "packet overhead"))?;
    words.skip("cellsize");
    let cell_bytes = words.number().map_or(Ok(0), |word| small(word, "cell size"))?;
    words.skip("celloverhead");
    let cell_overhead = words.signed_number().map_or(Ok(0), |word| small(word, "cell overhead"))?;
    if cell_bytes == 0 && cell_overhead != 0 {
        return Err(PolicyError::missing(
            "a cell overhead",
            "a cell size before it",
            "write for example `rate 1mbit 0 48 5`",
        ));
    }
    Ok(Bottleneck::Rate { rate, overhead, cell_bytes: cell_bytes.unsigned_abs(), cell_overhead })
}

/// A number of bytes that is added to packets or cells.
fn small(word: &str, what: &'static str) -> Result<i32, PolicyError> {
    let number: i32 = Words::integer_of(word, what)?;
    if number.abs() > i32::from(u16::MAX) {
        return Err(PolicyError::out_of_range(
            what,
            format!("{number} bytes"),
            "too large: it is at most 65535",
        ));
    }
    Ok(number)
}

fn set(draft: &mut Draft, name: &'static str, bottleneck: Bottleneck) -> Result<(), PolicyError> {
    draft.once(name)?;
    if draft.effects.bottleneck.replace(bottleneck).is_some() {
        let what = "rate and trace contradict one another";
        return Err(PolicyError::contradiction(what, "leave one of them out"));
    }
    Ok(())
}

/// Without a bottleneck nothing waits for it, either.
fn copy(from: &Effects, to: &mut Effects) {
    to.bottleneck.clone_from(&from.bottleneck);
    if to.bottleneck.is_none() {
        (to.queue, to.mark) = (from.queue, from.mark);
    }
}

fn show_rate(effects: &Effects) -> Option<String> {
    let Some(Bottleneck::Rate { rate, overhead, cell_bytes, cell_overhead }) = &effects.bottleneck else {
        return None;
    };
    Some(match (*overhead, *cell_bytes, *cell_overhead) {
        (0, 0, 0) => rate.to_string(),
        (_, 0, 0) => format!("{rate} {overhead}"),
        (_, _, 0) => format!("{rate} {overhead} {cell_bytes}"),
        _ => format!("{rate} {overhead} {cell_bytes} {cell_overhead}"),
    })
}

fn show_trace(effects: &Effects) -> Option<String> {
    match &effects.bottleneck {
        Some(Bottleneck::Trace(trace)) => Some(trace.name.clone()),
        _ => None,
    }
}
