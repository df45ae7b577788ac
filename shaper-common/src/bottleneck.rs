//! The bottleneck: packets are carried at a rate, or by a trace of opportunities to deliver.

use super::{
    policy::{DELIVERY_BYTES, Effects, State},
    random::{RandomStream, RandomStreams, part},
};

const SECOND_NS: u64 = 1_000_000_000;
const MS_NS: u64 = 1_000_000;
/// The longest time that arithmetic takes: 2^40.
const LONG_NS: u64 = 1 << 40;
/// The most bytes that a packet counts for, however much the bottleneck adds: 2^30.
const MOST_BYTES: u64 = 1 << 30;

/// The room in the queue of a bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Another packet has room.
    Free,
    /// It has, but is to be marked.
    Marking,
    /// It has not.
    Full,
}

/// The backlog of a bottleneck when a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The time that the packet would wait, in nanoseconds.
    pub wait_ns: u64,
    /// The number of bytes that wait.
    pub bytes: u64,
}

impl Effects {
    /// Returns true if packets may have to wait for the bottleneck, or be refused.
    #[inline(always)]
    pub const fn has_bottleneck(&self) -> bool {
        self.rate != 0 || self.trace_length != 0 || self.queue_packets != 0 || self.mark_packets != 0
    }

    /// Returns true if packets wait for more than the bottleneck.
    #[inline(always)]
    pub const fn delays(&self) -> bool {
        self.delay_ns != 0 || self.jitter_ns != 0 || self.slots != 0
    }

    /// Returns true if packets wait anywhere.
    #[inline(always)]
    pub const fn waits(&self) -> bool {
        self.delays() || self.has_bottleneck()
    }

    /// Returns the number of bytes that a packet takes on the bottleneck; `segments` packets of `bytes` together, as a GSO
    /// packet has them.
    ///
    /// As netem counts (`packet_time_ns`, Linux 6.1), but each of the packets has its overhead and its cells, and one that
    /// an overhead makes less than nothing takes nothing. At most 2^30.
    #[inline(always)]
    pub fn wire_bytes(&self, bytes: u32, segments: u32) -> u64 {
        let segments = if segments == 0 { 1 } else { u64::from(segments) };
        let overhead = i64::from(self.overhead) * segments.cast_signed();
        let bytes = i64::from(bytes) + overhead;
        let bytes = at_most(MOST_BYTES, if bytes < 0 { 0 } else { bytes.cast_unsigned() });
        if self.cell_bytes == 0 {
            return bytes;
        }
        let cell = i64::from(self.cell_bytes) + i64::from(self.cell_overhead);
        let cell = if cell < 0 { 0 } else { cell.cast_unsigned() };
        let each = bytes.div_ceil(segments);
        at_most(MOST_BYTES, each.div_ceil(u64::from(self.cell_bytes)) * segments * cell)
    }

    /// Returns the time that the bottleneck takes for `bytes`, at most 2^30, in nanoseconds. There must be a rate.
    ///
    /// Rounded up or down by chance, as the fraction has it: at 100 Gbit/s a packet takes 121.12 ns, and what is rounded
    /// the same way each time would make a rate of its own.
    #[inline(always)]
    pub const fn carrying_ns(&self, bytes: u64, streams: RandomStreams) -> u64 {
        // A program may not divide by 0, whatever a map says.
        let rate = if self.rate == 0 { 1 } else { self.rate };
        (bytes * SECOND_NS + part(streams.number(RandomStream::Carry), rate)) / rate
    }

    /// Returns the backlog of a bottleneck that will be free at `free_ns`.
    #[inline(always)]
    pub const fn backlog(&self, now_ns: u64, free_ns: u64) -> Backlog {
        if free_ns <= now_ns {
            return Backlog { wait_ns: 0, bytes: 0 };
        }
        let wait_ns = at_most(LONG_NS, free_ns - now_ns);
        // wait_ns * rate / SECOND_NS, of whole seconds and gigabytes apart: no product exceeds 64 bits.
        let (seconds, gigabytes) = (wait_ns / SECOND_NS, self.rate / SECOND_NS);
        let (rest_ns, rest_rate) = (wait_ns - seconds * SECOND_NS, self.rate - gigabytes * SECOND_NS);
        let bytes = wait_ns * gigabytes + seconds * rest_rate + rest_ns * rest_rate / SECOND_NS;
        Backlog { wait_ns, bytes }
    }

    /// Returns the room for another packet behind `backlog`; `waiting` tells whether a number of packets wait.
    #[inline(always)]
    pub fn room(&self, backlog: Backlog, waiting: impl Fn(u32) -> bool) -> Room {
        let beyond = |ns: u64, bytes: u64, packets: u32| {
            ns != 0 && backlog.wait_ns > ns
                || bytes != 0 && backlog.bytes >= bytes
                || packets != 0 && waiting(packets)
        };
        if beyond(self.queue_ns, self.queue_bytes, self.queue_packets) {
            Room::Full
        } else if beyond(self.mark_ns, self.mark_bytes, self.mark_packets) {
            Room::Marking
        } else {
            Room::Free
        }
    }
}

