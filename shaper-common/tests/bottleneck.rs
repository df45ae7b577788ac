//! A bottleneck carries what its rate says, and knows what waits for it.

mod bits;

use std::cell::Cell;

use proptest::prelude::*;
use shaper_common::{
    MAX_DELAY_NS,
    bottleneck::{Backlog, Room, booked},
    policy::Effects,
    random::RandomStreams,
};

const MBIT: u64 = 125_000;
const GBIT: u64 = 1_000 * MBIT;

fn streams(number: u64) -> RandomStreams {
    RandomStreams::new(9, number)
}

fn at_rate(rate: u64) -> Effects {
    Effects { rate, ..Effects::default() }
}

/// The bytes that netem's `packet_time_ns` (Linux 6.1) counts, where nothing in it wraps.
fn netem_bytes(effects: &Effects, length: i64) -> i64 {
    let length = length + i64::from(effects.overhead);
    if effects.cell_bytes == 0 {
        return length;
    }
    let size = i64::from(effects.cell_bytes);
    let cells = length / size + i64::from(length % size != 0);
    cells * (size + i64::from(effects.cell_overhead))
}

/// The time of so many packets on the bottleneck, in nanoseconds.
fn carried_ns(effects: &Effects, bytes: u64, packets: u64) -> u64 {
    (0..packets).map(|number| effects.carrying_ns(bytes, streams(number))).sum()
}

#[test]
fn a_packet_of_adsl_takes_whole_cells() {
    // ATM: 48 of 53 bytes, here with 8 bytes of AAL5 a packet.
    let effects = Effects { overhead: 8, cell_bytes: 48, cell_overhead: 5, ..Effects::default() };
    assert_eq!([40, 41, 1_500].map(|bytes| effects.wire_bytes(bytes, 0)), [53, 106, 32 * 53]);
}

#[test]
fn a_packet_that_overhead_makes_nothing_takes_nothing() {
    let effects = Effects { overhead: -100, ..Effects::default() };
    assert_eq!([99, 100, 101].map(|bytes| effects.wire_bytes(bytes, 1)), [0, 0, 1]);
    let effects = Effects { cell_bytes: 48, cell_overhead: -50, ..Effects::default() };
    assert_eq!(effects.wire_bytes(1_500, 1), 0);
}

#[test]
fn no_rate_drifts_over_a_million_packets() {
    let packets = 1_000_000;
    for rate in [MBIT, 3 * MBIT, 100 * MBIT, GBIT, 2_500 * MBIT, 10 * GBIT, 40 * GBIT, 100 * GBIT] {
        for bytes in [64, 1_514] {
            let exact = (bytes * packets) as f64 * 1e9 / rate as f64;
            let off = (carried_ns(&at_rate(rate), bytes, packets) as f64 - exact).abs();
            // Each is rounded by chance: the variance is at most a quarter, of a fraction in steps of 2^-24.
            let bound = 5.0 * 0.5 * (packets as f64).sqrt() + packets as f64 / f64::from(1 << 24);
            assert!(off <= bound, "{bytes} bytes at {rate}: off by {off} of {exact}");
            if bytes == 1_514 {
                assert!(off / exact <= 1e-4, "{rate}");
            }
        }
    }
}

#[test]
fn what_takes_whole_nanoseconds_is_exact() {
    for (rate, expected) in [(GBIT, 12_112), (10 * GBIT, 1_211), (MBIT, 12_112_000)] {
        let found = carried_ns(&at_rate(rate), 1_514, 5);
        let exact = 5 * 1_514 * 1_000_000_000 / rate;
        assert!(found >= 5 * expected && found.abs_diff(exact) <= 5);
    }
    assert_eq!(carried_ns(&at_rate(GBIT), 1_514, 1_000), 12_112_000);
}

