//! Log lines of failures, one for each doubling of their number.

use aya_log_ebpf::warn;
use shaper_common::Tally;

use crate::skb::Skb;

/// Returns true for a power of two, so that a broken interface writes some dozens of lines in its life.
#[inline(always)]
fn is_rare(count: u64) -> bool {
    count & count.wrapping_sub(1) == 0
}

#[inline(always)]
pub(crate) fn invalid_policy(skb: &Skb, count: u64) {
    if is_rare(count) {
        warn!(
            &**skb,
            "ifindex {}: the policy's delay is out of range, {} packets passed unshaped",
            skb.fields().ifindex,
            count
        );
    }
}

#[inline(always)]
pub(crate) fn orphan_failed(skb: &Skb, count: u64) {
    if is_rare(count) {
        warn!(
            &**skb,
            "ifindex {}: {} packets could not be taken from their socket",
            skb.fields().ifindex,
            count
        );
    }
}

#[inline(always)]
pub(crate) fn refused(skb: &Skb, refused: Tally) {
    if is_rare(refused.packets) {
        warn!(
            &**skb,
            "ifindex {}: {} packets were refused behind the classifier",
            skb.fields().ifindex,
            refused.packets
        );
    }
}