#[inline(always)]
const fn at_most(most: u64, number: u64) -> u64 {
    if number < most { number } else { most }
}

impl State {
    /// Has nothing be used up of the trace of `effects`, if it was another one until now: opportunities are numbered trace by
    /// trace.
    #[inline(always)]
    pub const fn follow_trace(&mut self, effects: &Effects) {
        let trace = (effects.trace_length as u64) << 32 | effects.trace as u64;
        if self.trace != trace {
            (self.trace, self.delivered_bytes) = (trace, 0);
        }
    }
}

/// The most opportunities of a delivery trace.
pub const MAX_OPPORTUNITIES: u32 = 1_000_000;

/// A delivery trace: the times, in milliseconds from its beginning, at which a bottleneck carries [`DELIVERY_BYTES`].
///
/// As Mahimahi plays it (Netravali et al.: Mahimahi: Accurate Record-and-Replay for HTTP, 2015; `link_queue.cc`): it
/// begins anew after its last opportunity, what an opportunity carries may be of several packets, a packet may need
/// several, and one that nobody uses is gone.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    begins_at_ns: u64,
    first: u32,
    length: u32,
    period_ns: u64,
}

impl Trace {
    /// The trace of `length` entries from `first` on in `table`, none of which is empty, begun at `begins_at_ns`.
    #[inline(always)]
    pub fn new(begins_at_ns: u64, first: u32, length: u32, table: impl Fn(u32) -> u32) -> Self {
        let length = if length == 0 { 1 } else { length };
        let period_ns = u64::from(table(first + length - 1)) * MS_NS;
        let period_ns = if period_ns == 0 { MS_NS } else { period_ns };
        Self { begins_at_ns, first, length, period_ns }
    }

    /// The first opportunity at or after `time_ns`, counted on from turn to turn; `number` says which one of a turn is the
    /// first at or after a time in it, in nanoseconds (see [`opportunity_at`]).
    #[inline(always)]
    pub fn next(&self, time_ns: u64, number: impl Fn(u64) -> u32) -> u64 {
        let since_ns = time_ns.saturating_sub(self.begins_at_ns);
        // A turn ends with its last opportunity, not just before it.
        let turn = since_ns.saturating_sub(1) / self.period_ns;
        let into_ns = since_ns - turn * self.period_ns;
        turn * u64::from(self.length) + u64::from(number(into_ns))
    }

    /// Returns the backlog of a bottleneck that has used up `used` bytes of the trace, where `next` is the first opportunity
    /// from now on.
    #[inline(always)]
    pub fn backlog(&self, used: u64, next: u64, now_ns: u64, table: impl Fn(u32) -> u32) -> Backlog {
        let bytes = used.saturating_sub(opportunity_bytes(next));
        let wait_ns =
            if bytes == 0 { 0 } else { self.at_ns(last_opportunity(used), table).saturating_sub(now_ns) };
        Backlog { wait_ns, bytes }
    }

    /// When that opportunity comes, in nanoseconds.
    #[inline(always)]
    pub fn at_ns(&self, opportunity: u64, table: impl Fn(u32) -> u32) -> u64 {
        let length = u64::from(self.length);
        let (turn, number) = (opportunity.checked_div(length), opportunity.checked_rem(length));
        let entry = self.first + number.unwrap_or(0) as u32;
        self.begins_at_ns + turn.unwrap_or(0) * self.period_ns + u64::from(table(entry)) * MS_NS
    }
}

/// The number of the first of `length` opportunities, in order, that comes `into_ns` after the beginning or later;
/// `time_ms` says when one comes.
#[inline(always)]
pub fn opportunity_at(length: u32, into_ns: u64, time_ms: impl Fn(u32) -> u32) -> u32 {
    let (mut low, mut high) = (0, length);
    // As many halves as MAX_OPPORTUNITIES has.
    for _ in 0..20 {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        if u64::from(time_ms(middle)) * MS_NS < into_ns {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Returns the end of a bottleneck's work, in its own measure, once it has taken `amount` more: it was `busy_until`, and can
/// begin with this at `from`.
///
/// The measure is nanoseconds of the clock for a rate, and bytes from the beginning of a delivery trace.
#[inline(always)]
pub const fn booked(busy_until: u64, from: u64, amount: u64) -> u64 {
    (if busy_until > from { busy_until } else { from }) + amount
}

/// Returns the bytes that a trace has carried before an opportunity, if every earlier one was used.
#[inline(always)]
pub const fn opportunity_bytes(opportunity: u64) -> u64 {
    opportunity * DELIVERY_BYTES as u64
}

/// The opportunity that carries the last of so many bytes from the beginning of a trace.
#[inline(always)]
pub const fn last_opportunity(delivered: u64) -> u64 {
    delivered.saturating_sub(1) / DELIVERY_BYTES as u64
}
