//! The fate of a packet: drawn losses, duplicates, corruption and reordering, and slots.

use super::{
    MAX_DELAY_NS,
    jitter::{delay, spread},
    policy::{Effects, LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_NONE, LOSS_RANDOM, State},
    random::{RandomStream, RandomStreams, happens, happens_again, part, share},
    shaping::early_ns,
};

const DUPLICATED: u32 = 1;
const LOST: u32 = 2;
const CORRUPTED: u32 = 4;
const REORDERED: u32 = 8;

const GOOD: u32 = 0;
const BAD: u32 = 1;

// As Salsano et al. number them, but from 0, so that a state never used before is the first.
const GAP: u32 = 0;
const BURST: u32 = 1;
const LOST_IN_BURST: u32 = 2;
const LOST_IN_GAP: u32 = 3;

impl Effects {
    /// Returns true if the packet is duplicated.
    #[inline(always)]
    pub fn duplicates(&self, state: &mut State, streams: RandomStreams) -> bool {
        let random = streams.wide_number(RandomStream::Duplicate);
        draw(state, DUPLICATED, self.duplicate, self.duplicate_correlation, random)
    }

    /// Returns true if the packet, which is number `number`, is lost.
    ///
    /// Gilbert-Elliott and the model of four states are netem's (`loss_gilb_ell` and `loss_4state`, Linux 6.1, after
    /// Salsano, Ludovici and Ordine: Definition of a general and intuitive loss model, 2009). In Gilbert-Elliott the state
    /// before its change says whether the packet is lost, in the other the one after it. Where netem's four states have
    /// gaps between their comparisons (a number that equals a limit) or sums of 32 bits that wrap (p13 + p14 beyond one),
    /// these have none: what exceeds one is taken from the probability named last.
    #[inline(always)]
    pub fn loses(&self, state: &mut State, number: u64, streams: RandomStreams) -> bool {
        match self.loss_model {
            LOSS_NONE => false,
            LOSS_RANDOM => {
                draw(state, LOST, self.loss[0], self.loss[1], streams.wide_number(RandomStream::Loss))
            }
            LOSS_GEMODEL => self.loses_by_gemodel(state, streams),
            LOSS_MARKOV => self.loses_by_markov(state, streams),
            LOSS_EVERY => (number + 1).checked_rem(self.loss[0] as u64) == Some(0),
            _ => false,
        }
    }

    #[inline(always)]
    fn loses_by_gemodel(&self, state: &mut State, streams: RandomStreams) -> bool {
        let [p, r, lost_in_bad, lost_in_good, _] = self.loss;
        let (lost, change, other) =
            if state.loss_state == BAD { (lost_in_bad, r, GOOD) } else { (lost_in_good, p, BAD) };
        if happens(change, streams.number(RandomStream::LossState)) {
            state.loss_state = other;
        }
        happens(lost, streams.number(RandomStream::Loss))
    }

    #[inline(always)]
    fn loses_by_markov(&self, state: &mut State, streams: RandomStreams) -> bool {
        let [p13, p31, p32, p23, p14] = self.loss;
        let random = streams.number(RandomStream::LossState) as u64;
        state.loss_state = match state.loss_state {
            GAP if random < share(p14) => LOST_IN_GAP,
            GAP if random < share(p14) + share(p13) => LOST_IN_BURST,
            BURST if random < share(p23) => LOST_IN_BURST,
            LOST_IN_BURST if random < share(p32) => BURST,
            LOST_IN_BURST if random < share(p32) + share(p31) => GAP,
            LOST_IN_GAP => GAP,
            same => same,
        };
        state.loss_state == LOST_IN_BURST || state.loss_state == LOST_IN_GAP
    }

    /// Returns true if a bit of the packet is flipped.
    #[inline(always)]
    pub fn corrupts(&self, state: &mut State, streams: RandomStreams) -> bool {
        let random = streams.wide_number(RandomStream::Corrupt);
        draw(state, CORRUPTED, self.corrupt, self.corrupt_correlation, random)
    }

