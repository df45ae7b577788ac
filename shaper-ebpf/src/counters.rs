//! Counters of outcomes, one tally each, in the slot of the CPU that runs.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use shaper_common::{Counters, Tally};

use crate::{log, own, skb::Skb};

#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Counts a packet that passed.
#[inline(always)]
pub(crate) fn passed(skb: &Skb) {
    count(|counters| counters.passed += skb.tally());
}

/// Counts a packet that passed because its policy is invalid.
#[inline(always)]
pub(crate) fn invalid_policy(skb: &Skb) {
    count(|counters| {
        counters.passed += skb.tally();
        counters.invalid_policy += 1;
        log::failures(skb, counters, counters.invalid_policy);
    });
}

/// Counts a packet that waits.
#[inline(always)]
pub(crate) fn delayed(skb: &Skb, orphan_failed: bool) {
    count(|counters| {
        counters.delayed += skb.tally();
        if orphan_failed {
            counters.orphan_failed += 1;
            log::failures(skb, counters, counters.orphan_failed);
        }
    });
}

/// Counts a packet that is lost.
#[inline(always)]
pub(crate) fn lost(skb: &Skb) {
    count(|counters| counters.lost += skb.tally());
}

/// Counts a packet that the bottleneck's queue had no room for.
#[inline(always)]
pub(crate) fn overflowed(skb: &Skb) {
    count(|counters| counters.overflowed += skb.tally());
}

/// Counts a packet that was marked instead of lost, or by the bottleneck's queue.
#[inline(always)]
pub(crate) fn marked(skb: &Skb) {
    count(|counters| counters.marked += skb.tally());
}

/// Counts a packet that was duplicated.
#[inline(always)]
pub(crate) fn duplicated(skb: &Skb) {
    count(|counters| counters.duplicated += skb.tally());
}

/// Counts a packet with a flipped bit.
#[inline(always)]
pub(crate) fn corrupted(skb: &Skb) {
    count(|counters| counters.corrupted += skb.tally());
}

/// Counts a packet that overtakes others.
#[inline(always)]
pub(crate) fn reordered(skb: &Skb) {
    count(|counters| counters.reordered += skb.tally());
}

/// Counts a packet that was to be corrupted or duplicated, and was left alone.
#[inline(always)]
pub(crate) fn skipped(skb: &Skb) {
    count(|counters| counters.skipped += skb.tally());
}

/// Counts a packet that something behind the classifier dropped.
#[inline(always)]
pub(crate) fn refused(skb: &Skb) {
    count(|counters| {
        counters.refused += skb.tally();
        log::failures(skb, counters, counters.refused.packets);
    });
}

#[inline(always)]
fn count(add: impl FnOnce(&mut Counters)) {
    // Not while a copy is sent, which counts, too.
    if let Some(counters) = own::entry(&COUNTERS, 0) {
        add(counters);
    }
}

const _: () = assert!(size_of::<Tally>() == 16);
