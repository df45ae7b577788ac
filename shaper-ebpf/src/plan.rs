//! What becomes of a packet where there is a plan: all effects, by target and by time.
//!
//! A packet's fate is decided once, in the order in which a network would: it comes twice, is lost, is corrupt, waits for
//! the link, is delayed behind it, and waits for its slot. Only then does it leave its socket, if it has to wait: the copy
//! that takes its place has its departure with it.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::TcContext};
use shaper_common::{
    Policy,
    draws::{Draws, Purpose},
    plan::{Course, Effects},
};

use crate::{
    Outcome, corrupt,
    corrupt::Corruption,
    counters, course, link,
    link::Carried,
    packet,
    packet::{Note, Orphaned},
    state::Shared,
    target,
};

/// Decides on a packet by the plan.
#[inline(always)]
pub(crate) fn outcome(ctx: &TcContext, policy: &Policy) -> Outcome {
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let note = packet::take_note(ctx);
    if let Note::Departure(departure_ns) = note {
        return Outcome::Delay { departure_ns, orphan_failed: false };
    }
    if policy.has_expired(now_ns) {
        return Outcome::Pass;
    }
    let is_duplicate = matches!(note, Note::Duplicate);
    let found = Packet::of(ctx, now_ns, is_duplicate);
    found.map_or(Outcome::Pass, |packet| packet.outcome(is_duplicate))
}

/// A packet, and what is to be done to those of its class.
struct Packet<'a> {
    ctx: &'a TcContext,
    now_ns: u64,
    course: &'a Course,
    effects: &'a Effects,
    state: Shared,
    draws: Draws,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    fn of(ctx: &'a TcContext, now_ns: u64, is_duplicate: bool) -> Option<Self> {
        let class = target::class(ctx);
        let course = course::of(class)?;
        let effects = course::effects(course, now_ns, is_duplicate)?;
        Some(Self { ctx, now_ns, course, effects, state: Shared::of(class)?, draws: Draws::new(0, 0) })
    }

    #[inline(always)]
    fn outcome(mut self, is_duplicate: bool) -> Outcome {
        if !is_duplicate && self.effects.duplicate != 0 {
            let draws = Draws::new(self.course.seed, self.state.arrivals().add(1));
            if self.effects.duplicates(self.state.chain(), draws) {
                self.duplicate();
            }
        }
        let number = self.state.packets().add(1);
        self.draws = Draws::new(self.course.seed, number);
        let is_lost = self.effects.loses(self.state.chain(), number, self.draws);
        if is_lost && !self.is_marked(self.effects.loss_ecn != 0) {
            return Outcome::Lose;
        }
        if self.effects.corrupt != 0 && self.effects.corrupts(self.state.chain(), self.draws) {
            self.corrupt();
        }
        // Nothing waits, nor does anything before it.
        if !self.effects.waits() && self.state.departure_ns().value() <= self.now_ns {
            return Outcome::Pass;
        }
        self.departure_ns(is_lost).map_or(Outcome::Overflow, |departure_ns| self.wait(departure_ns))
    }

    /// Marks the packet, if it is to be; says whether it is marked.
    #[inline(always)]
    fn is_marked(&self, is_to_be: bool) -> bool {
        let is_marked = is_to_be && packet::mark(self.ctx);
        if is_marked {
            counters::marked(self.ctx);
        }
        is_marked
    }

    #[inline(always)]
    fn duplicate(&self) {
        if packet::is_list(self.ctx) {
            counters::skipped(self.ctx);
        } else if packet::duplicate(self.ctx) {
            counters::duplicated(self.ctx);
        }
    }

    #[inline(always)]
    fn corrupt(&self) {
        let bit = self.draws.number(Purpose::CorruptBit);
        match corrupt::corrupt(self.ctx, bit, self.effects.corrupt_fixes_checksums != 0) {
            Corruption::Done => counters::corrupted(self.ctx),
            Corruption::Skipped => counters::skipped(self.ctx),
            Corruption::Nothing => {}
        }
    }

    /// When it departs; not at all where the link's queue is full, or slots are.
    #[inline(always)]
    fn departure_ns(&self, is_marked: bool) -> Option<u64> {
        let carried_ns = self.carried_ns(is_marked)?;
        let departure_ns = if self.effects.reorders(self.state.chain(), self.draws) {
            counters::reordered(self.ctx);
            self.slotted_ns(carried_ns)?
        } else {
            let delay_ns = self.effects.delay_ns(self.state.chain(), self.draws, course::time);
            let departure_ns = self.slotted_ns(carried_ns + delay_ns)?;
            match self.effects.unordered {
                0 => self.state.depart(departure_ns, self.effects.early_ns()),
                _ => departure_ns,
            }
        };
        link::note(self.course, self.state, departure_ns);
        Some(departure_ns)
    }

    /// When the link has carried it.
    #[inline(always)]
    fn carried_ns(&self, is_marked: bool) -> Option<u64> {
        let ready_ns = packet::ready_ns(self.ctx, self.now_ns);
        if !self.effects.has_link() {
            return Some(ready_ns);
        }
        let bytes = self.effects.wire_bytes(packet::wire_bytes(self.ctx), packet::gso_segments(self.ctx));
        match link::carry(self.effects, self.course, self.state, bytes, ready_ns, self.draws) {
            Carried::At { at_ns, marked } => {
                self.is_marked(marked && !is_marked);
                Some(at_ns)
            }
            Carried::Overflow => None,
        }
    }

    /// When it departs that is due at `departure_ns`, where packets depart in slots.
    #[inline(always)]
    fn slotted_ns(&self, departure_ns: u64) -> Option<u64> {
        match self.effects.slots {
            0 => Some(departure_ns),
            _ => {
                let (state, bytes) = (self.state.chain(), packet::wire_bytes(self.ctx));
                let times_ns = (self.now_ns, departure_ns);
                self.effects.slotted_ns(state, times_ns, bytes, self.draws, course::time)
            }
        }
    }

    #[inline(always)]
    fn wait(&self, departure_ns: u64) -> Outcome {
        if departure_ns <= self.now_ns {
            return Outcome::Pass;
        }
        let waits_ns = departure_ns - self.now_ns;
        let mut orphan_failed = false;
        if self.effects.orphan != 0 && packet::must_leave_its_socket(self.ctx, waits_ns, self.now_ns) {
            match packet::replace(self.ctx, departure_ns) {
                Orphaned::Sent => return Outcome::Replaced,
                Orphaned::Dropped => return Outcome::Refused,
                Orphaned::Failed => orphan_failed = true,
            }
        }
        Outcome::Delay { departure_ns, orphan_failed }
    }
}
