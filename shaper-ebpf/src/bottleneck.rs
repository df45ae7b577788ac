//! The bottleneck: a rate, or a trace of delivery opportunities, behind a queue of limited length.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{
    MAX_DELAY_NS,
    bottleneck::{Backlog, Room, Trace, last_opportunity, opportunity_bytes},
    policy::{Effects, Schedule},
    random::RandomStreams,
    uses,
};

use crate::{shared::Shared, state::ClassState, uses::uses};

/// Departures of the last packets; a ring for each schedule.
#[btf_map]
static RINGS: Array<u64, 1> = Array::new();

#[btf_map]
static TRACES: Array<u32, 1> = Array::new();

/// The bottleneck's verdict on a packet.
pub(crate) enum Carried {
    /// It has carried the packet at `at_ns`; `marked` asks for ECN's CE.
    At { at_ns: u64, marked: bool },
    /// The queue has no room for it.
    Overflow,
}

/// Carries a packet of `bytes` on the wire that is ready at `ready_ns`.
#[inline(always)]
pub(crate) fn carry(
    effects: &Effects,
    schedule: &Schedule,
    state: ClassState,
    bytes: u64,
    ready_ns: u64,
    streams: RandomStreams,
) -> Carried {
    if uses(uses::TRACE) && effects.trace_length != 0 {
        return deliver(effects, schedule, state, bytes, ready_ns);
    }
    let backlog = effects.backlog(ready_ns, state.bottleneck_free_ns().load());
    let room = room(effects, schedule, state, backlog, ready_ns);
    if room == Room::Full {
        return Carried::Overflow;
    }
    let at_ns = match effects.rate {
        0 => ready_ns,
        _ => state.book_time(ready_ns, effects.carrying_ns(bytes, streams)),
    };
    Carried::At { at_ns, marked: room == Room::Marking }
}

#[inline(always)]
fn deliver(effects: &Effects, schedule: &Schedule, state: ClassState, bytes: u64, ready_ns: u64) -> Carried {
    state.chain().follow_trace(effects);
    let (first, length) = (effects.trace, effects.trace_length);
    let trace = Trace::new(schedule.begins_at_ns, first, length, time_ms);
    let next = trace.next(ready_ns, |into_ns| opportunity_at(first, length, into_ns));
    let backlog = trace.backlog(state.delivered_bytes().load(), next, ready_ns, time_ms);
    let room = room(effects, schedule, state, backlog, ready_ns);
    if room == Room::Full {
        return Carried::Overflow;
    }
    let used = state.book_bytes(opportunity_bytes(next), bytes);
    Carried::At { at_ns: trace.at_ns(last_opportunity(used), time_ms), marked: room == Room::Marking }
}

#[inline(always)]
fn room(effects: &Effects, schedule: &Schedule, state: ClassState, backlog: Backlog, ready_ns: u64) -> Room {
    if backlog.wait_ns > MAX_DELAY_NS {
        return Room::Full;
    }
    effects.room(backlog, |packets| wait(schedule, state, packets, ready_ns))
}

/// Calls [`shaper_common::bottleneck::opportunity_at`]; a global function, which the kernel verifies by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn opportunity_at(first: u32, length: u32, into_ns: u64) -> u32 {
    shaper_common::bottleneck::opportunity_at(length, into_ns, |number| time_ms(first + number))
}

#[inline(always)]
fn time_ms(entry: u32) -> u32 {
    TRACES.get(entry).copied().unwrap_or(0)
}

/// Returns true if at least `packets` wait at `now_ns`: the one that came so many before has not departed yet.
#[inline(always)]
fn wait(schedule: &Schedule, state: ClassState, packets: u32, now_ns: u64) -> bool {
    let queued = state.queued().load();
    if queued < u64::from(packets) {
        return false;
    }
    let packets = if packets < schedule.ring_length { packets } else { schedule.ring_length };
    entry(schedule, queued - u64::from(packets)).is_some_and(|departure_ns| departure_ns.load() > now_ns)
}

/// Records a departure, where the queue's limit is in packets.
#[inline(always)]
pub(crate) fn note(schedule: &Schedule, state: ClassState, departure_ns: u64) {
    if schedule.ring_length == 0 {
        return;
    }
    if let Some(entry) = entry(schedule, state.queued().fetch_add(1)) {
        entry.store(departure_ns);
    }
}

#[inline(always)]
fn entry(schedule: &Schedule, number: u64) -> Option<Shared<u64>> {
    let place = number.checked_rem(u64::from(schedule.ring_length))?;
    let entry = RINGS.get_ptr_mut(schedule.ring + place as u32)?;
    // SAFETY: the entry is a map's.
    Some(unsafe { Shared::at(entry) })
}