#[test]
fn a_link_that_is_never_idle_carries_at_its_rate() {
    let (effects, bytes) = (at_rate(10 * GBIT), 1_514);
    let free_ns = (0..1_000_000)
        .fold(0, |free_ns, number| booked(free_ns, 0, effects.carrying_ns(bytes, streams(number))));
    let rate = bytes as f64 * 1e6 / (free_ns as f64 / 1e9);
    assert!((rate / (10 * GBIT) as f64 - 1.0).abs() <= 1e-4, "{rate} bytes a second");
}

#[test]
fn a_link_that_was_idle_begins_when_a_packet_comes() {
    assert_eq!(booked(100, 200, 5), 205);
    assert_eq!(booked(300, 200, 5), 305);
}

/// Returns the room for a packet behind `wait_ns` and `bytes` in `packets`.
fn room(effects: &Effects, wait_ns: u64, bytes: u64, packets: u32) -> Room {
    effects.room(Backlog { wait_ns, bytes }, |so_many| packets >= so_many)
}

#[test]
fn a_queue_without_bounds_is_never_full() {
    assert_eq!(room(&Effects::default(), u64::MAX, u64::MAX, u32::MAX), Room::Free);
}

#[test]
fn a_queue_is_full_beyond_its_time_and_at_its_bytes_and_packets() {
    let time = Effects { queue_ns: 1_000, ..Effects::default() };
    assert_eq!([1_000, 1_001].map(|ns| room(&time, ns, 9, 9)), [Room::Free, Room::Full]);
    let bytes = Effects { queue_bytes: 3_000, ..Effects::default() };
    assert_eq!([2_999, 3_000].map(|it| room(&bytes, 9, it, 9)), [Room::Free, Room::Full]);
    let packets = Effects { queue_packets: 10, ..Effects::default() };
    assert_eq!([9, 10].map(|it| room(&packets, 9, 9, it)), [Room::Free, Room::Full]);
}

#[test]
fn a_queue_marks_before_it_is_full() {
    let time = Effects { mark_ns: 500, queue_ns: 1_000, ..Effects::default() };
    assert_eq!(
        [500, 501, 1_000, 1_001].map(|ns| room(&time, ns, 0, 0)),
        [Room::Free, Room::Marking, Room::Marking, Room::Full]
    );
    let bytes = Effects { mark_bytes: 1_500, ..Effects::default() };
    assert_eq!([1_499, 1_500].map(|it| room(&bytes, 0, it, 0)), [Room::Free, Room::Marking]);
    let packets = Effects { mark_packets: 5, ..Effects::default() };
    assert_eq!([4, 5].map(|it| room(&packets, 0, 0, it)), [Room::Free, Room::Marking]);
}

#[test]
fn packets_are_counted_only_where_a_bound_is_of_them() {
    let asked = Cell::new(false);
    let bytes = Effects { queue_bytes: 1, mark_ns: 1, ..Effects::default() };
    bytes.room(Backlog { wait_ns: 0, bytes: 0 }, |_| {
        asked.set(true);
        true
    });
    assert!(!asked.get());
}

#[test]
fn a_queue_bound_in_bytes_holds_them_and_a_packet() {
    for rate in [MBIT, GBIT, 100 * GBIT] {
        let effects = Effects { queue_bytes: 100_000, ..at_rate(rate) };
        let (mut free_ns, mut taken) = (0, 0);
        for number in 0..1_000 {
            if effects.room(effects.backlog(0, free_ns), |_| false) == Room::Full {
                break;
            }
            free_ns = booked(free_ns, 0, effects.carrying_ns(1_514, streams(number)));
            taken += 1;
        }
        // Less what is rounded: a nanosecond of the rate for each, of a mean of 0.
        let rounding = rate as f64 / 1e9 * 5.0 * 0.5 * f64::from(taken).sqrt() + 1.0;
        let bytes = f64::from(taken) * 1_514.0;
        assert!(bytes >= 100_000.0 - rounding && bytes <= 101_514.0 + rounding, "{bytes} at {rate}");
    }
}

