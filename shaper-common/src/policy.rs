//! The layouts of a policy: all that an interface's traffic goes through in one direction, by target and by time.
//!
//! ```text
//! packet -> TARGETS (longest prefix of the peer's address) -> a list of RULES -> SCHEDULES[class] -> STEPS[by the clock]
//! ```
//!
//! A policy is written into maps that nobody reads yet, and put in the place of the one before it as a whole.

use super::plain;

/// The longest list of rules that one address may lead to.
pub const MAX_RULES: u32 = 64;
/// The most schedules of a policy: the one for what no rule names, and one for each target.
pub const MAX_SCHEDULES: u32 = 256;
/// The most steps of all schedules of a policy together.
pub const MAX_STEPS: u32 = 65_536;
/// The most packets that may wait for a bottleneck: what `fq` holds.
pub const MAX_QUEUE_PACKETS: u32 = 1_000_000;
/// The size of one opportunity of a delivery trace, in bytes (Mahimahi's `PACKET_SIZE`).
pub const DELIVERY_BYTES: u32 = 1_504;
/// The scale of distribution tables: so many stand for one standard deviation (`NETEM_DIST_SCALE`).
pub const DISTRIBUTION_SCALE: i64 = 8_192;

/// No loss.
pub const LOSS_NONE: u32 = 0;
/// Independent loss with the probability `loss[0]`, correlated by `loss[1]`.
pub const LOSS_RANDOM: u32 = 1;
/// Gilbert-Elliott: `loss` is p, r, 1-h and 1-k.
pub const LOSS_GEMODEL: u32 = 2;
/// Four states: `loss` is p13, p31, p32, p23 and p14.
pub const LOSS_MARKOV: u32 = 3;
/// Every packet whose number is a multiple of `loss[0]`.
pub const LOSS_EVERY: u32 = 4;

/// The effects of a step on packets; all zero has no effect.
///
/// Probabilities are as in [`crate::Shaping::loss`]: 0 is never, otherwise `(p + 1) / 2^32`. Correlations are `c / 2^32`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The delay of each packet, in nanoseconds, at most [`crate::MAX_DELAY_NS`].
    pub delay_ns: u64,
    /// The standard deviation of the delay, or half the width of a uniform one, in nanoseconds, at most
    /// [`crate::MAX_DELAY_NS`].
    pub jitter_ns: u64,
    /// The rate of the bottleneck, in bytes per second; 0 is no limit.
    pub rate: u64,
    /// The longest time that a packet may wait for the bottleneck, in nanoseconds; 0 is no limit.
    pub queue_ns: u64,
    /// A packet is refused while so many bytes wait for the bottleneck; 0 is never.
    pub queue_bytes: u64,
    /// Packets that wait longer for the bottleneck are marked, in nanoseconds; 0 is never.
    pub mark_ns: u64,
    /// Packets are marked while so many bytes wait for the bottleneck; 0 is never.
    pub mark_bytes: u64,
    /// The time from one slot to the next, in nanoseconds: the least, or the mean of a distribution.
    pub slot_ns: u64,
    /// The most that is added to `slot_ns`, or the standard deviation of a distribution.
    pub slot_jitter_ns: u64,
    /// The first entry of the delay's distribution in its table: quantiles, in order.
    pub distribution: u32,
    /// The number of its entries; 0 is a uniform one.
    pub distribution_length: u32,
    /// The correlation of a draw of the jitter with the one before it.
    pub jitter_correlation: u32,
    /// 1 if a packet may depart before one that came before it, otherwise 0.
    pub unordered: u32,
    /// One of `LOSS_*`.
    pub loss_model: u32,
    /// The parameters of the loss model.
    pub loss: [u32; 5],
    /// 1 if packets that can be marked (ECN) are marked instead of lost, otherwise 0.
    pub loss_ecn: u32,
    /// Probability that a packet is duplicated.
    pub duplicate: u32,
    /// The correlation of duplication.
    pub duplicate_correlation: u32,
    /// Probability that one bit of a packet is turned.
    pub corrupt: u32,
    /// The correlation of corruption.
    pub corrupt_correlation: u32,
    /// 1 if the checksums of a corrupt packet are corrected, otherwise 0.
    pub corrupt_fixes_checksums: u32,
    /// Probability that a packet is not delayed.
    pub reorder: u32,
    /// The correlation of reordering.
    pub reorder_correlation: u32,
    /// The distance in packets between those that may be sent without delay; 0 and 1 are alike.
    pub reorder_gap: u32,
    /// Bytes that the bottleneck adds to each packet; may be negative.
    pub overhead: i32,
    /// The bottleneck carries cells with so many bytes of packets each; 0 is no cells.
    pub cell_bytes: u32,
    /// Bytes that the bottleneck adds to each cell; may be negative.
    pub cell_overhead: i32,
    /// The most packets that may wait for their departure; 0 is no limit.
    pub queue_packets: u32,
    /// Packets are marked while so many others wait for their departure; 0 is never.
    pub mark_packets: u32,
    /// The most packets that pass in one slot; 0 is no limit.
    pub slot_packets: u32,
    /// The most bytes that pass in one slot; 0 is no limit.
    pub slot_bytes: u32,
    /// The first entry of the slots' distribution.
    pub slot_distribution: u32,
    /// The number of its entries; 0 is a uniform one.
    pub slot_distribution_length: u32,
    /// The first entry of the bottleneck's delivery trace.
    pub trace: u32,
    /// The number of its entries; 0 is no trace. Its last entry is its length in milliseconds.
    pub trace_length: u32,
    /// 1 if there are slots, otherwise 0.
    pub slots: u32,
    /// 1 if packets are taken from their socket before they wait, otherwise 0 (see [`crate::Shaping::orphan`]).
    pub orphan: u32,
}

