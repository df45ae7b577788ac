//! Tells user space of what goes wrong: rarely, by how often it has gone wrong so far.

use aya_ebpf::{EbpfContext as _, bindings::__sk_buff, programs::TcContext};
use aya_log_ebpf::warn;
use shaper_common::Tally;

/// Once for each doubling, so that a broken interface writes some dozens of lines in its life.
#[inline(always)]
fn is_rare(count: u64) -> bool {
    count & count.wrapping_sub(1) == 0
}

#[inline(always)]
fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*ctx.as_ptr().cast::<__sk_buff>()).ifindex }
}

#[inline(always)]
pub(crate) fn invalid_policy(ctx: &TcContext, count: u64) {
    if is_rare(count) {
        warn!(
            ctx,
            "ifindex {}: the policy's delay is out of range, {} packets passed unshaped",
            ifindex(ctx),
            count
        );
    }
}

#[inline(always)]
pub(crate) fn orphan_failed(ctx: &TcContext, count: u64) {
    if is_rare(count) {
        warn!(ctx, "ifindex {}: {} packets could not be taken from their socket", ifindex(ctx), count);
    }
}

#[inline(always)]
pub(crate) fn refused(ctx: &TcContext, refused: Tally) {
    if is_rare(refused.packets) {
        warn!(
            ctx,
            "ifindex {}: {} packets were refused behind the classifier",
            ifindex(ctx),
            refused.packets
        );
    }
}
