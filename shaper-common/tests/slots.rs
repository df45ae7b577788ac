//! Packets depart in slots as netem's do.

use std::collections::VecDeque;

use proptest::prelude::*;
use shaper_common::{
    MAX_DELAY_NS,
    policy::{Effects, State},
    random::RandomStreams,
};
use shaper_statistics::{assert_binomial, assert_stepped};

const MS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Packet {
    comes_ns: u64,
    bytes: u32,
}

fn slots(slot_ns: u64, slot_jitter_ns: u64, slot_packets: u32, slot_bytes: u32) -> Effects {
    Effects { slots: 1, slot_ns, slot_jitter_ns, slot_packets, slot_bytes, ..Effects::default() }
}

fn departures(effects: &Effects, delay_ns: u64, packets: &[Packet]) -> Vec<Option<u64>> {
    let mut state = State::default();
    (0..)
        .zip(packets)
        .map(|(number, packet)| {
            let times_ns = (packet.comes_ns, packet.comes_ns + delay_ns);
            effects.slotted_ns(&mut state, times_ns, packet.bytes, RandomStreams::new(3, number), |_| 0)
        })
        .collect()
}

/// netem's queue (`netem_enqueue`, `netem_dequeue`, `get_slot_next`, Linux 6.1) with a constant delay and constant slots.
struct Netem<'a> {
    effects: &'a Effects,
    queue: VecDeque<(u64, u32)>,
    slot_next: u64,
    packets_left: i64,
    bytes_left: i64,
    departures: Vec<u64>,
}

impl<'a> Netem<'a> {
    /// When it sends each of `packets`.
    fn departures(effects: &'a Effects, delay_ns: u64, packets: &[Packet]) -> Vec<u64> {
        let mut netem = Self {
            effects,
            queue: VecDeque::new(),
            slot_next: 1,
            packets_left: 0,
            bytes_left: 0,
            departures: Vec::new(),
        };
        for packet in packets {
            netem.run_until(packet.comes_ns);
            netem.queue.push_back((packet.comes_ns + delay_ns, packet.bytes));
            netem.dequeue_all(packet.comes_ns);
        }
        netem.run_until(u64::MAX);
        netem.departures
    }

    /// Runs the watchdog of the queue.
    fn run_until(&mut self, end_ns: u64) {
        while let Some((time_to_send, _)) = self.queue.front() {
            let at_ns = self.slot_next.max(*time_to_send);
            if at_ns > end_ns {
                break;
            }
            self.dequeue_all(at_ns);
        }
    }

    fn dequeue_all(&mut self, now: u64) {
        while let Some((time_to_send, bytes)) = self.queue.front().copied() {
            if self.slot_next < time_to_send {
                self.slot_next(now);
            }
            if time_to_send > now || self.slot_next > now {
                return;
            }
            self.queue.pop_front();
            self.departures.push(now);
            self.packets_left -= 1;
            self.bytes_left -= i64::from(bytes);
            if self.packets_left <= 0 || self.bytes_left <= 0 {
                self.slot_next(now);
            }
        }
    }

    fn slot_next(&mut self, now: u64) {
        let most = |bound: u32| if bound == 0 { i64::from(i32::MAX) } else { i64::from(bound) };
        self.slot_next = now + self.effects.slot_ns;
        self.packets_left = most(self.effects.slot_packets);
        self.bytes_left = most(self.effects.slot_bytes);
    }
}

/// Packets of 1,000 bytes, one each `gap_ns`.
fn steady(count: u64, gap_ns: u64) -> Vec<Packet> {
    (1..=count).map(|number| Packet { comes_ns: number * gap_ns, bytes: 1_000 }).collect()
}

/// When slots opened, and how many packets each had.
fn opened(departures: &[Option<u64>]) -> Vec<(u64, usize)> {
    let departures: Vec<u64> = departures.iter().map(|it| it.expect("not refused")).collect();
    departures.chunk_by(|a, b| a == b).map(|slot| (slot[0], slot.len())).collect()
}

