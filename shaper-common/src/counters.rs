//! The program's counters: one tally per outcome.

use core::ops::{Add, AddAssign};

use super::plain;

/// Packets and their bytes; a GSO packet counts as the segments it carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets, as they are on the wire.
    pub packets: u64,
    /// Bytes with link-layer headers, as qdiscs count them (`qdisc_pkt_len_init`).
    pub bytes: u64,
}

plain!(Tally, u64, u64);

impl AddAssign for Tally {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        // Wrapping, as counters do: BPF has nobody to tell of an overflow.
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

/// The outcomes of one CPU; every packet is in exactly one of `passed`, `delayed`, `lost` and `overflowed`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Passed at once.
    pub passed: Tally,
    /// Stamped with a later departure.
    pub delayed: Tally,
    /// Dropped by the policy's loss.
    pub lost: Tally,
    /// Dropped for another reason, and part of `delayed`: the queue, or a classifier behind ours, refused them when they
    /// left their socket. The queue's own counters have all that it dropped.
    pub refused: Tally,
    /// Dropped as the queue of the policy's bottleneck was full; part of none of the others.
    pub overflowed: Tally,
    /// Marked with CE rather than dropped or on their way through the bottleneck's queue (ECN, RFC 3168); part of the others.
    pub marked: Tally,
    /// Sent a second time; each copy is part of the others as well.
    pub duplicated: Tally,
    /// Sent with one bit turned; part of the others.
    pub corrupted: Tally,
    /// Not delayed while others were, to overtake them; part of `passed`.
    pub reordered: Tally,
    /// Due to be corrupted or duplicated, but sent as they were because the kernel could not bear it; part of the others.
    pub skipped: Tally,
    /// Passed unshaped, and part of `passed`, because the policy in the map is not one that can be carried out.
    pub invalid_policy: u64,
    /// Delayed without leaving their socket first, and part of `delayed`, because the kernel had no memory for it.
    pub orphan_failed: u64,
}

plain!(Counters, [Tally; 10], u64, u64);

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.delayed += other.delayed;
        self.lost += other.lost;
        self.refused += other.refused;
        self.overflowed += other.overflowed;
        self.marked += other.marked;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.reordered += other.reordered;
        self.skipped += other.skipped;
        self.invalid_policy = self.invalid_policy.wrapping_add(other.invalid_policy);
        self.orphan_failed = self.orphan_failed.wrapping_add(other.orphan_failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_two_cpus_add_up() {
        let one =
            Counters { lost: Tally { packets: 1, bytes: 60 }, invalid_policy: 2, ..Counters::default() };
        let mut sum = one;
        sum += one;
        assert_eq!(sum.lost, Tally { packets: 2, bytes: 120 });
        assert_eq!(sum.invalid_policy, 4);
        assert_eq!(sum.passed, Tally::default());
    }
}
