//! The parts of the program that a policy uses. They are a constant of its program, so the kernel verifies and keeps no
//! others.

use super::policy::{Effects, LOSS_NONE, Step};

/// Losses.
pub const LOSS: u32 = 1;
/// Duplicates.
pub const DUPLICATION: u32 = 1 << 1;
/// Turned bits.
pub const CORRUPTION: u32 = 1 << 2;
/// Packets that are not delayed.
pub const REORDERING: u32 = 1 << 3;
/// Delays that differ.
pub const JITTER: u32 = 1 << 4;
/// A bottleneck.
pub const BOTTLENECK: u32 = 1 << 5;
/// A bottleneck with a delivery trace.
pub const TRACE: u32 = 1 << 6;
/// Slots.
pub const SLOTS: u32 = 1 << 7;
/// Packets that wait, whatever for.
pub const WAITING: u32 = 1 << 8;
/// Marks in the place of losses, or of a full queue (ECN).
pub const MARKING: u32 = 1 << 9;
/// Effects that change with time.
pub const STEPS: u32 = 1 << 10;
/// The number of combinations.
pub const COMBINATIONS: usize = 1 << 11;

impl Effects {
    const fn uses(&self) -> u32 {
        let mut uses = 0;
        let parts = [
            (LOSS, self.loss_model != LOSS_NONE),
            (DUPLICATION, self.duplicate != 0),
            (CORRUPTION, self.corrupt != 0),
            (REORDERING, self.reorder != 0),
            (JITTER, self.jitter_ns != 0 || self.unordered != 0),
            (BOTTLENECK, self.has_bottleneck()),
            (TRACE, self.trace_length != 0),
            (SLOTS, self.slots != 0),
            (WAITING, self.waits()),
            (
                MARKING,
                self.loss_ecn != 0 || self.mark_ns != 0 || self.mark_bytes != 0 || self.mark_packets != 0,
            ),
        ];
        let mut number = 0;
        while number < parts.len() {
            if parts[number].1 {
                uses |= parts[number].0;
            }
            number += 1;
        }
        uses
    }
}

/// Returns what a policy uses whose schedules have these steps, `is_constant` if each schedule has a single one.
pub fn of(steps: &[Step], is_constant: bool) -> u32 {
    let changes = !is_constant || steps.iter().any(|step| step.ramp != 0);
    let uses = steps.iter().fold(0, |uses, step| uses | step.effects.uses());
    if changes { uses | STEPS } else { uses }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_bit_of_its_own() {
        let parts = [
            LOSS,
            DUPLICATION,
            CORRUPTION,
            REORDERING,
            JITTER,
            BOTTLENECK,
            TRACE,
            SLOTS,
            WAITING,
            MARKING,
            STEPS,
        ];
        let all = parts.iter().sum::<u32>();
        assert_eq!(all as usize + 1, COMBINATIONS);
    }

    #[test]
    fn a_policy_uses_what_any_of_its_steps_does() {
        let lossy = Effects { loss_model: 1, ..Effects::default() };
        let slow = Effects { delay_ns: 1, jitter_ns: 1, ..Effects::default() };
        let steps = [lossy, slow].map(|effects| Step { effects, ..Step::default() });
        assert_eq!(of(&steps, true), LOSS | JITTER | WAITING);
        assert_eq!(of(&steps[..1], false), LOSS | STEPS);
        let ramp = Step { ramp: 1, ..steps[0] };
        assert_eq!(of(&[ramp], true), LOSS | STEPS);
        assert_eq!(of(&[], true), 0);
    }
}