fn spacings(slots: &[(u64, usize)]) -> Vec<u64> {
    slots.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[test]
fn a_packet_alone_waits_for_a_slot_of_its_own() {
    let packets = [5 * MS, 500 * MS].map(|comes_ns| Packet { comes_ns, bytes: 100 });
    let effects = slots(20 * MS, 0, 0, 0);
    assert_eq!(departures(&effects, 0, &packets), [Some(25 * MS), Some(520 * MS)]);
}

#[test]
fn a_slot_has_so_many_packets() {
    let packets = steady(1_000, 10);
    let slots = opened(&departures(&slots(MS, 0, 7, 0), 0, &packets));
    assert!(slots[..slots.len() - 1].iter().all(|slot| slot.1 == 7));
    assert!(spacings(&slots).iter().all(|spacing| *spacing == MS));
}

#[test]
fn a_slot_ends_with_the_packet_that_fills_its_bytes() {
    let slots = opened(&departures(&slots(MS, 0, 0, 2_500), 0, &steady(900, 10)));
    assert!(slots.iter().all(|slot| slot.1 == 3));
}

#[test]
fn slots_of_a_delayed_stream_follow_one_another_from_the_least_to_the_most() {
    let effects = slots(10 * MS, 10 * MS, 0, 0);
    let slots = opened(&departures(&effects, 50 * MS, &steady(100_000, MS)));
    let spacings = spacings(&slots[1..]);
    assert!(spacings.iter().all(|spacing| (10 * MS..20 * MS).contains(spacing)));
    let spacings = spacings.into_iter().map(|it| it as f64).collect();
    assert_stepped(spacings, |spacing| {
        let share = (spacing - 1e7) / 1e7;
        (share, share)
    });
}

#[test]
fn slots_of_a_distribution_are_its() {
    let table = [-8_192, 0, 16_384];
    let effects = Effects { slot_distribution_length: 3, ..slots(10 * MS, 5 * MS, 1, 0) };
    let mut state = State::default();
    let departures: Vec<Option<u64>> = (1..3_000)
        .map(|number| {
            let streams = RandomStreams::new(3, number);
            effects.slotted_ns(&mut state, (number, number), 1, streams, |entry| table[entry as usize])
        })
        .collect();
    let spacings = spacings(&opened(&departures));
    for expected in [5 * MS, 10 * MS, 20 * MS] {
        let count = spacings.iter().filter(|spacing| **spacing == expected).count();
        assert_binomial("spacings", count as u64, spacings.len() as u64, 1.0 / 3.0);
    }
}

#[test]
fn packets_are_refused_when_slots_are_full_for_longer_than_any_delay() {
    let effects = slots(1_000 * MS, 0, 1, 0);
    let departures = departures(&effects, 0, &steady(10_000, 1_000));
    let sent: Vec<u64> = departures.into_iter().flatten().collect();
    assert_eq!(sent.len() as u64, MAX_DELAY_NS / (1_000 * MS));
    // Those refused have taken no slot.
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] == 1_000 * MS));
}

prop_compose! {
    fn any_packets()(gaps in prop::collection::vec((0_u64..40 * MS, 1_u32..3_000), 1..60)) -> Vec<Packet> {
        let mut comes_ns = MS;
        gaps.into_iter().map(|(gap_ns, bytes)| { comes_ns += gap_ns; Packet { comes_ns, bytes } }).collect()
    }
}

proptest! {
    #[test]
    fn packets_delayed_for_less_than_a_slot_depart_when_netem_sends_them(
        packets in any_packets(),
        slot_ns in MS..30 * MS,
        delay in 0_u64..=100,
        slot_packets in 0_u32..5,
        slot_bytes in 0_u32..6_000,
    ) {
        let effects = slots(slot_ns, 0, slot_packets, slot_bytes);
        let delay_ns = slot_ns * delay / 100;
        let ours: Vec<u64> = departures(&effects, delay_ns, &packets).into_iter().flatten().collect();
        prop_assert_eq!(ours, Netem::departures(&effects, delay_ns, &packets));
    }

    #[test]
    fn a_slot_is_never_before_a_packet_is_ready_and_keeps_the_order(
        packets in any_packets(),
        slot_ns in 0..=MAX_DELAY_NS,
        slot_jitter_ns in 0..=MAX_DELAY_NS,
        delay_ns in 0..=MAX_DELAY_NS,
        slot_packets: u32,
        slot_bytes: u32,
    ) {
        let effects = slots(slot_ns, slot_jitter_ns, slot_packets, slot_bytes);
        let mut last_ns = 0;
        for (packet, departs_ns) in packets.iter().zip(departures(&effects, delay_ns, &packets)) {
            let Some(departs_ns) = departs_ns else { continue };
            let ready_ns = packet.comes_ns + delay_ns;
            prop_assert!((ready_ns..=ready_ns + MAX_DELAY_NS).contains(&departs_ns));
            prop_assert!(departs_ns >= last_ns);
            last_ns = departs_ns;
        }
    }

    #[test]
    fn no_state_is_too_much(
        effects in (any::<u32>(), any::<u32>(), any::<u32>()),
        t: i32,
        (slot_at_ns, slot_packets, slot_bytes) in (0_u64..1 << 62, any::<u32>(), any::<u32>()),
        (now_ns, wait_ns) in (0_u64..1 << 62, 0..=MAX_DELAY_NS),
        seed: u64,
    ) {
        let (packets, bytes, slot_distribution_length) = effects;
        let effects = Effects { slot_distribution_length, ..slots(MAX_DELAY_NS, MAX_DELAY_NS, packets, bytes) };
        let mut state = State { slot_at_ns, slot_packets, slot_bytes, ..State::default() };
        effects.slotted_ns(&mut state, (now_ns, now_ns + wait_ns), 65_550, RandomStreams::new(seed, 0), |_| t);
    }
}
