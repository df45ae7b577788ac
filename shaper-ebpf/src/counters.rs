//! Counts outcomes, one tally each, in the slot of the CPU that runs.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map, programs::TcContext};
use shaper_common::{Counters, Tally};

use crate::{log, packet};

#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// The packet passed.
#[inline(always)]
pub(crate) fn passed(ctx: &TcContext) {
    count(|counters| counters.passed += packet::tally(ctx));
}

/// The packet passed, although the policy asks for what cannot be.
#[inline(always)]
pub(crate) fn invalid_policy(ctx: &TcContext) {
    count(|counters| {
        counters.passed += packet::tally(ctx);
        counters.invalid_policy += 1;
        log::invalid_policy(ctx, counters.invalid_policy);
    });
}

/// The packet waits.
#[inline(always)]
pub(crate) fn delayed(ctx: &TcContext, orphan_failed: bool) {
    count(|counters| {
        counters.delayed += packet::tally(ctx);
        if orphan_failed {
            counters.orphan_failed += 1;
            log::orphan_failed(ctx, counters.orphan_failed);
        }
    });
}

/// The packet is lost.
#[inline(always)]
pub(crate) fn lost(ctx: &TcContext) {
    count(|counters| counters.lost += packet::tally(ctx));
}

/// There was no room for the packet.
#[inline(always)]
pub(crate) fn overflowed(ctx: &TcContext) {
    count(|counters| counters.overflowed += packet::tally(ctx));
}

/// The packet is marked rather than lost, or on its way through the link.
#[inline(always)]
pub(crate) fn marked(ctx: &TcContext) {
    count(|counters| counters.marked += packet::tally(ctx));
}

/// The packet was sent a second time.
#[inline(always)]
pub(crate) fn duplicated(ctx: &TcContext) {
    count(|counters| counters.duplicated += packet::tally(ctx));
}

/// A bit of the packet was turned.
#[inline(always)]
pub(crate) fn corrupted(ctx: &TcContext) {
    count(|counters| counters.corrupted += packet::tally(ctx));
}

/// The packet is sent ahead of others.
#[inline(always)]
pub(crate) fn reordered(ctx: &TcContext) {
    count(|counters| counters.reordered += packet::tally(ctx));
}

/// The packet was due to be corrupted or duplicated, but is sent as it was.
#[inline(always)]
pub(crate) fn skipped(ctx: &TcContext) {
    count(|counters| counters.skipped += packet::tally(ctx));
}

/// Something behind us refused the packet.
#[inline(always)]
pub(crate) fn refused(ctx: &TcContext) {
    count(|counters| {
        counters.refused += packet::tally(ctx);
        log::refused(ctx, counters.refused);
    });
}

#[inline(always)]
fn count(add: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the slot is this CPU's, and tc runs the program with bottom halves off: nothing interrupts us here.
        // A softirq's transmission cannot nest either, as the copy we redirect has returned before we count.
        add(unsafe { &mut *counters });
    }
}

const _: () = assert!(size_of::<Tally>() == 16);