    /// Returns true if the packet is not delayed.
    ///
    /// The gap is netem's (`netem_enqueue`, Linux 6.1): so many packets less one are delayed for certain.
    #[inline(always)]
    pub fn reorders(&self, state: &mut State, streams: RandomStreams) -> bool {
        if self.reorder == 0 {
            return false;
        }
        if state.since_reorder < self.reorder_gap.saturating_sub(1) {
            state.since_reorder += 1;
            return false;
        }
        let random = streams.wide_number(RandomStream::Reorder);
        let reorders = draw(state, REORDERED, self.reorder, self.reorder_correlation, random);
        state.since_reorder = if reorders { 0 } else { state.since_reorder.saturating_add(1) };
        reorders
    }

    /// The most by which a packet departs early to depart together with the one before it, in nanoseconds (see
    /// [`early_ns`]): not at all where the time between the two is a matter of the effects.
    #[inline(always)]
    pub const fn early_ns(&self) -> u64 {
        let is_plain = self.jitter_ns == 0 && self.rate == 0 && self.trace_length == 0 && self.slots == 0;
        if is_plain { early_ns(self.delay_ns) } else { 0 }
    }

    /// When a packet of `bytes` that came at `now_ns` and is ready at `ready_ns` departs, where packets depart in slots;
    /// not at all where that is further ahead than any delay may be.
    ///
    /// The slots are netem's (`get_slot_next` and `netem_dequeue`, Linux 6.1). The next one opens some time after the one
    /// before it, if that was full, or if the packet came before it opened and is too late for it; else after the packet
    /// came. If that is too early for the packet, it opens some time after the packet is ready.
    #[inline(always)]
    pub fn slotted_ns(
        &self,
        state: &mut State,
        (now_ns, ready_ns): (u64, u64),
        bytes: u32,
        streams: RandomStreams,
        table: impl Fn(u32) -> i32,
    ) -> Option<u64> {
        let random = streams.number(RandomStream::Slot);
        let (entry, length) = (self.slot_distribution, self.slot_distribution_length);
        let next_ns = match length {
            0 => delay(self.slot_ns.cast_signed() + part(random, self.slot_jitter_ns).cast_signed()),
            _ => spread(self.slot_ns, self.slot_jitter_ns, random, entry, length, table),
        };
        if state.slot_at_ns < ready_ns {
            // Whoever waits for the slot before has netem not look at the packet until that opens.
            let nobody_waits = state.slot_packets == 0 || state.slot_at_ns < now_ns;
            let from_ns = if nobody_waits { now_ns } else { state.slot_at_ns };
            let from_ns = if from_ns + next_ns < ready_ns { ready_ns } else { from_ns };
            (state.slot_at_ns, state.slot_packets, state.slot_bytes) = (from_ns + next_ns, 0, 0);
        }
        let departs_ns = state.slot_at_ns;
        if departs_ns - ready_ns > MAX_DELAY_NS {
            return None;
        }
        state.slot_packets = state.slot_packets.saturating_add(1);
        state.slot_bytes = state.slot_bytes.saturating_add(bytes);
        let is_full = self.slot_packets != 0 && state.slot_packets >= self.slot_packets
            || self.slot_bytes != 0 && state.slot_bytes >= self.slot_bytes;
        if is_full {
            (state.slot_at_ns, state.slot_packets, state.slot_bytes) = (departs_ns + next_ns, 0, 0);
        }
        Some(departs_ns)
    }
}

/// Draws what has a probability and a correlation, and remembers it in `bit`.
#[inline(always)]
fn draw(state: &mut State, bit: u32, probability: u32, correlation: u32, random: u64) -> bool {
    if correlation == 0 {
        return happens(probability, (random >> 32) as u32);
    }
    let happens = happens_again(probability, correlation, state.drawn & bit != 0, random);
    state.drawn = if happens { state.drawn | bit } else { state.drawn & !bit };
    happens
}