plain!(Effects, [u64; 9], [u32; 4], u32, [u32; 5], [u32; 22]);

/// A step of a schedule.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// When it ends, in nanoseconds from the beginning of the schedule; `u64::MAX` is never.
    pub ends_ns: u64,
    /// The duration, in nanoseconds.
    pub lasts_ns: u64,
    /// 1 if it interpolates linearly to the next step (the first one, if it is the last), otherwise 0.
    pub ramp: u64,
    /// The effects.
    pub effects: Effects,
}

plain!(Step, u64, u64, u64, Effects);

/// The effects on packets over time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub begins_at_ns: u64,
    /// The duration of all steps, in nanoseconds, if they repeat; 0 if the last one stays.
    pub period_ns: u64,
    /// The seed of random numbers.
    pub seed: u64,
    /// The index of the first step.
    pub first: u32,
    /// The number of steps; 0 leaves packets alone.
    pub count: u32,
    /// The first entry of its ring: the departures of its last packets.
    pub ring: u32,
    /// The number of entries of the ring; 0 if packets are not counted.
    pub ring_length: u32,
}

plain!(Schedule, u64, u64, u64, u32, u32, u32, u32);

/// An address, or the beginning of one: IPv6, or IPv4 as `::ffff:0:0/96`. In network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The bytes of the address.
    pub bytes: [u8; 16],
}

plain!(Address, [u8; 16]);

/// The rules that are asked, in order, about a packet to or from an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleList {
    /// The first one.
    pub first: u32,
    /// The number of rules, at most [`MAX_RULES`].
    pub count: u32,
}

plain!(RuleList, u32, u32);

/// The packets of a class, among those of the right address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The class, and so the schedule, of the packets that it fits.
    pub class: u32,
    /// The protocol number; [`Rule::ANY_PROTOCOL`] is any.
    pub protocol: u16,
    /// 1 if it fits all other protocols, otherwise 0.
    pub other_protocols: u16,
    /// The least port of the peer.
    pub port_first: u16,
    /// The greatest port of the peer. A packet without ports fits from 0 to 65535 only.
    pub port_last: u16,
    /// The least port of the container.
    pub local_port_first: u16,
    /// The greatest port of the container.
    pub local_port_last: u16,
}

