//! The position of a schedule by the clock, and the effects at that time.

use super::policy::{Effects, Schedule, Step};

/// A whole in fractions: 2^24.
const WHOLE: u64 = 1 << 24;

impl Schedule {
    /// Returns the position at `now_ns`, in nanoseconds from its beginning or that of its present turn.
    #[inline(always)]
    pub const fn position_ns(&self, now_ns: u64) -> u64 {
        let since_ns = now_ns.saturating_sub(self.begins_at_ns);
        if self.period_ns == 0 { since_ns } else { since_ns % self.period_ns }
    }
}

/// The number, among `count` steps, of the one at `position_ns` of a schedule; `ends_ns` says when a step ends. The last one
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
    /// Returns the share of it that is over at `position_ns` of its schedule, of 2^24.
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
        same!(slot_distribution_length, trace, trace_length, slots, orphan);
    }
}

/// Interpolates between two numbers below 2^39.
#[inline(always)]
const fn between(from: u64, to: u64, over: u64) -> u64 {
    let (from, to) = (from.cast_signed(), to.cast_signed());
    (from + (((to - from) * over.cast_signed()) >> 24)).cast_unsigned()
}

#[inline(always)]
const fn between_u32(from: u32, to: u32, over: u64) -> u32 {
    between(from as u64, to as u64, over) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    const NEVER: u64 = u64::MAX;

    fn at(ends_ns: &[u64], position_ns: u64) -> u32 {
        step_at(ends_ns.len() as u32, position_ns, |step| ends_ns[step as usize])
    }

    /// The first step that has not ended yet, or the last one.
    fn naive(ends_ns: &[u64], position_ns: u64) -> u32 {
        let place = ends_ns.iter().position(|ends| *ends > position_ns);
        place.unwrap_or(ends_ns.len() - 1) as u32
    }

    /// Effects of which all numbers that can be between are `number`.
    fn all(number: u32) -> Effects {
        let long = u64::from(number);
        Effects {
            delay_ns: long,
            jitter_ns: long,
            rate: long,
            queue_ns: long,
            queue_bytes: long,
            mark_ns: long,
            mark_bytes: long,
            loss: [number; 5],
            duplicate: number,
            corrupt: number,
            reorder: number,
            queue_packets: number,
            mark_packets: number,
            ..Effects::default()
        }
    }

    /// Effects of which nothing can be between.
    fn kinds(number: u32) -> Effects {
        let (long, signed) = (u64::from(number), number.cast_signed());
        Effects {
            slot_ns: long,
            slot_jitter_ns: long,
            distribution: number,
            distribution_length: number,
            jitter_correlation: number,
            unordered: number,
            loss_model: number,
            loss_ecn: number,
            duplicate_correlation: number,
            corrupt_correlation: number,
            corrupt_fixes_checksums: number,
            reorder_correlation: number,
            reorder_gap: number,
            overhead: signed,
            cell_bytes: number,
            cell_overhead: signed,
            slot_packets: number,
            slot_bytes: number,
            slot_distribution: number,
            slot_distribution_length: number,
            trace: number,
            trace_length: number,
            slots: number,
            orphan: number,
            ..Effects::default()
        }
    }

    fn between_of(from: &Effects, to: &Effects, over: u64) -> Effects {
        // What was there before must not shine through.
        let mut effects = Effects { orphan: 77, overhead: -77, ..all(77) };
        effects.set_between(from, to, over);
        effects
    }

    #[test]
    fn a_step_ends_when_the_next_one_begins() {
        let ends_ns = [10, 20, NEVER];
        assert_eq!([0, 9, 10, 19, 20, NEVER - 1].map(|position| at(&ends_ns, position)), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_last_step_stays_even_if_it_ends() {
        assert_eq!(at(&[10, 20], 20), 1);
        assert_eq!(at(&[10], NEVER), 0);
    }

    #[test]
    fn each_of_the_most_steps_is_found() {
        for position in 0..crate::policy::MAX_STEPS {
            let found = step_at(crate::policy::MAX_STEPS, position.into(), |step| u64::from(step) + 1);
            assert_eq!(found, position);
        }
    }

    #[test]
    fn a_schedule_that_has_not_begun_is_at_its_beginning() {
        let schedule = Schedule { begins_at_ns: 100, ..Schedule::default() };
        assert_eq!(schedule.position_ns(99), 0);
        assert_eq!(schedule.position_ns(100), 0);
    }

    #[test]
    fn a_schedule_begins_anew_after_its_period() {
        let schedule = Schedule { begins_at_ns: 100, period_ns: 30, ..Schedule::default() };
        assert_eq!([100, 129, 130, 191].map(|now| schedule.position_ns(now)), [0, 29, 0, 1]);
        let once = Schedule { period_ns: 0, ..schedule };
        assert_eq!(once.position_ns(191), 91);
    }

    #[test]
    fn effects_between_two_are_the_first_at_the_beginning_and_the_second_at_the_end() {
        for (from, to) in [(all(0), all(u32::MAX)), (all(u32::MAX), all(0)), (all(3), all(3))] {
            assert_eq!(between_of(&from, &to, 0), from);
            assert_eq!(between_of(&from, &to, WHOLE), to);
        }
        assert_eq!(between_of(&all(100), &all(200), WHOLE / 4), all(125));
        assert_eq!(between_of(&all(200), &all(100), WHOLE / 4), all(175));
    }

    #[test]
    fn what_cannot_be_between_stays_as_it_was() {
        for over in [0, WHOLE / 2, WHOLE] {
            assert_eq!(between_of(&kinds(5), &kinds(9), over), kinds(5));
        }
    }

    proptest! {
        #[test]
        fn a_step_is_the_first_that_has_not_ended(lasts in prop::collection::vec(0_u64..1 << 50, 1..300), place: prop::sample::Index, off in -1_i64..=1) {
            let ends_ns: Vec<u64> = lasts.iter().scan(0, |sum, it| { *sum += it; Some(*sum) }).collect();
            let position_ns = ends_ns[place.index(ends_ns.len())].saturating_add_signed(off);
            prop_assert_eq!(at(&ends_ns, position_ns), naive(&ends_ns, position_ns));
        }

        #[test]
        fn a_step_is_over_from_nothing_to_the_whole(begins_ns in 0_u64..1 << 61, lasts_ns in 1_u64..1 << 61, one: u64, other: u64) {
            let step = Step { ends_ns: begins_ns + lasts_ns, lasts_ns, ..Step::default() };
            prop_assert_eq!(step.over(begins_ns), 0);
            prop_assert_eq!(step.over(step.ends_ns), WHOLE);
            let (one, other) = (one % lasts_ns, other % lasts_ns);
            let [less, more] = [one.min(other), one.max(other)].map(|part_ns| step.over(begins_ns + part_ns));
            prop_assert!(less <= more && more <= WHOLE);
            let exact = u128::from(one) * u128::from(WHOLE) / u128::from(lasts_ns);
            let found = u128::from(step.over(begins_ns + one));
            // A step of more than 2^40 ns, 18 minutes, is over to a 65,536th, which is never late.
            prop_assert!(exact <= found && found <= exact + (exact >> 16) + 1);
        }

        #[test]
        fn no_step_is_too_much(ends_ns: u64, lasts_ns: u64, position_ns: u64) {
            let step = Step { ends_ns, lasts_ns, ..Step::default() };
            prop_assert!(step.over(position_ns) <= WHOLE);
        }

        #[test]
        fn a_number_between_two_is_between_them(from in 0_u64..1 << 39, to in 0_u64..1 << 39, over in 0..=WHOLE) {
            let found = between(from, to, over);
            prop_assert!((from.min(to)..=from.max(to)).contains(&found));
            let exact = i128::from(from) + (i128::from(to) - i128::from(from)) * i128::from(over) / i128::from(WHOLE);
            prop_assert!((i128::from(found) - exact).abs() <= 1);
        }

        #[test]
        fn a_schedule_is_always_within_its_period(begins_at_ns in 0_u64..1 << 62, period_ns in 1_u64..1 << 62, now_ns in 0_u64..1 << 62) {
            let schedule = Schedule { begins_at_ns, period_ns, ..Schedule::default() };
            let position_ns = schedule.position_ns(now_ns);
            prop_assert!(position_ns < period_ns);
            if now_ns >= begins_at_ns {
                prop_assert_eq!((now_ns - begins_at_ns - position_ns) % period_ns, 0);
            }
        }
    }
}
