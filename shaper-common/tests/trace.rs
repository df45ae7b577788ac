//! Delivery traces are played as Mahimahi plays them.

use proptest::prelude::*;
use shaper_common::{
    bottleneck::{
        Backlog, MAX_OPPORTUNITIES, Trace, booked, last_opportunity, opportunity_at, opportunity_bytes,
    },
    policy::{DELIVERY_BYTES, Effects, State},
};

const MS: u64 = 1_000_000;
const BEGINS_AT: u64 = 5_000 * MS + 17;
const SIZE: u64 = DELIVERY_BYTES as u64;

fn trace(times_ms: &[u32]) -> Trace {
    Trace::new(BEGINS_AT, 0, times_ms.len() as u32, |entry| times_ms[entry as usize])
}

fn next(times_ms: &[u32], time_ns: u64) -> u64 {
    let number = |into_ns| opportunity_at(times_ms.len() as u32, into_ns, |entry| times_ms[entry as usize]);
    trace(times_ms).next(time_ns, number)
}

fn at_ns(times_ms: &[u32], opportunity: u64) -> u64 {
    trace(times_ms).at_ns(opportunity, |entry| times_ms[entry as usize])
}

/// When opportunities come, in order, turn after turn.
fn opportunities(times_ms: &[u32]) -> impl Iterator<Item = u64> {
    let period = u64::from(*times_ms.last().expect("not empty")).max(1);
    let times_ms = times_ms.to_vec();
    (0..).flat_map(move |turn| {
        let times: Vec<u64> =
            times_ms.iter().map(|ms| BEGINS_AT + (turn * period + u64::from(*ms)) * MS).collect();
        times
    })
}

/// When packets of (time, bytes) have been carried: Mahimahi's `LinkQueue::rationalize`, byte by byte.
fn carried(times_ms: &[u32], packets: &[(u64, u64)]) -> Vec<u64> {
    let mut opportunities = opportunities(times_ms).peekable();
    let mut left = 0;
    let mut now = 0;
    packets
        .iter()
        .map(|(comes_ns, bytes)| {
            if now < *comes_ns {
                // What nobody used is gone.
                left = 0;
            }
            for _ in 0..*bytes {
                while left == 0 {
                    now = opportunities.next().expect("there is always another");
                    left = if now < *comes_ns { 0 } else { SIZE };
                }
                left -= 1;
            }
            now
        })
        .collect()
}

/// Books packets as the program does.
fn booked_ns(times_ms: &[u32], packets: &[(u64, u64)]) -> Vec<u64> {
    let mut used = 0;
    let mut carried = Vec::new();
    for (comes_ns, bytes) in packets {
        used = booked(used, opportunity_bytes(next(times_ms, *comes_ns)), *bytes);
        carried.push(at_ns(times_ms, last_opportunity(used)));
    }
    carried
}

/// A trace with a length.
fn any_trace() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0_u32..50, 1..40).prop_map(|mut times_ms| {
        times_ms.sort_unstable();
        let last = times_ms.len() - 1;
        times_ms[last] = times_ms[last].max(1);
        times_ms
    })
}

#[test]
fn a_packet_waits_for_the_next_opportunity() {
    let times_ms = [3, 5, 10];
    let came =
        [0, 3 * MS, 3 * MS + 1, 9 * MS, 10 * MS, 10 * MS + 1].map(|it| next(&times_ms, BEGINS_AT + it));
    assert_eq!(came, [0, 0, 1, 2, 2, 3]);
    assert_eq!(
        (0..5).map(|it| at_ns(&times_ms, it) - BEGINS_AT).collect::<Vec<_>>(),
        [3, 5, 10, 13, 15].map(|it| it * MS)
    );
}

#[test]
fn before_its_beginning_a_trace_is_at_its_first_opportunity() {
    assert_eq!(next(&[0, 10], 0), 0);
    assert_eq!(next(&[4, 10], BEGINS_AT - 1), 0);
}

#[test]
fn opportunities_at_the_end_of_a_turn_are_not_missed() {
    // Two at 10 ms and, with the next turn, one at the same time.
    let times_ms = [0, 10, 10];
    assert_eq!(next(&times_ms, BEGINS_AT + 10 * MS), 1);
    let packets = vec![(BEGINS_AT + 10 * MS, SIZE); 3];
    assert_eq!(booked_ns(&times_ms, &packets), vec![BEGINS_AT + 10 * MS; 3]);
}

#[test]
fn several_small_packets_share_an_opportunity_and_a_great_one_takes_several() {
    let times_ms = [1, 2, 3, 4];
    let small = vec![(BEGINS_AT, 500); 4];
    assert_eq!(booked_ns(&times_ms, &small), [1, 1, 1, 2].map(|ms| BEGINS_AT + ms * MS));
    let great = [(BEGINS_AT, 3 * SIZE + 1)];
    assert_eq!(booked_ns(&times_ms, &great), [BEGINS_AT + 4 * MS]);
}

#[test]
fn a_trace_without_a_length_takes_a_millisecond() {
    assert_eq!(next(&[0], BEGINS_AT), 0);
    assert_eq!(next(&[0], BEGINS_AT + 1), 1);
    assert_eq!(at_ns(&[0], 7), BEGINS_AT + 7 * MS);
}

