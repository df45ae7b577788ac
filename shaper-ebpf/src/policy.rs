//! The verdict on a packet where there is a policy: all effects, by target and by time.
//!
//! It is reached once, in the order of a network: duplication, loss, corruption, the bottleneck, the delay behind it, and
//! the slot. A packet that then has to wait is orphaned last, and the copy that takes its place carries its departure.

use shaper_common::{
    LATE_NS, Shaping,
    policy::{Effects, Schedule},
    random::{RandomStream, RandomStreams},
    uses,
};

use crate::{
    Outcome, bottleneck,
    bottleneck::Carried,
    copies::{Note, Sent},
    corrupt::Corruption,
    counters,
    kernel::now_ns,
    queue, schedule,
    skb::Skb,
    state::ClassState,
    target,
    uses::uses,
};

/// The time that a packet need not wait for the bottleneck, unless others do: a microsecond. Sending it takes longer than
/// that, and the bottleneck is booked for all of its bytes.
const SOON_NS: u64 = 1_000;

/// Returns the verdict on a packet.
#[inline(always)]
pub(crate) fn outcome(skb: &Skb, shaping: &Shaping) -> Outcome {
    let now_ns = now_ns();
    let note = skb.take_note();
    if let Note::Departure(departure_ns) = note {
        return if departure_ns > now_ns {
            Outcome::Delay { departure_ns, orphan_failed: false }
        } else {
            Outcome::Pass
        };
    }
    if shaping.has_expired(now_ns) {
        return Outcome::Pass;
    }
    let is_duplicate = matches!(note, Note::Duplicate);
    let found = Packet::of(skb, now_ns, is_duplicate);
    found.map_or(Outcome::Pass, |packet| packet.outcome(is_duplicate))
}