#[test]
fn there_is_a_link_where_packets_may_wait_or_be_refused() {
    let none = Effects { delay_ns: 1, slots: 1, queue_ns: 1, ..Effects::default() };
    assert!(!none.has_bottleneck());
    for some in [
        at_rate(1),
        Effects { trace_length: 1, ..none },
        Effects { queue_packets: 1, ..none },
        Effects { mark_packets: 1, ..none },
    ] {
        assert!(some.has_bottleneck());
    }
}

proptest! {
    #[test]
    fn a_packet_takes_the_bytes_that_netem_counts(
        bytes in 1_u32..=65_550,
        overhead in -1_000_i32..1_000,
        cell_bytes in 0_u32..2_000,
        cell_overhead in -1_000_i32..1_000,
        segments in 0_u32..2,
    ) {
        let effects = Effects { overhead, cell_bytes, cell_overhead, ..Effects::default() };
        let expected = netem_bytes(&effects, bytes.into());
        // Where it comes to less than nothing, netem's wraps.
        prop_assume!(i64::from(bytes) + i64::from(overhead) >= 0 && expected >= 0);
        prop_assert_eq!(effects.wire_bytes(bytes, segments), expected.cast_unsigned());
    }

    #[test]
    fn packets_together_take_what_they_take_apart(
        bytes in 1_u32..1_500,
        segments in 1_u32..45,
        overhead in -1_600_i32..100,
        cell_bytes in 0_u32..100,
        cell_overhead in -10_i32..10,
    ) {
        let effects = Effects { overhead, cell_bytes, cell_overhead, ..Effects::default() };
        let together = effects.wire_bytes(bytes * segments, segments);
        prop_assert_eq!(together, effects.wire_bytes(bytes, 1) * u64::from(segments));
    }

    #[test]
    fn a_packet_takes_its_time_to_a_nanosecond(bytes in 0_u64..=1 << 30, rate in 1_u64..1 << 39, number: u64) {
        let found = u128::from(at_rate(rate).carrying_ns(bytes, streams(number)));
        let product = u128::from(bytes) * 1_000_000_000;
        let rate = u128::from(rate);
        prop_assert!(product / rate <= found && found <= product.div_ceil(rate));
    }

    #[test]
    fn what_waits_is_the_time_at_the_rate_exactly(now_ns: u64, wait_ns in 0_u64..=1 << 40, rate in 0_u64..1 << 39) {
        let free_ns = now_ns.saturating_add(wait_ns);
        let wait_ns = free_ns - now_ns;
        let bytes = u128::from(wait_ns) * u128::from(rate) / 1_000_000_000;
        let backlog = at_rate(rate).backlog(now_ns, free_ns);
        prop_assert_eq!((backlog.wait_ns, u128::from(backlog.bytes)), (wait_ns, bytes));
    }

    #[test]
    fn nothing_is_too_much_for_a_link(
        (bytes, segments, overhead) in (any::<u32>(), 0_u32..=65_535, any::<i32>()),
        (cell_bytes, cell_overhead) in (any::<u32>(), any::<i32>()),
        rate in 0_u64..1 << 39,
        (now_ns, free_ns) in (0_u64..1 << 62, any::<u64>()),
        bounds: [u64; 4],
    ) {
        let [queue_ns, queue_bytes, mark_ns, mark_bytes] = bounds;
        let effects = Effects { rate, overhead, cell_bytes, cell_overhead, queue_ns, queue_bytes, mark_ns, mark_bytes, ..Effects::default() };
        let backlog = effects.backlog(now_ns, free_ns);
        effects.room(backlog, |_| false);
        if backlog.wait_ns <= MAX_DELAY_NS {
            let takes_ns = effects.carrying_ns(effects.wire_bytes(bytes, segments), streams(free_ns));
            booked(free_ns, now_ns, takes_ns);
        }
    }
}
