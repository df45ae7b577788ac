//! Tests of bottlenecks: rates, slots, queues with an end, marks and traces: what the program decides, against theory; and
//! what becomes of real packets, beside netem (and tbf) with the same words in the same boot.

use std::{thread, time::Duration};

use shaper_tests::{
    frame::{CE, ECT, Frame, Spec, UDP_HEADERS},
    ms, needs,
    statistics::{assert_binomial, assert_distribution, float},
    subject::{Context, Rig, SECOND_NS, SLACK, TC_ACT_SHOT, TC_ACT_UNSPEC, now_ns},
    traffic::{Arrival, Datagrams, Transfer, tcp},
    world::Container,
};
use statrs::distribution::{ContinuousCDF as _, Normal};

const MS_NS: f64 = 1e6;

/// The share of a full packet of TCP on the wire that is payload, with timestamps.
const TCP_SHARE: f64 = 1_448.0 / 1_514.0;

/// Returns the number of bytes that netem takes a packet for (`packet_time_ns`, Linux 6.1).
fn netem_bytes(length: usize, overhead: i64, cell: i64, cell_overhead: i64) -> i64 {
    let length = i64::try_from(length).expect("it is small") + overhead;
    if cell == 0 { length } else { (length + cell - 1) / cell * (cell + cell_overhead) }
}

#[test]
fn a_rate_carries_exactly_so_many_bytes() {
    needs!(Root, Fq);
    let rig = Rig::new();
    for (words, bytes_per_second, overhead, cell, cell_overhead) in [
        ("rate 8mbit", 1_000_000, 0, 0, 0),
        ("rate 1mbit 20", 125_000, 20, 0, 0),
        ("rate 100mbit -10", 12_500_000, -10, 0, 0),
        ("rate 2mbit 0 48 5", 250_000, 0, 48, 5),
        ("rate 3mbit 14 48 5", 375_000, 14, 48, 5),
        ("rate 10gbit", 1_250_000_000, 0, 0, 0),
    ] {
        let subject = rig.subject(words);
        let (mut due_ns, ready_ns) = (0.0, now_ns() + 200 * SECOND_NS);
        for (number, payload) in [10, 1_472, 6, 500, 54, 1_000, 100].into_iter().cycle().take(700).enumerate()
        {
            let frame = Spec::udp(payload).build();
            let bytes = netem_bytes(frame.bytes.len(), overhead, cell, cell_overhead);
            #[expect(clippy::cast_precision_loss, reason = "they are small")]
            let carried_ns = bytes as f64 / f64::from(bytes_per_second) * 1e9;
            due_ns += carried_ns;
            let ran = subject.once(&frame.bytes, &Context::departing(ready_ns));
            let took_ns = float(ran.context.departure_ns() - ready_ns);
            // Each packet's time is rounded up or down by chance, by 0.5 ns in standard deviation at most.
            let bound = 1.0 + 5.0 * 0.5 * float(number as u64 + 1).sqrt();
            assert!((took_ns - due_ns).abs() <= bound, "{words}, packet {number}: {took_ns} is not {due_ns}");
        }
    }
}

#[test]
fn real_packets_are_as_far_apart_as_the_rate_has_them_and_as_netem() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    for (words, bits_per_second) in [("rate 1mbit", 1e6), ("rate 20mbit", 2e7)] {
        rig.daemon.run("clear web");
        rig.netem(words);
        other.qdisc(&format!("netem {words} limit 10000"));
        for size in [200, 1_000] {
            let times = |container: &Container| {
                let arrivals = rig.send(container, Datagrams::at_once(200, size));
                assert_eq!(arrivals.len(), 200);
                arrivals.iter().map(|arrival| arrival.at - arrivals[0].at).collect::<Vec<_>>()
            };
            let (ours, netems) = (times(&rig.web), times(&other));
            let each = Duration::from_secs_f64(float((size + UDP_HEADERS) as u64) * 8.0 / bits_per_second);
            println!(
                "{words}, {size} bytes: {:?}, netem {:?}, theory {:?}",
                ours[199],
                netems[199],
                each * 199
            );
            assert_evenly_spaced(&format!("{words}, {size} bytes"), &ours, each);
        }
    }
}

/// Asserts that packets arrived one every `each`, in units of the same clock.
///
/// The line is that of the earliest packet, so that none is early. Those that are due while something else occupies the
/// only processor, or while the machine waits for a file of its host, are late together: a fifth of all may be late by
/// more than [`SLACK`]. A rate that is off by a hundredth would have half of them so.
fn assert_evenly_spaced(what: &str, times: &[Duration], each: Duration) {
    let due = |number: usize| each * u32::try_from(number).expect("they are few");
    // Counted from a time before all of them, so that nothing is negative.
    let ahead = |(number, time): (usize, &Duration)| due(times.len()) + *time - due(number);
    let earliest = times.iter().enumerate().map(ahead).min().expect("there are some");
    let late: Vec<_> = times.iter().enumerate().map(|packet| ahead(packet) - earliest).collect();
    let most = late.iter().max().expect("there are some");
    let beyond = late.iter().filter(|late| **late > SLACK).count();
    assert!(
        beyond * 5 <= times.len(),
        "{what}: {beyond} of {} were late by more than {SLACK:?}, one by {most:?}",
        times.len()
    );
}

