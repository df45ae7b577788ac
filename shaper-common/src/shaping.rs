//! The policy of one interface in one direction, as the program reads it.

use super::plain;

/// The longest delay that the program honours: five minutes.
pub const MAX_DELAY_NS: u64 = 300_000_000_000;

/// From this delay on a packet is taken from its socket before it waits (see [`Shaping::orphan`]): one millisecond.
///
/// TCP small queues (`tcp_small_queue_check`, Linux 6.1) let a socket have about a millisecond of its pacing rate
/// below it; a packet that waits longer keeps its sender from sending.
pub const ORPHAN_FROM_NS: u64 = 1_000_000;

/// The most by which a packet departs early to depart together with the one before it: 100 microseconds.
const MAX_EARLY_NS: u64 = 100_000;

/// The longest time for which a packet that is due is assumed to wait still, as its processor is busy: 1 ms.
pub const LATE_NS: u64 = 1_000_000;

/// The policy of one interface in one direction; all zero does nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shaping {
    /// When the policy ends, in nanoseconds of `CLOCK_MONOTONIC`; 0 is never.
    pub expires_at_ns: u64,
    /// The delay of each packet, in nanoseconds, at most [`MAX_DELAY_NS`].
    pub delay_ns: u64,
    /// 1 if the policy is in the maps beside this one, and `delay_ns` and `loss` say nothing; otherwise 0.
    pub in_maps: u32,
    /// 1 if somebody took away the device's queue, so that no packet is delayed; otherwise 0.
    pub queueless: u32,
    /// Probability of losing a packet: 0 is none, otherwise `(loss + 1) / 2^32`, so that `u32::MAX` is all.
    pub loss: u32,
    /// 1 if packets are taken from their socket before they wait in the queue, otherwise 0.
    pub orphan: u32,
}

plain!(Shaping, u64, u64, u32, u32, u32, u32);

impl Shaping {
    /// Returns true if the deadline has passed at `now_ns`.
    #[inline(always)]
    pub const fn has_expired(&self, now_ns: u64) -> bool {
        self.expires_at_ns != 0 && now_ns >= self.expires_at_ns
    }

    /// Returns true if it affects no packet, expired or not.
    #[inline(always)]
    pub const fn is_noop(&self) -> bool {
        self.delay_ns == 0 && self.loss == 0
    }

    /// Returns true if a packet that drew the uniform number `random` is lost.
    ///
    /// The comparison is netem's (`loss_event`, `net/sched/sch_netem.c`, Linux 6.1).
    #[inline(always)]
    pub const fn loses(&self, random: u32) -> bool {
        self.loss != 0 && random <= self.loss
    }

    /// The earliest departure time of a packet, in nanoseconds of `CLOCK_MONOTONIC`.
    ///
    /// `stamp_ns` is the departure time that the packet already has (TCP pacing, `SO_TXTIME`), 0 if none. It is
    /// respected, unless it lies further ahead than any delay may: such a stamp is of another clock.
    #[inline(always)]
    pub const fn departure_ns(&self, stamp_ns: u64, now_ns: u64) -> u64 {
        ready_ns(stamp_ns, now_ns) + self.delay_ns
    }
}

/// Returns the latest departure once a packet that is due at `departure_ns`, after `delay_ns`, has been given one, after
/// `last_ns`: the packet departs then or, if it is due before, when it is due. It departs together with the packet before
/// it if it is due shortly after that one (see [`early_ns`]).
///
/// Of two processors, one may come with an earlier time; a time far ahead is of a longer delay before.
#[inline(always)]
pub const fn latest_ns(delay_ns: u64, departure_ns: u64, last_ns: u64) -> u64 {
    let is_close = departure_ns.wrapping_sub(last_ns) <= early_ns(delay_ns);
    let was_overtaken = last_ns.wrapping_sub(departure_ns) <= LATE_NS;
    if is_close || was_overtaken { last_ns } else { departure_ns }
}

/// When a packet is ready to be sent, in nanoseconds of `CLOCK_MONOTONIC`: at `stamp_ns`, if that is ahead, or now.
///
/// A stamp that lies further ahead than any delay may is of another clock.
#[inline(always)]
pub const fn ready_ns(stamp_ns: u64, now_ns: u64) -> u64 {
    let paced = stamp_ns > now_ns && stamp_ns - now_ns <= MAX_DELAY_NS;
    if paced { stamp_ns } else { now_ns }
}

/// The most by which a packet that is delayed by `delay_ns` departs early to depart together with the one before it, in
/// nanoseconds: a thirty-second of the delay, at most 100 microseconds.
///
/// Packets that depart together cost one timer and one run of the queue. One that is alone departs exactly in time.
#[inline(always)]
pub(crate) const fn early_ns(delay_ns: u64) -> u64 {
    let share = delay_ns / 32;
    if share < MAX_EARLY_NS { share } else { MAX_EARLY_NS }
}