#[test]
fn what_waits_is_what_is_booked_from_the_next_opportunity_on() {
    let times_ms = [10, 20, 30];
    let backlog = |used, now_ns| {
        trace(&times_ms).backlog(used, next(&times_ms, now_ns), now_ns, |entry| times_ms[entry as usize])
    };
    assert_eq!(backlog(0, BEGINS_AT), Backlog { wait_ns: 0, bytes: 0 });
    assert_eq!(backlog(SIZE, BEGINS_AT), Backlog { wait_ns: 10 * MS, bytes: SIZE });
    assert_eq!(backlog(SIZE + 1, BEGINS_AT + 4 * MS), Backlog { wait_ns: 16 * MS, bytes: SIZE + 1 });
    assert_eq!(backlog(SIZE + 1, BEGINS_AT + 11 * MS), Backlog { wait_ns: 9 * MS, bytes: 1 });
    assert_eq!(backlog(SIZE + 1, BEGINS_AT + 21 * MS), Backlog { wait_ns: 0, bytes: 0 });
}

#[test]
fn what_is_used_up_of_a_trace_is_not_of_another() {
    let of = |trace, trace_length| Effects { trace, trace_length, ..Effects::default() };
    let mut state = State { delivered_bytes: 9, ..State::default() };
    let mut used_after = |effects: Effects| {
        state.follow_trace(&effects);
        state.delivered_bytes += 5;
        state.delivered_bytes
    };
    assert_eq!(
        [of(0, 3), of(0, 3), of(3, 3), of(3, 4), of(3, 4), of(0, 3)].map(&mut used_after),
        [5, 10, 5, 5, 10, 5]
    );
}

#[test]
fn each_of_the_most_opportunities_is_found() {
    for number in (0..MAX_OPPORTUNITIES).step_by(97).chain([MAX_OPPORTUNITIES - 1]) {
        assert_eq!(opportunity_at(MAX_OPPORTUNITIES, u64::from(number) * MS, |entry| entry), number);
    }
}

#[test]
fn a_link_that_is_never_idle_carries_all_that_its_trace_offers() {
    let times_ms: Vec<u32> = (1..=1_000).collect();
    let packets = vec![(BEGINS_AT, 1_000); 100_000];
    let last = *booked_ns(&times_ms, &packets).last().expect("some");
    assert_eq!(last - BEGINS_AT, (100_000_u64 * 1_000).div_ceil(SIZE) * MS);
}

proptest! {
    #[test]
    fn the_next_opportunity_is_the_first_that_has_not_passed(times_ms in any_trace(), into_ms in 0_u64..500, off in -1_i64..=1) {
        let time_ns = (BEGINS_AT + into_ms * MS).saturating_add_signed(off);
        let expected = opportunities(&times_ms).position(|at| at >= time_ns);
        let found = next(&times_ms, time_ns);
        prop_assert_eq!(Some(found as usize), expected);
        prop_assert!(at_ns(&times_ms, found) >= time_ns);
    }

    #[test]
    fn opportunities_come_in_order(times_ms in any_trace()) {
        let expected: Vec<u64> = opportunities(&times_ms).take(200).collect();
        let found: Vec<u64> = (0..200).map(|number| at_ns(&times_ms, number)).collect();
        prop_assert!(found.is_sorted());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_opportunity_is_found_as_by_looking_at_each(times_ms in any_trace(), into_ns in 0_u64..60 * MS) {
        let expected = times_ms.iter().position(|ms| u64::from(*ms) * MS >= into_ns).unwrap_or(times_ms.len());
        let found = opportunity_at(times_ms.len() as u32, into_ns, |entry| times_ms[entry as usize]);
        prop_assert_eq!(found as usize, expected);
    }

    #[test]
    fn packets_are_carried_when_mahimahi_carries_them(
        times_ms in any_trace(),
        gaps in prop::collection::vec((0_u64..30 * MS, 1_u64..6_000), 1..50),
    ) {
        let mut comes_ns = BEGINS_AT;
        let packets: Vec<(u64, u64)> = gaps.into_iter().map(|(gap_ns, bytes)| { comes_ns += gap_ns; (comes_ns, bytes) }).collect();
        prop_assert_eq!(booked_ns(&times_ms, &packets), carried(&times_ms, &packets));
    }

    #[test]
    fn no_trace_is_too_much(
        begins_at_ns in 0_u64..1 << 61,
        (first, length) in (0_u32..1 << 31, 0_u32..=MAX_OPPORTUNITIES),
        ms: u32,
        now_ns in 0_u64..1 << 61,
        used_more in 0_u64..=1 << 20,
    ) {
        let trace = Trace::new(begins_at_ns, first, length, |_| ms);
        let next = trace.next(now_ns, |into_ns| opportunity_at(length, into_ns, |_| ms));
        let used = booked(0, opportunity_bytes(next), used_more);
        trace.backlog(used, next, now_ns, |_| ms);
        trace.at_ns(last_opportunity(used), |_| ms);
    }
}
