//! The budget for packets that stay charged to their sockets while they wait in the queue.

/// The most that senders may send in a quarter of a delay: 40 KiB. Five times that, for what one quarter leaves to the
/// next, waits at once, and is below the default send buffer of 208 KiB (`SK_WMEM_MAX`, Linux 6.1).
const ALLOWANCE: u64 = 40 << 10;

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
/// much of what is sent within a quarter of a delay stays charged, which a sender does not feel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBudget {
    since_ns: u64,
    bytes: u64,
}

impl SocketBudget {
    /// Nothing charged.
    pub const NONE: Self = Self { since_ns: 0, bytes: 0 };

    /// This and a packet of `length` bytes that is sent at `now_ns` and will wait for `delay_ns`; none where the packet
    /// must not stay charged.
    #[inline(always)]
    pub const fn and(self, length: u64, now_ns: u64, delay_ns: u64) -> Option<Self> {
        if delay_ns > CHARGED_UP_TO_NS {
            return None;
        }
        let length = length + OVERHEAD;
        if now_ns.wrapping_sub(self.since_ns) >= delay_ns / 4 {
            Some(Self { since_ns: now_ns, bytes: length })
        } else if self.bytes + length <= ALLOWANCE {
            Some(Self { since_ns: self.since_ns, bytes: self.bytes + length })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of packets of `length` bytes, one each `gap_ns`, that stay charged within one delay.
    fn charged(length: u64, gap_ns: u64, delay_ns: u64) -> u64 {
        let (mut socket_budget, mut count, begin) = (SocketBudget::NONE, 0, 10_000_000_000);
        for number in 0..delay_ns / gap_ns {
            if let Some(more) = socket_budget.and(length, begin + number * gap_ns, delay_ns) {
                (socket_budget, count) = (more, count + 1);
            }
        }
        count
    }

    #[test]
    fn a_sender_that_sends_little_is_charged_for_all_of_it() {
        assert_eq!(charged(106, 13_000, 1_000_000), 76);
        assert_eq!(charged(106, 5_000, 1_000_000), 200);
        assert_eq!(charged(1_514, 500_000, 2_000_000), 4);
    }

    #[test]
    fn a_sender_that_sends_much_is_charged_for_less_than_the_default_buffer() {
        // What the kernel charges for a packet of each length, with its own memory (Linux 6.1 on x86-64).
        for (length, truesize) in [(106, 768), (1_514, 2_304)] {
            let quarter = charged(length, 1_000, 2_000_000) / 4;
            assert!(5 * quarter * truesize < 212_992, "{length}");
        }
    }

    #[test]
    fn nobody_is_charged_for_a_long_time() {
        assert_eq!(charged(106, 50_000_000, 1_000_000_000), 0);
    }

    #[test]
    fn each_quarter_of_a_delay_begins_anew() {
        let full = SocketBudget { since_ns: 1_000, bytes: ALLOWANCE };
        assert_eq!(full.and(64, 1_249, 1_000), None);
        assert_eq!(full.and(64, 1_250, 1_000), Some(SocketBudget { since_ns: 1_250, bytes: 726 }));
    }
}