/// When a packet that is due at `departure_ns` departs where packets keep their order, and the one before it departs at
/// `last_ns`: not before that one, and with it if it is due at most `early_ns` after it.
#[inline(always)]
pub const fn in_turn_ns(departure_ns: u64, last_ns: u64, early_ns: u64) -> u64 {
    if departure_ns <= last_ns.saturating_add(early_ns) { last_ns } else { departure_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYED: Shaping =
        Shaping { expires_at_ns: 0, delay_ns: 500, in_maps: 0, queueless: 0, loss: 0, orphan: 0 };

    /// The departure of a packet that is due then, after one that departed at `last_ns`.
    fn grouped_ns(shaping: &Shaping, due_ns: u64, last_ns: u64) -> u64 {
        due_ns.min(latest_ns(shaping.delay_ns, due_ns, last_ns))
    }

    #[test]
    fn a_policy_without_a_deadline_never_expires() {
        assert!(!Shaping::default().has_expired(u64::MAX));
    }

    #[test]
    fn a_policy_expires_at_its_deadline() {
        let shaping = Shaping { expires_at_ns: 10, ..DELAYED };
        assert!(!shaping.has_expired(9));
        assert!(shaping.has_expired(10));
    }

    #[test]
    fn no_loss_loses_nothing_and_full_loss_everything() {
        assert!(!Shaping::default().loses(0));
        let all = Shaping { loss: u32::MAX, ..Shaping::default() };
        assert!(all.loses(u32::MAX) && all.loses(0));
    }

    #[test]
    fn a_packet_without_a_stamp_departs_the_delay_after_now() {
        assert_eq!(DELAYED.departure_ns(0, 1_000), 1_500);
        assert_eq!(DELAYED.departure_ns(900, 1_000), 1_500);
    }

    #[test]
    fn a_paced_packet_departs_the_delay_after_its_pace() {
        assert_eq!(DELAYED.departure_ns(1_200, 1_000), 1_700);
    }

    #[test]
    fn packets_due_shortly_after_another_depart_with_it() {
        let shaping = Shaping { delay_ns: 1_000_000, ..DELAYED };
        assert_eq!(grouped_ns(&shaping, 5_000_000, 4_990_000), 4_990_000);
        assert_eq!(grouped_ns(&shaping, 5_000_000, 4_968_750), 4_968_750, "a thirty-second of the delay");
        assert_eq!(grouped_ns(&shaping, 5_000_000, 4_968_749), 5_000_000, "more than that");
        let long = Shaping { delay_ns: 2_000_000_000, ..DELAYED };
        assert_eq!(grouped_ns(&long, 5_000_000, 4_900_000), 4_900_000, "100 us");
        assert_eq!(grouped_ns(&long, 5_000_000, 4_899_999), 5_000_000, "more than 100 us");
    }

    #[test]
    fn a_packet_departs_in_time_after_the_first_and_after_a_longer_delay() {
        assert_eq!(grouped_ns(&DELAYED, 5_000_000, 0), 5_000_000);
        assert_eq!(grouped_ns(&DELAYED, 5_000_000, 5_000_001), 5_000_000);
    }

    #[test]
    fn a_packet_that_another_processor_overtook_leaves_the_latest_departure() {
        assert_eq!(latest_ns(DELAYED.delay_ns, 5_000_000, 5_000_000 + LATE_NS), 5_000_000 + LATE_NS);
        assert_eq!(
            latest_ns(DELAYED.delay_ns, 5_000_000, 5_000_001 + LATE_NS),
            5_000_000,
            "of a longer delay before"
        );
    }

    #[test]
    fn a_stamp_of_another_clock_is_ignored() {
        assert_eq!(DELAYED.departure_ns(1_700_000_000_000_000_000, 1_000), 1_500);
    }

    #[test]
    fn a_packet_departs_early_by_a_thirty_second_of_the_delay_and_at_most_100_microseconds() {
        assert_eq!(
            [0, 31, 32, 1_000_000, 3_200_000, MAX_DELAY_NS].map(early_ns),
            [0, 0, 1, 31_250, 100_000, 100_000]
        );
    }

    #[test]
    fn a_packet_in_turn_departs_with_the_one_before_it_or_when_it_is_due() {
        assert_eq!(in_turn_ns(900, 1_000, 0), 1_000, "never before that one");
        assert_eq!(in_turn_ns(1_010, 1_000, 10), 1_000, "with it");
        assert_eq!(in_turn_ns(1_011, 1_000, 10), 1_011, "when it is due");
    }

    proptest::proptest! {
        #[test]
        fn packets_in_turn_keep_their_order_and_are_early_by_no_more_than_they_may(
            departure_ns: u64,
            last_ns: u64,
            early in 0..=MAX_EARLY_NS,
        ) {
            let in_turn_ns = in_turn_ns(departure_ns, last_ns, early);
            proptest::prop_assert!(in_turn_ns >= last_ns);
            proptest::prop_assert!(in_turn_ns >= departure_ns.saturating_sub(early));
            proptest::prop_assert!(in_turn_ns == last_ns || in_turn_ns == departure_ns);
        }

        #[test]
        fn a_packet_is_ready_now_or_at_a_stamp_that_is_ahead(stamp_ns: u64, now_ns in 0_u64..1 << 62) {
            let ready_ns = ready_ns(stamp_ns, now_ns);
            proptest::prop_assert!((now_ns..=now_ns + MAX_DELAY_NS).contains(&ready_ns));
        }
    }
}
