//! The bounds of the queue, and those beyond which packets are marked.

use std::time::Duration;

use shaper_common::policy::MAX_QUEUE_PACKETS;

use crate::model::{Bounds, Effects, PolicyError, Unitless, parse_size, parse_time, show_size, show_time};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    draft::Draft,
    tc::{Form, TcOption},
    words::Words,
};

pub(in crate::text) const LIMIT: Clause = Clause {
    name: "limit",
    words: &["limit"],
    can_be_shortened: true,
    field: Field::Number,
    read: |words, _, draft| {
        // netem's queue, of which at most as many packets as can wait here.
        let packets = parse_size(words.value("limit", "a whole number")?, "limit")?;
        match packets.min(MAX_QUEUE_PACKETS) {
            // Without room for a packet netem drops all of them (`netem_enqueue`, Linux 6.1).
            0 => {
                draft.once("limit")?;
                draft.loss.has_no_room = true;
            }
            packets => {
                draft.once("limit (the queue in packets)")?;
                draft.effects.queue.packets = Some(packets);
            }
        }
        Ok(())
    },
    show: |effects| effects.queue.packets.map(|packets| packets.to_string()),
    show_field: |effects| effects.queue.packets.map(|packets| packets.to_string()),
    copy: |from, to| to.queue.packets = from.queue.packets,
    tc: &[TcOption { name: "limit", form: Form::Number }],
    ..Clause::NONE
};

pub(in crate::text) const QUEUE: Clause = Clause {
    name: "queue",
    words: &["queue"],
    field: Field::Flag {
        value: "BOUND",
        help: "Queue of the rate limit: 100ms, 64kb, 50packets, or several of these; the excess is lost \
               [default: 1514000b]",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| read(words, draft, &BOUNDS_OF_QUEUE, |effects| &mut effects.queue),
    // A limit in packets is netem's `limit`.
    show: |effects| show(&Bounds { packets: None, ..effects.queue }),
    show_field: |effects| show(&effects.queue),
    copy: |from, to| to.queue = from.queue,
    ..Clause::NONE
};

pub(in crate::text) const MARK: Clause = Clause {
    name: "mark",
    words: &["mark"],
    field: Field::Flag {
        value: "BOUND",
        help: "Queue beyond which packets are marked (ECN): as with --queue",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| read(words, draft, &BOUNDS_OF_MARK, |effects| &mut effects.mark),
    show: |effects| show(&effects.mark),
    show_field: |effects| show(&effects.mark),
    copy: |from, to| to.mark = from.mark,
    ..Clause::NONE
};

/// The names of bounds: the keyword, and it in packets, bytes and time.
type Names = [&'static str; 4];
const BOUNDS_OF_QUEUE: Names = ["queue", "limit (the queue in packets)", "queue in bytes", "queue in time"];
const BOUNDS_OF_MARK: Names = ["mark", "mark in packets", "mark in bytes", "mark in time"];

/// Parses as many bounds as there are; zero is no bound.
fn read(
    words: &mut Words<'_>,
    draft: &mut Draft,
    names: &Names,
    bounds: fn(&mut Effects) -> &mut Bounds,
) -> Result<(), PolicyError> {
    let mut word = words.value(names[0], "for example 100ms, 64kb or 50packets")?;
    loop {
        read_one(word, words, draft, names, bounds)?;
        let Some(next) = words.number() else { return Ok(()) };
        word = next;
    }
}

fn read_one(
    word: &str,
    words: &mut Words<'_>,
    draft: &mut Draft,
    [keyword, in_packets, in_bytes, in_time]: &Names,
    bounds: fn(&mut Effects) -> &mut Bounds,
) -> Result<(), PolicyError> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(end);
    let unit = if unit.is_empty() { words.next_if(is_packets).unwrap_or(unit) } else { unit };
    match unit.to_ascii_lowercase().as_str() {
        unit if is_packets(unit) => match Bounds::packets(Words::integer_of(number, keyword)?)? {
            0 => Ok(()),
            packets => {
                bounds(&mut draft.effects).packets = Some(packets);
                draft.once(in_packets)
            }
        },
        "b" | "kb" | "mb" | "gb" | "kbit" | "mbit" | "gbit" => match parse_size(word, keyword)? {
            0 => Ok(()),
            bytes => {
                bounds(&mut draft.effects).bytes = Some(bytes);
                draft.once(in_bytes)
            }
        },
        "ns" | "us" | "ms" | "s" | "sec" | "secs" | "msec" | "msecs" | "usec" | "usecs" => {
            match parse_time(word, keyword, Unitless::Microseconds)? {
                Duration::ZERO => Ok(()),
                time => {
                    bounds(&mut draft.effects).time = Some(time);
                    draft.once(in_time)
                }
            }
        }
        _ if word == "0" => Ok(()),
        _ => {
            let what = format!("bound of a {keyword}");
            Err(PolicyError::invalid(what, word, "for example 100ms, 64kb or 50packets"))
        }
    }
}

fn is_packets(word: &str) -> bool {
    matches!(word, "packet" | "packets")
}

fn show(bounds: &Bounds) -> Option<String> {
    let bounds = [
        bounds.time.map(show_time),
        bounds.bytes.map(show_size),
        bounds.packets.map(|packets| format!("{packets}packets")),
    ];
    let bounds: Vec<_> = bounds.into_iter().flatten().collect();
    (!bounds.is_empty()).then(|| bounds.join(" "))
}
