//! Delays that vary.

use core::cmp::{max, min};

use super::{
    MAX_DELAY_NS,
    policy::{DISTRIBUTION_SCALE, Effects, State},
    random::{RandomStream, RandomStreams, drawn_again, mix, part},
};

impl Effects {
    /// Returns the delay of a packet that is ready at `ready_ns`, in nanoseconds; `table` is the table of distributions.
    ///
    /// Where packets may overtake one another, each draws its own delay, as netem does (`tabledist`, Linux 6.1, in 64 bits:
    /// there, jitter ends at 2.1 s). Where they keep their order, the delay varies in time, as that of a path does: a draw
    /// holds for two to four times the jitter. The delay rises at once from one draw to the next. It cannot fall faster
    /// than time passes, or packets would overtake: those sent while it falls depart together, at the time at which one
    /// sent midway, when the next draw begins, departs. So mean and spread are those of the distribution at any rate of
    /// packets, and packets further apart than four times the jitter have independent delays.
    #[inline(always)]
    pub fn delay_ns(
        &self,
        state: &mut State,
        ready_ns: u64,
        streams: RandomStreams,
        table: impl Fn(u32) -> i32,
    ) -> u64 {
        if self.jitter_ns == 0 {
            return self.delay_ns;
        }
        let random = streams.wide_number(RandomStream::Jitter);
        if self.unordered != 0 {
            state.jitter = self.draw(state, state.jitter, random);
            state.jitter_ends_ns = ready_ns;
            return self.jittered_ns(state.jitter, &table);
        }
        if state.jitter_ends_ns <= ready_ns {
            self.draw_next(state, ready_ns, random);
        }
        let delay_ns = self.jittered_ns(state.jitter, &table);
        let (before_ns, after_ns) =
            (self.jittered_ns(state.jitter_before, &table), self.jittered_ns(state.jitter_after, &table));
        let mut departure_ns = ready_ns + delay_ns;
        if after_ns < delay_ns {
            departure_ns = min(departure_ns, state.jitter_ends_ns + (delay_ns + after_ns) / 2);
        }
        if before_ns > delay_ns {
            departure_ns = max(departure_ns, state.jitter_begins_ns + (before_ns + delay_ns) / 2);
        }
        departure_ns.saturating_sub(ready_ns)
    }

    /// Lets the next draw hold from the end of the present one on; or from `ready_ns` on if that would be over by then.
    #[inline(always)]
    fn draw_next(&self, state: &mut State, ready_ns: u64, random: u64) {
        if state.jitter_ends_ns == 0 {
            state.jitter_after = (mix(!random) >> 32) as u32;
        }
        let holds_ns = 2 * self.jitter_ns + part((mix(random) >> 32) as u32, 2 * self.jitter_ns);
        let follows = state.jitter_ends_ns + holds_ns > ready_ns;
        state.jitter_before = if follows { state.jitter } else { state.jitter_after };
        state.jitter = state.jitter_after;
        state.jitter_after = self.draw(state, state.jitter, random);
        state.jitter_begins_ns = if follows { state.jitter_ends_ns } else { ready_ns };
        state.jitter_ends_ns = state.jitter_begins_ns + holds_ns;
    }

    /// Draws a random number that equals `last` with the probability that is the correlation.
    #[inline(always)]
    fn draw(&self, state: &State, last: u32, random: u64) -> u32 {
        let correlation = if state.jitter_ends_ns == 0 { 0 } else { self.jitter_correlation };
        drawn_again(correlation, last, random)
    }

    #[inline(always)]
    fn jittered_ns(&self, random: u32, table: impl Fn(u32) -> i32) -> u64 {
        spread(self.delay_ns, self.jitter_ns, random, self.distribution, self.distribution_length, table)
    }
}

/// A time about `mean_ns`, from 0 to the longest delay: within `width_ns` of it, or as a table of `length` entries from
/// `entry` on says, in which [`DISTRIBUTION_SCALE`] stands for `width_ns`.
#[inline(always)]
pub(crate) fn spread(
    mean_ns: u64,
    width_ns: u64,
    random: u32,
    entry: u32,
    length: u32,
    table: impl Fn(u32) -> i32,
) -> u64 {
    let off_ns = if length == 0 {
        part(random, 2 * width_ns).cast_signed() - width_ns.cast_signed()
    } else {
        // netem takes the remainder, which leaves nothing of a correlation. These are quantiles: tables are in order.
        let place = (u64::from(random) * u64::from(length)) >> 32;
        let times = i64::from(table(entry + place as u32));
        let width_ns = width_ns.cast_signed();
        // In two parts, so that no product exceeds 64 bits. BPF has no signed division; a shift rounds down.
        (width_ns >> 13) * times
            + (((width_ns & (DISTRIBUTION_SCALE - 1)) * times + DISTRIBUTION_SCALE / 2) >> 13)
    };
    delay(mean_ns.cast_signed() + off_ns)
}

/// The time, if a packet can be delayed for it; else the shortest or the longest.
#[inline(always)]
pub(crate) const fn delay(time_ns: i64) -> u64 {
    if time_ns < 0 {
        0
    } else if time_ns.cast_unsigned() > MAX_DELAY_NS {
        MAX_DELAY_NS
    } else {
        time_ns.cast_unsigned()
    }
}