/// Returns the sizes of the bunches, and the times between them, where those are longer than `apart`.
fn bunches(arrivals: &[Arrival], apart: Duration) -> (Vec<usize>, Vec<Duration>) {
    let bunches: Vec<_> = arrivals.chunk_by(|one, next| next.at - one.at < apart).collect();
    let sizes = bunches.iter().map(|bunch| bunch.len()).collect();
    (sizes, bunches.windows(2).map(|pair| pair[1][0].at - pair[0][0].at).collect())
}

#[test]
fn slots_let_as_many_packets_out_as_netems_as_far_apart() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    for (words, in_each, least, most) in [
        ("slot 10ms 10ms packets 5", 5, ms(10), ms(10)),
        // Five packets of 142 bytes are the first that fill it.
        ("slot 10ms 10ms bytes 600", 5, ms(10), ms(10)),
        ("slot 5ms 15ms packets 8", 8, ms(5), ms(15)),
        ("delay 30ms slot 20ms 20ms packets 10", 10, ms(20), ms(20)),
    ] {
        rig.daemon.run("clear web");
        rig.netem(words);
        other.qdisc(&format!("netem {words} limit 10000"));
        let sent = Datagrams::at_once(80, 100);
        for (who, container) in [("ours", &rig.web), ("netem", &other)] {
            let (sizes, gaps) = bunches(&rig.send(container, sent), ms(3));
            println!("{words}: {who}: {sizes:?} {gaps:?}");
            assert_eq!(sizes, vec![in_each; 80 / in_each], "{words}: {who}");
            let fits = |gap: &Duration| (least.saturating_sub(SLACK)..=most + SLACK).contains(gap);
            assert!(gaps.iter().all(fits), "{words}: {who}: {gaps:?}");
        }
    }
}

#[test]
fn slots_open_as_their_distribution_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let normal = |mean: f64, spread: f64| {
        let theory = Normal::new(mean, spread).expect("it is positive");
        move |ns: f64| theory.cdf(ns / MS_NS)
    };
    let apart = |words: &str| -> Vec<f64> {
        let waits = rig.waits(words, 5_000);
        waits.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let mut gaps = apart("slot distribution normal 20ms 2ms packets 1 seed 12");
    assert_distribution("normal slots", &mut gaps, 1.0 / 4_096.0, normal(20.0, 2.0));
    let mut gaps = apart("slot 5ms 15ms packets 1 seed 13");
    assert_distribution("uniform slots", &mut gaps, 0.0, |ns| ((ns / MS_NS - 5.0) / 10.0).clamp(0.0, 1.0));
}

#[test]
fn exactly_as_many_packets_wait_as_the_queue_has_room_for() {
    needs!(Root, Fq);
    let rig = Rig::new();
    // A thousand bytes take a millisecond.
    let packet = Spec::udp(1_000 - UDP_HEADERS).build().bytes;
    for (words, room) in [
        // The eleventh would wait for 10 ms, the twelfth for longer.
        ("rate 8mbit queue 10ms", 11),
        // There is room for a packet as long as less than so many bytes wait.
        ("rate 8mbit queue 10000b", 10),
        ("rate 8mbit queue 10001b", 11),
        ("rate 8mbit queue 10packets", 10),
        ("rate 8mbit limit 10", 10),
        ("rate 8mbit queue 20ms queue 7packets queue 15kb", 7),
        // netem's thousand packets, in bytes.
        ("rate 8mbit", 1_514),
        // Without a bottleneck, all that is delayed waits.
        ("delay 50ms limit 10", 10),
    ] {
        let subject = rig.subject(words);
        let ready_ns = now_ns() + 200 * SECOND_NS;
        let verdicts = subject.each(&packet, &Context::departing(ready_ns), 1_600, |ran| ran.verdict);
        let passed = verdicts.iter().take_while(|verdict| **verdict == TC_ACT_UNSPEC).count();
        assert_eq!(passed, room, "{words}");
        assert!(
            verdicts[passed..].iter().all(|verdict| *verdict == TC_ACT_SHOT),
            "{words}: their senders are told"
        );
        assert_eq!(subject.count().overflowed.packets, 1_600 - room as u64, "{words}");
        assert_eq!(subject.count().delayed.packets, room as u64, "{words}");
        // Once they have departed, there is room again.
        let later = Context::departing(ready_ns + 10 * SECOND_NS);
        assert_eq!(subject.once(&packet, &later).verdict, TC_ACT_UNSPEC, "{words}");
    }
}