/// A packet, and the effects on its class.
struct Packet<'a> {
    skb: &'a Skb,
    now_ns: u64,
    schedule: &'a Schedule,
    effects: &'a Effects,
    state: ClassState,
    streams: RandomStreams,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    fn of(skb: &'a Skb, now_ns: u64, is_duplicate: bool) -> Option<Self> {
        let class = target::class(skb);
        let schedule = schedule::of(class)?;
        let effects = schedule::effects(schedule, now_ns, is_duplicate)?;
        Some(Self {
            skb,
            now_ns,
            schedule,
            effects,
            state: ClassState::of(class)?,
            streams: RandomStreams::new(0, 0),
        })
    }

    #[inline(always)]
    fn outcome(mut self, is_duplicate: bool) -> Outcome {
        let is_duplicated = !is_duplicate && self.is_duplicated();
        let number = self.state.packets().fetch_add(1);
        self.streams = RandomStreams::new(self.schedule.seed, number);
        let is_lost = uses(uses::LOSS) && self.effects.loses(self.state.chain(), number, self.streams);
        if is_lost && !self.is_marked(self.effects.loss_ecn != 0) {
            // Of a packet and its duplicate one is lost, and it does not matter which (`netem_enqueue`, Linux 6.1).
            if !is_duplicated {
                return Outcome::Lose;
            }
        } else if is_duplicated {
            self.duplicate();
        }
        if uses(uses::CORRUPTION)
            && self.effects.corrupt != 0
            && self.effects.corrupts(self.state.chain(), self.streams)
        {
            self.corrupt();
        }
        if !uses(uses::WAITING) || !self.effects.waits() && self.nothing_waits() {
            return Outcome::Pass;
        }
        self.departure_ns(is_lost).map_or(Outcome::Overflow, |departure_ns| self.wait(departure_ns))
    }

    /// Returns true if no packet before it waits.
    #[inline(always)]
    fn nothing_waits(&self) -> bool {
        self.state.departure_ns().load() + LATE_NS <= self.now_ns
    }

    #[inline(always)]
    fn is_duplicated(&self) -> bool {
        if !uses(uses::DUPLICATION) || self.effects.duplicate == 0 {
            return false;
        }
        let streams = RandomStreams::new(self.schedule.seed, self.state.arrivals().fetch_add(1));
        self.effects.duplicates(self.state.chain(), streams)
    }

    /// Marks the packet if `asked` and if its sender uses ECN. Returns true if it did.
    #[inline(always)]
    fn is_marked(&self, asked: bool) -> bool {
        let is_marked = uses(uses::MARKING) && asked && self.skb.mark();
        if is_marked {
            counters::marked(self.skb);
        }
        is_marked
    }

    #[inline(always)]
    fn duplicate(&self) {
        if self.skb.is_list() {
            counters::skipped(self.skb);
        } else if self.skb.duplicate() {
            counters::duplicated(self.skb);
        }
    }

    #[inline(always)]
    fn corrupt(&self) {
        let bit = self.streams.number(RandomStream::CorruptBit);
        match self.skb.corrupt(bit, self.effects.corrupt_fixes_checksums != 0) {
            Corruption::Done => counters::corrupted(self.skb),
            Corruption::Skipped => counters::skipped(self.skb),
            Corruption::Nothing => {}
        }
    }

    /// Returns the departure; none where the bottleneck's queue is full, or slots are.
    #[inline(always)]
    fn departure_ns(&self, is_marked: bool) -> Option<u64> {
        let ready_ns = self.skb.ready_ns(self.now_ns);
        let carried_ns = self.carried_ns(ready_ns, is_marked)?;
        if !self.effects.delays() && carried_ns <= self.now_ns + SOON_NS && self.nothing_waits() {
            return Some(self.now_ns);
        }
        let reorders = uses(uses::REORDERING) && self.effects.reorders(self.state.chain(), self.streams);
        let departure_ns = if reorders {
            counters::reordered(self.skb);
            self.skb.leave_flow();
            self.slotted_ns(carried_ns)?
        } else {
            let delay_ns = match uses(uses::JITTER) {
                true => self.effects.delay_ns(self.state.chain(), carried_ns, self.streams, schedule::time),
                false => self.effects.delay_ns,
            };
            let departure_ns = self.slotted_ns(carried_ns + delay_ns)?;
            match uses(uses::JITTER) && self.effects.unordered != 0 {
                false => self.state.depart(departure_ns, self.effects.early_ns()),
                true => {
                    self.skb.leave_flow();
                    departure_ns
                }
            }
        };
        if uses(uses::BOTTLENECK) && departure_ns > ready_ns {
            bottleneck::note(self.schedule, self.state, departure_ns);
        }
        Some(departure_ns)
    }

    /// Returns the time at which the bottleneck has carried the packet.
    #[inline(always)]
    fn carried_ns(&self, ready_ns: u64, is_marked: bool) -> Option<u64> {
        if !uses(uses::BOTTLENECK) || !self.effects.has_bottleneck() {
            return Some(ready_ns);
        }
        let bytes = self.effects.wire_bytes(self.skb.wire_bytes(), self.skb.gso_segments());
        match bottleneck::carry(self.effects, self.schedule, self.state, bytes, ready_ns, self.streams) {
            Carried::At { at_ns, marked } => {
                self.is_marked(marked && !is_marked);
                Some(at_ns)
            }
            Carried::Overflow => None,
        }
    }

    /// Returns the departure of a packet that is due at `departure_ns`: its slot's, where there are slots.
    #[inline(always)]
    fn slotted_ns(&self, departure_ns: u64) -> Option<u64> {
        match uses(uses::SLOTS) && self.effects.slots != 0 {
            false => Some(departure_ns),
            true => {
                let (state, bytes) = (self.state.chain(), self.skb.wire_bytes());
                let times_ns = (self.now_ns, departure_ns);
                self.effects.slotted_ns(state, times_ns, bytes, self.streams, schedule::time)
            }
        }
    }

    #[inline(always)]
    fn wait(&self, departure_ns: u64) -> Outcome {
        if departure_ns <= self.now_ns && self.nothing_waits() {
            return Outcome::Pass;
        }
        let mut orphan_failed = false;
        if self.effects.orphan != 0 && self.skb.must_be_orphaned(departure_ns, self.now_ns) {
            match self.skb.orphan_until(queue::apart_ns(departure_ns, false)) {
                Sent::Queued => return Outcome::Replaced,
                Sent::Dropped => return Outcome::Refused,
                Sent::Failed => orphan_failed = true,
            }
        }
        if departure_ns <= self.now_ns {
            return Outcome::Pass;
        }
        let departure_ns = queue::apart_ns(departure_ns, self.skb.is_charged());
        Outcome::Delay { departure_ns, orphan_failed }
    }
}
