//! The budget for packets that stay charged to their sockets while they wait in the queue.

use crate::ORPHAN_FROM_NS;

/// The bytes that are paid for within a delay: 128 KiB.
const PAID: u64 = 128 << 10;

/// The time for which may be owed: half of the shortest delay under which packets leave their sockets at all.
const CREDIT_NS: u64 = ORPHAN_FROM_NS / 2;

/// The longest delay under which senders are charged at all: 2 ms.
///
/// Not all send buffers are the default one: that of `ping` holds six packets (`SOCK_MIN_SNDBUF`). It is emptied within a
/// delay, which a sender of so little that waits for so long does feel.
const CHARGED_UP_TO_NS: u64 = 2_000_000;

/// The charge that the kernel is assumed to make for a packet beside its bytes, as it rounds its memory up
/// (`SKB_TRUESIZE`): that of a short one, which is 768 bytes in all (Linux 6.1 on x86-64).
const OVERHEAD: u64 = 662;

/// The bytes that stay charged to their sockets at this time, of all sockets of an interface.
///
/// A socket blocks when its send buffer is full of packets that wait; in a network they would not fill it. So only so
/// much stays charged as fits the default send buffer of 208 KiB (`SK_WMEM_MAX`, Linux 6.1), with room for what `OVERHEAD`
/// leaves out: [`PAID`] within each delay, and up to half of it on credit. It is a leaky bucket, as a virtual schedule
/// (GCRA, ITU-T I.371), in which a packet takes the more time the longer it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBudget {
    paid_until_ns: u64,
}

impl SocketBudget {
    /// Nothing charged.
    pub const NONE: Self = Self { paid_until_ns: 0 };

    /// This and a packet of `length` bytes that is sent at `now_ns` and will wait for `delay_ns`; none where the packet
    /// must not stay charged.
    #[inline(always)]
    pub const fn and(self, length: u64, now_ns: u64, delay_ns: u64) -> Option<Self> {
        let owed_ns = self.paid_until_ns.saturating_sub(now_ns);
        if delay_ns > CHARGED_UP_TO_NS || owed_ns > CREDIT_NS {
            return None;
        }
        Some(Self { paid_until_ns: now_ns + owed_ns + (length + OVERHEAD) * delay_ns / PAID })
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    const BEGIN_NS: u64 = 10_000_000_000;

    /// When packets of `length` bytes, one each `gap_ns` for ten delays, stay charged.
    fn charged_at(length: u64, gap_ns: u64, delay_ns: u64) -> Vec<u64> {
        let (mut socket_budget, mut times) = (SocketBudget::NONE, Vec::new());
        for number in 0..10 * delay_ns / gap_ns {
            let now_ns = BEGIN_NS + number * gap_ns;
            if let Some(more) = socket_budget.and(length, now_ns, delay_ns) {
                socket_budget = more;
                times.push(now_ns);
            }
        }
        times
    }

    #[test]
    fn a_sender_that_sends_little_is_charged_for_all_of_it() {
        for (length, gap_ns, delay_ns) in
            [(106, 6_000, 1_000_000), (106, 12_000, 2_000_000), (1_514, 34_000, 2_000_000)]
        {
            assert_eq!(charged_at(length, gap_ns, delay_ns).len() as u64, 10 * delay_ns / gap_ns);
        }
    }

    #[test]
    fn a_burst_of_half_of_what_is_paid_for_is_charged_beside_it() {
        // 1 ms at 4.5 microseconds a packet, then 3 ms at 10.
        let mut socket_budget = SocketBudget::NONE;
        let times = (0..222).map(|number| number * 4_500).chain((100..400).map(|number| number * 10_000));
        for time_ns in times {
            socket_budget = socket_budget.and(106, BEGIN_NS + time_ns, 1_000_000).expect("it stays charged");
        }
    }

    #[test]
    fn a_packet_that_need_not_wait_costs_nothing() {
        let indebted = SocketBudget { paid_until_ns: BEGIN_NS + CREDIT_NS };
        assert_eq!(indebted.and(106, BEGIN_NS, 0), Some(indebted));
    }

    #[test]
    fn nobody_is_charged_for_a_long_time() {
        assert_eq!(SocketBudget::NONE.and(106, BEGIN_NS, 2_000_001), None);
    }

    proptest! {
        #[test]
        fn what_waits_at_once_is_below_the_default_buffer(
            // What the kernel charges for a packet of each length, with its own memory (Linux 6.1 on x86-64).
            (length, truesize) in prop::sample::select(vec![(106, 768), (1_514, 2_304)]),
            gap_ns in 500_u64..20_000,
            delay_ns in 1_000_000_u64..=2_000_000,
        ) {
            let times = charged_at(length, gap_ns, delay_ns);
            let waiting = |now_ns: u64| {
                times.iter().filter(|&&sent_ns| sent_ns <= now_ns && now_ns < sent_ns + delay_ns).count()
            };
            let most = times.iter().map(|now_ns| waiting(*now_ns)).max().expect("some");
            prop_assert!(most * truesize < 212_992, "{most}");
        }
    }
}