#[test]
fn real_packets_arrive_or_are_counted_as_without_room() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.netem("rate 8mbit queue 50packets");
    let arrived = rig.send(&rig.web, Datagrams::at_once(500, 1_000 - UDP_HEADERS)).len() as u64;
    assert_eq!(rig.counted("overflowed"), 500 - arrived);
    assert!((50..150).contains(&arrived), "{arrived}: some depart while others come");
}

#[test]
fn packets_that_know_ecn_are_marked_beyond_the_threshold() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let capable = Spec { ecn: ECT, ..Spec::udp(1_000 - UDP_HEADERS) };
    for spec in [capable, Spec { payload: 1_000 - UDP_HEADERS - 20, ..capable.v6() }] {
        for (words, first) in [
            ("rate 8mbit mark 5ms queue 20ms", 6),
            ("rate 8mbit mark 5000b queue 20kb", 5),
            ("rate 8mbit mark 5packets queue 20packets", 5),
        ] {
            let subject = rig.subject(words);
            let context = Context::departing(now_ns() + 200 * SECOND_NS);
            let marks = subject.each(&spec.build().bytes, &context, 15, |ran| {
                assert!(Frame::has_right_header(&ran.packet));
                Frame::ecn(&ran.packet) == CE
            });
            let expected: Vec<_> = (0..15).map(|number| number >= first).collect();
            assert_eq!(marks, expected, "{words}");
            assert_eq!(subject.count().marked.packets, 15 - first, "{words}");
        }
    }
    rig.daemon.run("clear web");
    rig.netem("rate 8mbit mark 5ms queue 500ms");
    let arrived =
        rig.send(&rig.web, Datagrams { tos: ECT.into(), ..Datagrams::at_once(100, 1_000 - UDP_HEADERS) });
    let marked = arrived.iter().filter(|arrival| arrival.tos & 3 == CE).count() as u64;
    assert_eq!((arrived.len(), marked), (100, rig.counted("marked")));
    assert!((80..=94).contains(&marked), "{marked}: from the seventh on, but for those that came later");
    let unmarked = rig.send(&rig.web, Datagrams::at_once(100, 1_000 - UDP_HEADERS));
    assert!(unmarked.iter().all(|arrival| arrival.tos & 3 == 0), "who does not know of it is not told");
    assert_eq!(unmarked.len(), 100);
}

#[test]
fn as_many_packets_wait_as_the_limit_says_beside_those_that_overtake() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let waits =
        rig.subject("delay 1s reorder 50% limit 300 seed 22").waits_ns(&Spec::udp(100).build().bytes, 1_000);
    let waiting = waits.iter().flatten().filter(|wait| **wait >= SECOND_NS).count();
    assert_eq!(waiting, 300, "each of them waits");
    let full = waits.iter().position(Option::is_none).expect("it is full at some time");
    assert!(waits[full..].iter().all(Option::is_none), "and nobody has left");
    assert_binomial("overtook", (full - waiting) as u64, full as u64, 0.5);
}

/// The milliseconds at which a bottleneck carries a packet of 1504 bytes, of a trace of 20 ms.
const TRACE: [u64; 6] = [1, 3, 3, 7, 12, 20];

#[test]
fn packets_depart_when_the_trace_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let shaping = "trace = \"lte\"\n[traces]\nlte = [1, 3, 3, 7, 12, 20]\n";
    for (size, share) in [(1_504, 1.0), (752, 0.5), (1_880, 1.25)] {
        let subject = rig.subject_of_shaping(shaping);
        let begins_ns = subject.schedule(0).begins_at_ns;
        let turn_ns = 20 * 1_000_000;
        // In the middle of a turn that is to come.
        let ready_ns = begins_ns + (now_ns() - begins_ns + 10 * SECOND_NS) / turn_ns * turn_ns + 5_000_000;
        let times =
            (0..).flat_map(|turn| TRACE.map(|time| ready_ns - 5_000_000 + turn * turn_ns + time * 1_000_000));
        let times: Vec<u64> = times.skip_while(|time| *time < ready_ns).take(100).collect();
        let frame = Spec::udp(size - UDP_HEADERS).build();
        let departures =
            subject.each(&frame.bytes, &Context::departing(ready_ns), 60, |ran| ran.context.departure_ns());
        for (number, departure) in (1_u32..).zip(departures) {
            // The opportunity that carries its last byte.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small")]
            let last = (f64::from(number) * share).ceil() as usize - 1;
            assert_eq!(departure, times[last], "packet {number} of {size} bytes");
        }
    }
    // What was run has used the trace up for some seconds.
    let _ = rig.subject_of_shaping(shaping);
    let arrivals = rig.send(&rig.web, Datagrams::at_once(60, 1_504 - UDP_HEADERS));
    let pattern: Vec<u64> = TRACE.to_vec();
    let first = arrivals[0].at;
    // Which time of the trace the first one was at is not known; one of them explains all.
    let fits = |begin: usize| {
        let time = |number: usize| (number / 6) as u64 * 20 + pattern[number % 6];
        (0..arrivals.len()).all(|number| {
            let expected = ms(time(begin + number) - time(begin));
            (arrivals[number].at - first).abs_diff(expected) <= SLACK
        })
    };
    assert_eq!(arrivals.len(), 60);
    assert!((0..6).any(fits), "{:?}", arrivals.iter().map(|arrival| arrival.at - first).collect::<Vec<_>>());
}