plain!(Rule, u32, [u16; 6]);

impl Rule {
    /// Any protocol.
    pub const ANY_PROTOCOL: u16 = u16::MAX;

    /// A rule that fits each packet.
    pub const fn any(class: u32) -> Self {
        Self {
            class,
            protocol: Self::ANY_PROTOCOL,
            other_protocols: 0,
            port_first: 0,
            port_last: u16::MAX,
            local_port_first: 0,
            local_port_last: u16::MAX,
        }
    }

    /// Returns true if some ports do not fit.
    pub const fn asks_ports(&self) -> bool {
        !self.fits_any_ports()
    }

    #[inline(always)]
    const fn fits_any_ports(&self) -> bool {
        self.port_first == 0
            && self.port_last == u16::MAX
            && self.local_port_first == 0
            && self.local_port_last == u16::MAX
    }

    /// Returns true if it fits a packet of `protocol` with these ports.
    #[inline(always)]
    pub const fn fits(&self, protocol: u8, ports: Ports) -> bool {
        let is_protocol = self.protocol == Self::ANY_PROTOCOL || self.protocol == protocol as u16;
        if is_protocol == (self.other_protocols != 0) {
            return false;
        }
        if ports.known {
            self.port_first <= ports.peer
                && ports.peer <= self.port_last
                && self.local_port_first <= ports.local
                && ports.local <= self.local_port_last
        } else {
            self.fits_any_ports()
        }
    }
}

/// The ports of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// True if the packet has ports; 0 stands for those that it has not.
    pub known: bool,
    /// The peer's.
    pub peer: u16,
    /// The container's.
    pub local: u16,
}

impl Ports {
    /// Packs both into one number.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (self.known as u64) << 32 | (self.peer as u64) << 16 | self.local as u64
    }

    /// From one number.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self { known: bits >> 32 != 0, peer: (bits >> 16) as u16, local: bits as u16 }
    }
}

/// The state of a class, which the program keeps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The number of packets that arrived, without duplicates: duplication is drawn from it.
    pub arrivals: u64,
    /// The number of packets with duplicates: the other effects are drawn from it.
    pub packets: u64,
    /// The latest departure that one was given, in nanoseconds of `CLOCK_MONOTONIC`.
    pub departure_ns: u64,
    /// When the bottleneck has carried all that it was given.
    pub bottleneck_free_ns: u64,
    /// The bytes of the delivery trace that are used up, counted on from turn to turn.
    pub delivered_bytes: u64,
    /// The trace: the number of its entries, and the first of them, in 32 bits each; 0 is none yet.
    pub trace: u64,
    /// The number of packets put into the ring.
    pub queued: u64,
    /// When the slot opened, or opens.
    pub slot_at_ns: u64,
    /// When the present draw of the delay's jitter began to hold, where packets keep their order.
    pub jitter_begins_ns: u64,
    /// When it ends; 0 before the first draw.
    pub jitter_ends_ns: u64,
    /// Packets that the slot has taken.
    pub slot_packets: u32,
    /// Bytes that the slot has taken.
    pub slot_bytes: u32,
    /// The random number of the draw before.
    pub jitter_before: u32,
    /// The random number of the present draw, or of the last packet where packets may overtake one another.
    pub jitter: u32,
    /// The random number of the next draw.
    pub jitter_after: u32,
    /// The state of the loss model.
    pub loss_state: u32,
    /// The last outcome of each effect with a correlation, a bit for each.
    pub drawn: u32,
    /// Packets since one was not delayed.
    pub since_reorder: u32,
}

