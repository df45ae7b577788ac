//! Log lines of failures, one for each doubling of their number.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use aya_log_ebpf::warn;
use shaper_common::Counters;

use crate::skb::Skb;

/// Logs the failures of a processor, `count` of one kind, if that is a power of two: a broken interface writes some dozens
/// of lines in its life.
#[inline(always)]
pub(crate) fn failures(skb: &Skb, counters: &Counters, count: u64) {
    if count & count.wrapping_sub(1) == 0 {
        let Counters { invalid_policy, orphan_failed, refused, .. } = counters;
        log_failures(skb.as_ptr(), *invalid_policy, *orphan_failed, refused.packets);
    }
}

/// A global function, which the kernel verifies by itself. It has a single line, as each takes the kernel as much work as
/// all the rest of a plain program.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn log_failures(
    skb: *mut __sk_buff,
    invalid_policy: u64,
    orphan_failed: u64,
    refused: u64,
) -> u32 {
    let skb = Skb::new(TcContext::new(skb));
    warn!(
        &*skb,
        "ifindex {}: {} packets passed unshaped, as the policy's delay is out of range; {} could not be taken from their \
         socket; {} were refused behind the classifier",
        skb.fields().ifindex,
        invalid_policy,
        orphan_failed,
        refused
    );
    0
}