fn stream(rig: &Rig, container: &Container, time: Duration) -> Transfer {
    tcp(&container.netns, rig.world.host(), container.host_address.into(), time).expect("it arrives")
}

#[test]
fn tcp_goes_at_the_rate_with_no_more_retransmits_than_through_netem_or_tbf() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    println!("| rate | queue | shaper | retransmits | netem | retransmits | tbf | retransmits |");
    println!(
        "Mbit/s on the wire: what TCP carries, and its packets' headers, Ethernet's included, after a third of the time"
    );
    let mut wrong = Vec::new();
    // Each queue holds the rate for 200 ms.
    for (mbit, queue, time) in [
        (1, 25_000, ms(15_000)),
        (10, 250_000, ms(8_000)),
        (100, 2_500_000, ms(3_000)),
        // The emulated processor carries some 1,600 in single segments.
        (1_000, 25_000_000, ms(1_500)),
    ] {
        rig.daemon.run("clear web");
        rig.netem(&format!("rate {mbit}mbit queue {queue}b"));
        let ours = stream(&rig, &rig.web, time);
        other.qdisc(&format!("netem rate {mbit}mbit limit {}", queue / 1_514));
        let netem = stream(&rig, &other, time);
        other.qdisc(&format!("tbf rate {mbit}mbit burst {} limit {queue}", (mbit * 1_000).max(3_000)));
        let tbf = stream(&rig, &other, time);
        let on_the_wire = |transfer: &Transfer| transfer.steady_mbit_per_second() / TCP_SHARE;
        println!(
            "| {mbit} mbit | {queue} | {:.3} | {} | {:.3} | {} | {:.3} | {} |",
            on_the_wire(&ours),
            ours.retransmits,
            on_the_wire(&netem),
            netem.retransmits,
            on_the_wire(&tbf),
            tbf.retransmits
        );
        let off = on_the_wire(&ours) / f64::from(mbit) - 1.0;
        if off.abs() > 0.01 || ours.retransmits > netem.retransmits.max(tbf.retransmits) {
            wrong.push((mbit, off, ours.retransmits));
        }
    }
    assert!(wrong.is_empty(), "more than 1 % off, or more retransmits than the others: {wrong:?}");
}

#[test]
fn senders_share_exactly_the_rate() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.netem("rate 8mbit queue 100000packets");
    let sent = Datagrams::at_once(1_000, 1_000 - UDP_HEADERS);
    let arrivals = thread::scope(|scope| {
        let senders: Vec<_> = (0..2).map(|_| scope.spawn(|| rig.send(&rig.web, sent))).collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    let mut times: Vec<_> = arrivals.iter().map(|arrival| arrival.at).collect();
    times.sort();
    assert_eq!(times.len(), 2_000);
    assert_evenly_spaced("two senders", &times, ms(1));
    rig.netem("rate 20mbit");
    let transfers = thread::scope(|scope| {
        let senders: Vec<_> = (0..2).map(|_| scope.spawn(|| stream(&rig, &rig.web, ms(6_000)))).collect();
        senders.into_iter().map(|sender| sender.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    let (bytes, time) = together(&transfers);
    let mbit = float(bytes) * 8.0 / 1e6 / time.as_secs_f64() / TCP_SHARE;
    println!("two connections together: {mbit:.3} Mbit/s; {transfers:?}");
    assert!((mbit - 20.0).abs() <= 0.2, "{mbit}");
}

/// Returns the bytes of several transfers at the same time, and the time from the first byte of any to the last.
fn together(transfers: &[Transfer]) -> (u64, Duration) {
    let begin = transfers.iter().map(|transfer| transfer.begin).min().expect("there are some");
    let end = transfers.iter().map(|transfer| transfer.begin + transfer.time).max().expect("there are some");
    (transfers.iter().map(|transfer| transfer.bytes).sum(), end - begin)
}