plain!(State, [u64; 10], [u32; 8]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const ICMP: u8 = 1;
    const NO_PORTS: Ports = Ports { known: false, peer: 0, local: 0 };

    fn ports(peer: u16, local: u16) -> Ports {
        Ports { known: true, peer, local }
    }

    fn of_protocol(protocol: u8) -> Rule {
        Rule { protocol: protocol.into(), ..Rule::any(1) }
    }

    #[test]
    fn a_rule_for_any_packet_fits_each() {
        for (protocol, ports) in [(TCP, ports(0, u16::MAX)), (ICMP, NO_PORTS), (u8::MAX, NO_PORTS)] {
            assert!(Rule::any(1).fits(protocol, ports));
        }
    }

    #[test]
    fn a_rule_for_a_protocol_fits_no_other() {
        assert!(of_protocol(TCP).fits(TCP, ports(1, 2)));
        assert!(!of_protocol(TCP).fits(UDP, ports(1, 2)));
        assert!(of_protocol(ICMP).fits(ICMP, NO_PORTS));
        assert!(of_protocol(0).fits(0, NO_PORTS));
    }

    #[test]
    fn a_rule_for_all_but_a_protocol_fits_all_others() {
        let rule = Rule { other_protocols: 1, ..of_protocol(TCP) };
        assert!(!rule.fits(TCP, ports(1, 2)));
        assert!(rule.fits(UDP, ports(1, 2)));
        assert!(rule.fits(ICMP, NO_PORTS));
    }

    #[test]
    fn a_rule_for_all_but_any_protocol_fits_nothing() {
        let rule = Rule { other_protocols: 1, ..Rule::any(1) };
        assert!(!rule.fits(TCP, ports(1, 2)));
    }

    #[test]
    fn ports_fit_from_the_first_to_the_last() {
        let rule = Rule { port_first: 80, port_last: 81, ..Rule::any(1) };
        let fits = [79, 80, 81, 82].map(|peer| rule.fits(TCP, ports(peer, 80)));
        assert_eq!(fits, [false, true, true, false]);
        let rule = Rule { local_port_first: 80, local_port_last: 81, ..Rule::any(1) };
        let fits = [79, 80, 81, 82].map(|local| rule.fits(TCP, ports(80, local)));
        assert_eq!(fits, [false, true, true, false]);
    }

    #[test]
    fn a_packet_without_ports_fits_no_rule_for_some() {
        let any = Rule::any(1);
        for rule in [
            Rule { port_first: 1, ..any },
            Rule { port_last: 65_534, ..any },
            Rule { local_port_first: 1, ..any },
            Rule { local_port_last: 65_534, ..any },
        ] {
            assert!(!rule.fits(ICMP, NO_PORTS));
        }
    }

    #[test]
    fn all_but_a_protocol_still_asks_for_the_ports() {
        let rule = Rule { other_protocols: 1, port_first: 53, port_last: 53, ..of_protocol(TCP) };
        assert!(rule.fits(UDP, ports(53, 9)));
        assert!(!rule.fits(UDP, ports(54, 9)));
        assert!(!rule.fits(ICMP, NO_PORTS));
    }

    #[test]
    fn sizes_are_those_that_pinned_maps_have() {
        assert_eq!(size_of::<Effects>(), 200);
        assert_eq!(size_of::<Step>(), 224);
        assert_eq!(size_of::<Schedule>(), 40);
        assert_eq!(size_of::<Address>(), 16);
        assert_eq!(size_of::<RuleList>(), 8);
        assert_eq!(size_of::<Rule>(), 16);
        assert_eq!(size_of::<State>(), 112);
    }

    proptest! {
        #[test]
        fn ports_are_the_same_again_from_their_number(known: bool, peer: u16, local: u16) {
            let ports = Ports { known, peer, local };
            prop_assert_eq!(Ports::from_bits(ports.to_bits()), ports);
        }

        #[test]
        fn a_protocol_is_either_the_one_or_another(protocol: u8, other: u8, peer: u16, local: u16) {
            let rule = of_protocol(protocol);
            let others = Rule { other_protocols: 1, ..rule };
            prop_assert_ne!(rule.fits(other, ports(peer, local)), others.fits(other, ports(peer, local)));
        }
    }
}
