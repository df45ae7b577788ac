//! What is to be done at a time: where a course is by the clock.

use super::plan::{Course, Effects, Step};

/// A whole in fractions: 2^24.
const WHOLE: u64 = 1 << 24;

impl Course {
    /// How far it is at `now_ns`, in nanoseconds from its beginning or that of its present turn.
    #[inline(always)]
    pub const fn position_ns(&self, now_ns: u64) -> u64 {
        let since_ns = now_ns.saturating_sub(self.begins_at_ns);
        if self.period_ns == 0 { since_ns } else { since_ns % self.period_ns }
    }
}

/// The number, among `count` steps, of the one at `position_ns` of a course; `ends_ns` says when a step ends. The last one
/// stays.
#[inline(always)]
pub fn step_at(count: u32, position_ns: u64, ends_ns: impl Fn(u32) -> u64) -> u32 {
    let (mut low, mut high) = (0, count.saturating_sub(1));
    // As many halves as MAX_STEPS has.
    for _ in 0..16 {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        if ends_ns(middle) <= position_ns {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl Step {
    /// How much of it is over at `position_ns` of its course, of 2^24.
    #[inline(always)]
    pub const fn over(&self, position_ns: u64) -> u64 {
        if self.lasts_ns == 0 {
            return 0;
        }
        let part_ns = self.lasts_ns.saturating_sub(self.ends_ns.saturating_sub(position_ns));
        let over = if self.lasts_ns < 1 << 40 {
            part_ns * WHOLE / self.lasts_ns
        } else {
            part_ns / (self.lasts_ns >> 24)
        };
        if over < WHOLE { over } else { WHOLE }
    }
}

impl Effects {
    /// Becomes what is between two steps when `over` of 2^24 is over: all numbers that can be, the rest as in `from`.
    #[inline(always)]
    pub const fn set_between(&mut self, from: &Self, to: &Self, over: u64) {
        macro_rules! each {
            ($between:ident: $($field:ident $([$index:literal])?),+) => {
                $(self.$field $([$index])? = $between(from.$field $([$index])?, to.$field $([$index])?, over);)+
            };
        }
        macro_rules! same {
            ($($field:ident),+) => {
                $(self.$field = from.$field;)+
            };
        }
        each!(between: delay_ns, jitter_ns, rate, queue_ns, queue_bytes, mark_ns, mark_bytes);
        each!(between_u32: loss[0], loss[1], loss[2], loss[3], loss[4]);
        each!(between_u32: duplicate, corrupt, reorder, queue_packets, mark_packets);
        same!(
            slot_ns,
            slot_jitter_ns,
            distribution,
            distribution_length,
            jitter_correlation,
            unordered,
            loss_model
        );
        same!(
            loss_ecn,
            duplicate_correlation,
            corrupt_correlation,
            corrupt_fixes_checksums,
            reorder_correlation
        );
        same!(reorder_gap, overhead, cell_bytes, cell_overhead, slot_packets, slot_bytes, slot_distribution);
        same!(slot_distribution_length, deliveries, deliveries_length, slots, orphan);
    }
}

/// What is between two numbers below 2^39.
#[inline(always)]
const fn between(from: u64, to: u64, over: u64) -> u64 {
    let (from, to) = (from.cast_signed(), to.cast_signed());
    (from + (((to - from) * over.cast_signed()) >> 24)).cast_unsigned()
}

#[inline(always)]
const fn between_u32(from: u32, to: u32, over: u64) -> u32 {
    between(from as u64, to as u64, over) as u32
}
