//! Every effect that needs a queue: what the program decides, against theory; and what becomes of real packets, beside netem
//! (and tbf) with the same words in the same boot.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shaper_common::plan::DISTRIBUTION_SCALE;
use shaper_tests::{
    daemon::eventually,
    frame::{CE, ECT, Frame, Spec},
    needs,
    statistics::{
        DEVIATIONS, assert_binomial, autocorrelation, deviation, float, kolmogorov_bound, kolmogorov_smirnov,
        mean,
    },
    subject::{Context, Rig, SECOND_NS, TC_ACT_SHOT, TC_ACT_UNSPEC, difference, list, now_ns},
    traffic::{Arrival, Datagrams, Transfer, datagrams, out_of_order, ping, tcp},
    world::Container,
};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// How many packets the program is run on where a distribution is looked at.
const DRAWS: usize = 20_000;
const MS_NS: f64 = 1e6;
/// What Ethernet, IPv4 and UDP put before a datagram.
const HEADERS: usize = 42;
/// What a full packet of TCP carries, and what it is on the wire, with timestamps.
const TCP_SHARE: f64 = 1_448.0 / 1_514.0;
/// What the program's verifier stops at.
const MOST_INSTRUCTIONS: u32 = 1_000_000;
/// What the machine itself may take for a packet, as `vm_delay` measures it; its clock counts instructions.
const SLACK: Duration = Duration::from_micros(100);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn packet() -> Vec<u8> {
    Spec::udp(100).build().bytes
}

/// Waits in nanoseconds of packets of which none is dropped.
fn waits(rig: &Rig, words: &str, count: usize) -> Vec<f64> {
    let waits = rig.subject(words).waits_ns(&packet(), count);
    waits.into_iter().map(|wait| float(wait.expect("it is not dropped"))).collect()
}

/// A second container, for netem.
fn other(rig: &Rig) -> Container {
    rig.world.container("other").expect("a container")
}

/// Has a qdisc shape what a container sends.
fn qdisc(container: &Container, words: &str) {
    container.netns.run(&format!("tc qdisc replace dev eth0 root {words}")).expect("the kernel has it");
}

fn send(rig: &Rig, from: &Container, sent: Datagrams) -> Vec<Arrival> {
    let patience = ms(2_000);
    let to = from.host_address.into();
    datagrams(&from.netns, rig.world.host(), to, sent, patience).expect("sockets work")
}

fn assert_distribution(what: &str, waits: &mut [f64], tolerance: f64, cdf: impl Fn(f64) -> f64) {
    let distance = kolmogorov_smirnov(waits, cdf);
    let bound = kolmogorov_bound(waits.len()) + tolerance;
    println!("{what}: Kolmogorov-Smirnov distance {distance:.5}, at most {bound:.5}");
    assert!(distance <= bound, "{what}: {distance} > {bound}");
}

#[test]
fn jitter_is_distributed_as_theory_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let mut uniform = waits(&rig, "delay 100ms 20ms reordering seed 1", DRAWS);
    assert_distribution("uniform", &mut uniform, 0.0, |ns| ((ns / MS_NS - 80.0) / 40.0).clamp(0.0, 1.0));
    let mut normal = waits(&rig, "delay 100ms 20ms distribution normal reordering seed 2", DRAWS);
    let theory = Normal::new(100.0, 20.0).expect("it is positive");
    // The table has 4096 entries, so it is off by as much as one of them.
    assert_distribution("normal", &mut normal, 1.0 / 4_096.0, |ns| theory.cdf(ns / MS_NS));
    // Below nothing there is nothing.
    let mut cut = waits(&rig, "delay 1ms 5ms reordering seed 3", DRAWS);
    let cdf = |ns: f64| if ns < 0.0 { 0.0 } else { ((ns / MS_NS + 4.0) / 10.0).min(1.0) };
    assert_distribution("cut off", &mut cut, 0.0, cdf);
}

/// One of iproute2's tables.
fn iproute2(name: &str) -> Vec<f64> {
    let folders = ["/usr/lib/tc", "/usr/lib64/tc", "/usr/lib/x86_64-linux-gnu/tc"];
    let path = folders.map(|folder| PathBuf::from(folder).join(format!("{name}.dist")));
    let path = path.into_iter().find(|path| path.exists()).expect("iproute2 installs it");
    let text = fs::read_to_string(path).expect("it can be read");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).map(|word| word.parse().expect("a number")).collect()
}

/// What share of a table is at most a delay in nanoseconds, of that mean and spread in milliseconds.
fn table_cdf(table: &[f64], mean_ms: f64, spread_ms: f64) -> impl Fn(f64) -> f64 {
    let mut table = table.to_vec();
    table.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "it is 8192")]
    let scale = DISTRIBUTION_SCALE as f64;
    move |ns| {
        // Half an entry's unit for what is rounded.
        let value = (ns / MS_NS - mean_ms) / spread_ms * scale + 0.5;
        float(table.partition_point(|entry| *entry <= value) as u64) / float(table.len() as u64)
    }
}

#[test]
fn jitter_is_distributed_as_iproute2s_tables_say() {
    needs!(Root, Fq);
    let rig = Rig::new();
    for name in ["normal", "pareto", "paretonormal"] {
        let table = iproute2(name);
        let mut waits =
            waits(&rig, &format!("delay 100ms 10ms distribution {name} reordering seed 4"), DRAWS);
        // Entries of ours may be one less or more than iproute2's, which are up to three places in it.
        let tolerance = 4.0 / float(table.len() as u64);
        assert_distribution(name, &mut waits, tolerance, table_cdf(&table, 100.0, 10.0));
    }
}

#[test]
fn jitter_is_distributed_as_a_table_of_ones_own_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    // Two humps.
    let entries: Vec<i64> =
        (0..1_000).map(|number| if number < 300 { -8_000 - number } else { 4_000 + number }).collect();
    let policy = |table: &str| {
        format!(
            "seed = 5\ndelay = \"100ms 10ms distribution mine reordering\"\n[distributions]\nmine = {table}\n"
        )
    };
    #[expect(clippy::cast_precision_loss, reason = "they are small")]
    let table: Vec<f64> = entries.iter().map(|entry| *entry as f64).collect();
    let text: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    let _ = rig.file("mine.dist", &format!("# two humps\n{text}"));
    for source in [list(&entries), "\"mine.dist\"".to_owned()] {
        let subject = rig.subject_of_policy(&policy(&source));
        let waits = subject.waits_ns(&packet(), DRAWS);
        let mut waits: Vec<_> =
            waits.into_iter().map(|wait| float(wait.expect("it is not dropped"))).collect();
        assert_distribution(&source[..10], &mut waits, 0.0, table_cdf(&table, 100.0, 10.0));
    }
}

#[test]
fn jitter_correlates_as_netems_does() {
    needs!(Root, Fq);
    let rig = Rig::new();
    for percent in [25.0, 75.0] {
        let waits = waits(&rig, &format!("delay 100ms 20ms {percent}% reordering seed 6"), DRAWS);
        // x = (1 - rho) u + rho x' (`get_crandom`) has the correlation rho and the variance (1 - rho) / (1 + rho) of u's.
        let rho: f64 = percent / 100.0;
        let shrunk = 20.0 / 3.0_f64.sqrt() * ((1.0 - rho) / (1.0 + rho)).sqrt();
        let count = float(waits.len() as u64);
        let (mean_ms, deviation_ms, found) =
            (mean(&waits) / MS_NS, deviation(&waits) / MS_NS, autocorrelation(&waits));
        println!(
            "{percent} %: mean {mean_ms:.3} ms, deviation {deviation_ms:.3} ({shrunk:.3}) ms, correlation {found:.4}"
        );
        // Of such a chain, n values tell the mean as n (1 - rho) / (1 + rho) independent ones would, the correlation with
        // a deviation of sqrt((1 - rho^2) / n) (Bartlett), the variance no better than with that of a normal one.
        let sigma = shrunk * ((1.0 + rho) / (1.0 - rho) / count).sqrt();
        assert!((mean_ms - 100.0).abs() <= DEVIATIONS * sigma, "{mean_ms}");
        assert!((found - rho).abs() <= DEVIATIONS * ((1.0 - rho * rho) / count).sqrt(), "{found}");
        let sigma = shrunk * ((1.0 + rho * rho) / (1.0 - rho * rho) / (2.0 * count)).sqrt();
        assert!((deviation_ms - shrunk).abs() <= DEVIATIONS * sigma, "{deviation_ms} is not {shrunk}");
    }
}

#[test]
fn jitter_keeps_the_order_unless_told_otherwise() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let kept = waits(&rig, "delay 4ms 4ms seed 7", 2_000);
    assert!(kept.is_sorted(), "no packet departs before the one before it");
    let other = other(&rig);
    let disorder = |container: &Container| {
        let arrivals = send(&rig, container, Datagrams { interval: ms(1), ..Datagrams::at_once(500, 100) });
        assert_eq!(arrivals.len(), 500, "none is lost");
        out_of_order(&arrivals.iter().map(|arrival| arrival.number).collect::<Vec<_>>())
    };
    rig.daemon.run("clear web");
    rig.netem("delay 4ms 4ms seed 8");
    let kept = disorder(&rig.web);
    rig.netem("delay 4ms 4ms reordering seed 8");
    let reordered = disorder(&rig.web);
    qdisc(&other, "netem delay 4ms 4ms limit 10000");
    let netems = disorder(&other);
    println!("out of order of 500: {kept}, {reordered} with `reordering`, {netems} through netem");
    assert_eq!(kept, 0);
    assert!(reordered > 0 && netems > 0);
}

#[test]
fn packets_are_reordered_as_often_and_as_correlated_as_was_asked() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let reordered = |words: &str| {
        let subject = rig.subject(words);
        let waits = subject.waits_ns(&packet(), DRAWS);
        let reordered: Vec<_> = waits.into_iter().map(|wait| wait == Some(0)).collect();
        let count = reordered.iter().filter(|reordered| **reordered).count() as u64;
        assert_eq!(subject.count().reordered.packets, count);
        (reordered, count)
    };
    let (_, count) = reordered("delay 10ms reorder 25% seed 9");
    assert_binomial("reordered", count, DRAWS as u64, 0.25);
    let (sequence, _) = reordered("delay 10ms reorder 25% 50% seed 10");
    let after = |one: bool| sequence.windows(2).filter(move |pair| pair[0] == one);
    let again = |one: bool| after(one).filter(|pair| pair[1]).count() as u64;
    assert_binomial("reordered after one that was", again(true), after(true).count() as u64, 0.625);
    assert_binomial("reordered after one that was not", again(false), after(false).count() as u64, 0.125);

    let (sequence, _) = reordered("delay 10ms reorder 100% gap 5");
    assert!((1..).zip(&sequence).all(|(number, reordered)| *reordered == (number % 5 == 0)), "every fifth");
    // Four are delayed for certain, and then as many as it takes.
    let (sequence, count) = reordered("delay 10ms reorder 50% gap 5 seed 11");
    let least = sequence.split(|reordered| *reordered).map(<[_]>::len).rev().skip(1).min();
    assert_eq!(least, Some(4));
    let others = DRAWS as u64 - count - 4 * count;
    assert_binomial("reordered after four", count, count + others, 0.5);
}

#[test]
fn real_packets_overtake_as_they_do_through_netem() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = other(&rig);
    rig.netem("delay 10ms reorder 100% gap 5");
    qdisc(&other, "netem delay 10ms reorder 100% gap 5 limit 10000");
    let order = |container: &Container| {
        let sent = Datagrams { interval: Duration::from_micros(1_500), ..Datagrams::at_once(60, 100) };
        let arrivals = send(&rig, container, sent);
        arrivals.into_iter().map(|arrival| arrival.number).collect::<Vec<_>>()
    };
    let (ours, netems) = (order(&rig.web), order(&other));
    println!("{ours:?}");
    assert_eq!(ours.len(), 60);
    assert_eq!(ours, netems);
    assert!(out_of_order(&ours) > 0);
}

/// How many bytes netem takes a packet for (`packet_time_ns`, Linux 6.1).
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
    let other = other(&rig);
    for (words, bits_per_second) in [("rate 1mbit", 1e6), ("rate 20mbit", 2e7)] {
        rig.daemon.run("clear web");
        rig.netem(words);
        qdisc(&other, &format!("netem {words} limit 10000"));
        for size in [200, 1_000] {
            let times = |container: &Container| {
                let arrivals = send(&rig, container, Datagrams::at_once(200, size));
                assert_eq!(arrivals.len(), 200);
                arrivals.iter().map(|arrival| arrival.at - arrivals[0].at).collect::<Vec<_>>()
            };
            let (ours, netems) = (times(&rig.web), times(&other));
            let each = Duration::from_secs_f64(float((size + HEADERS) as u64) * 8.0 / bits_per_second);
            println!(
                "{words}, {size} bytes: {:?}, netem {:?}, theory {:?}",
                ours[199],
                netems[199],
                each * 199
            );
            for (number, time) in (0_u32..).zip(&ours) {
                let off = time.abs_diff(each * number);
                assert!(
                    off <= SLACK,
                    "{words}, {size} bytes, packet {number}: {time:?} is not {:?}",
                    each * number
                );
            }
        }
    }
}

/// How many arrive together, and how far the bunches are apart, where the latter is longer than `apart`.
fn bunches(arrivals: &[Arrival], apart: Duration) -> (Vec<usize>, Vec<Duration>) {
    let bunches: Vec<_> = arrivals.chunk_by(|one, next| next.at - one.at < apart).collect();
    let sizes = bunches.iter().map(|bunch| bunch.len()).collect();
    (sizes, bunches.windows(2).map(|pair| pair[1][0].at - pair[0][0].at).collect())
}

#[test]
fn slots_let_as_many_packets_out_as_netems_as_far_apart() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = other(&rig);
    for (words, in_each, least, most) in [
        ("slot 10ms 10ms packets 5", 5, ms(10), ms(10)),
        // Five packets of 142 bytes are the first that fill it.
        ("slot 10ms 10ms bytes 600", 5, ms(10), ms(10)),
        ("slot 5ms 15ms packets 8", 8, ms(5), ms(15)),
        ("delay 30ms slot 20ms 20ms packets 10", 10, ms(20), ms(20)),
    ] {
        rig.daemon.run("clear web");
        rig.netem(words);
        qdisc(&other, &format!("netem {words} limit 10000"));
        let sent = Datagrams::at_once(80, 100);
        for (who, container) in [("ours", &rig.web), ("netem", &other)] {
            let (sizes, gaps) = bunches(&send(&rig, container, sent), ms(3));
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
        let waits = waits(&rig, words, 5_000);
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
    let packet = Spec::udp(1_000 - HEADERS).build().bytes;
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
        // Without a link, all that is delayed waits.
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
    let arrived = send(&rig, &rig.web, Datagrams::at_once(500, 1_000 - HEADERS)).len() as u64;
    assert_eq!(rig.counted("overflowed"), 500 - arrived);
    assert!((50..150).contains(&arrived), "{arrived}: some depart while others come");
}

#[test]
fn packets_that_know_ecn_are_marked_beyond_the_threshold() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let capable = Spec { ecn: ECT, ..Spec::udp(1_000 - HEADERS) };
    for spec in [capable, Spec { payload: 1_000 - HEADERS - 20, ..capable.v6() }] {
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
        send(&rig, &rig.web, Datagrams { tos: ECT.into(), ..Datagrams::at_once(100, 1_000 - HEADERS) });
    let marked = arrived.iter().filter(|arrival| arrival.tos & 3 == CE).count() as u64;
    assert_eq!((arrived.len(), marked), (100, rig.counted("marked")));
    assert!((80..=94).contains(&marked), "{marked}: from the seventh on, but for those that came later");
    let unmarked = send(&rig, &rig.web, Datagrams::at_once(100, 1_000 - HEADERS));
    assert!(unmarked.iter().all(|arrival| arrival.tos & 3 == 0), "who does not know of it is not told");
    assert_eq!(unmarked.len(), 100);
}

/// Milliseconds at which a link carries a packet of 1504 bytes, of a trace of 20 ms.
const TRACE: [u64; 6] = [1, 3, 3, 7, 12, 20];

#[test]
fn packets_depart_when_the_trace_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let policy = "trace = \"lte\"\n[traces]\nlte = [1, 3, 3, 7, 12, 20]\n";
    for (size, share) in [(1_504, 1.0), (752, 0.5), (1_880, 1.25)] {
        let subject = rig.subject_of_policy(policy);
        let begins_ns = subject.course(0).begins_at_ns;
        let turn_ns = 20 * 1_000_000;
        // In the middle of a turn that is to come.
        let ready_ns = begins_ns + (now_ns() - begins_ns + 10 * SECOND_NS) / turn_ns * turn_ns + 5_000_000;
        let times =
            (0..).flat_map(|turn| TRACE.map(|time| ready_ns - 5_000_000 + turn * turn_ns + time * 1_000_000));
        let times: Vec<u64> = times.skip_while(|time| *time < ready_ns).take(100).collect();
        let frame = Spec::udp(size - HEADERS).build();
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
    let _ = rig.subject_of_policy(policy);
    let arrivals = send(&rig, &rig.web, Datagrams::at_once(60, 1_504 - HEADERS));
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
    let other = other(&rig);
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
        (500, 12_500_000, ms(1_500)),
    ] {
        rig.daemon.run("clear web");
        rig.netem(&format!("rate {mbit}mbit queue {queue}b"));
        let ours = stream(&rig, &rig.web, time);
        qdisc(&other, &format!("netem rate {mbit}mbit limit {}", queue / 1_514));
        let netem = stream(&rig, &other, time);
        qdisc(&other, &format!("tbf rate {mbit}mbit burst {} limit {queue}", (mbit * 1_000).max(3_000)));
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
    let sent = Datagrams::at_once(1_000, 1_000 - HEADERS);
    let arrivals = thread::scope(|scope| {
        let senders: Vec<_> = (0..2).map(|_| scope.spawn(|| send(&rig, &rig.web, sent))).collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    let mut times: Vec<_> = arrivals.iter().map(|arrival| arrival.at).collect();
    times.sort();
    assert_eq!(times.len(), 2_000);
    for (number, time) in (0_u32..).zip(&times) {
        let off = (*time - times[0]).abs_diff(ms(1) * number);
        assert!(off <= SLACK, "packet {number} came {:?} after the first", *time - times[0]);
    }
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

/// What several transfers at the same time brought, from the first byte of any to the last.
fn together(transfers: &[Transfer]) -> (u64, Duration) {
    let begin = transfers.iter().map(|transfer| transfer.begin).min().expect("there are some");
    let end = transfers.iter().map(|transfer| transfer.begin + transfer.time).max().expect("there are some");
    (transfers.iter().map(|transfer| transfer.bytes).sum(), end - begin)
}

/// Nanoseconds of `CLOCK_MONOTONIC` of a time since 1970.
fn monotonic_ns(time: Duration) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let ago = now.saturating_sub(time).as_nanos();
    now_ns() - u64::try_from(ago).expect("it is not long ago")
}

/// Sends datagrams, 20 ms apart, after the daemon is killed; gives how long each took and when, from `begins_ns` on, it came
/// to be shaped.
fn without_a_daemon(rig: Rig, begins_ns: u64, count: u32) -> Vec<(Duration, Option<Duration>)> {
    let Rig { world, web, daemon } = rig;
    daemon.kill(Signal::SIGKILL);
    let sent = Datagrams { interval: ms(20), ..Datagrams::at_once(count, 100) };
    let before = now_ns();
    let arrivals =
        datagrams(&web.netns, world.host(), web.host_address.into(), sent, ms(2_000)).expect("sockets work");
    let mut took = vec![None; count as usize];
    for arrival in &arrivals {
        took[arrival.number as usize] = Some((arrival.sent.expect("it was numbered"), arrival.took()));
    }
    let at = |number: u32| Duration::from_nanos(before - begins_ns) + ms(20) * number;
    (0..)
        .zip(took)
        .map(|(number, took)| match took {
            Some((sent, took)) => (Duration::from_nanos(monotonic_ns(sent) - begins_ns), Some(took)),
            None => (at(number), None),
        })
        .collect()
}

#[test]
fn a_ramp_rises_in_the_course_of_its_time_without_a_daemon() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.netem("delay 20ms");
    rig.daemon.words(&["set", "web", "--netem", "delay 100ms", "--ramp", "4s"]);
    let begins_ns = rig.shaped("egress").course(0).begins_at_ns;
    let took = without_a_daemon(rig, begins_ns, 250);
    println!("{:?} ... {:?}", took[0], took[249]);
    for (at, took) in took {
        let took = took.expect("none is lost");
        let expected = ms(20) + ms(80).mul_f64((at.as_secs_f64() / 4.0).min(1.0));
        // Packets may depart 2 % of the delay early, with the one before: none of these, which are 20 ms apart.
        let off = took.abs_diff(expected);
        assert!(off <= SLACK + expected / 200, "{took:?} after {at:?} is not {expected:?}");
    }
}

#[test]
fn steps_follow_one_another_and_begin_anew_without_a_daemon() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let steps = r#"
        repeat = true
        [[step]]
        for = "700ms"
        netem = "delay 10ms"
        [[step]]
        for = "500ms"
        netem = "partition"
        [[step]]
        for = "800ms"
        netem = "delay 60ms"
    "#;
    rig.policy(steps, "egress");
    let begins_ns = rig.shaped("egress").course(0).begins_at_ns;
    let mut seen = [0; 3];
    let mut last = ms(0);
    for (at, took) in without_a_daemon(rig, begins_ns, 250) {
        // Where a delay gets shorter, packets do not overtake those that wait.
        let before = last;
        last = took.map_or(last, |took| last.max(at + took));
        let into = Duration::from_secs_f64(at.as_secs_f64() % 2.0);
        // At the moment of a change either is right; those that are lost are known to some milliseconds only.
        let near = |change: Duration| into.abs_diff(change) < ms(5);
        if [ms(0), ms(700), ms(1_200), ms(2_000)].into_iter().any(near) {
            continue;
        }
        let (step, expected) = match into {
            into if into < ms(700) => (0, Some(ms(10))),
            into if into < ms(1_200) => (1, None),
            _ => (2, Some(ms(60))),
        };
        seen[step] += 1;
        match (took, expected) {
            (Some(took), Some(expected)) => {
                let expected = expected.max(before.saturating_sub(at));
                assert!(
                    took.abs_diff(expected) <= SLACK + expected / 200,
                    "{took:?} after {at:?}, not {expected:?}"
                );
            }
            (took, expected) => assert_eq!(took, expected, "after {at:?}"),
        }
    }
    println!("packets by step: {seen:?}");
    assert!(seen.iter().all(|count| *count >= 2 * 25 / 2), "two turns at least: {seen:?}");
}

#[test]
fn a_plan_ends_on_time_without_a_daemon() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let before = rig.web.netns.traces();
    rig.daemon.words(&[
        "set",
        "web",
        "--netem",
        "delay 200ms 20ms rate 1mbit duplicate 10% seed 1",
        "--for",
        "3s",
    ]);
    let Rig { world, web, daemon } = rig;
    let set = Instant::now();
    daemon.kill(Signal::SIGKILL);
    let pings = |count| ping(&web.netns, web.host_address, count, ms(10), &[]).expect("ping works");
    assert!(pings(3).least >= ms(180));
    thread::sleep(ms(3_000).saturating_sub(set.elapsed()));
    assert!(pings(3).mean < ms(20), "it has ended");
    let _daemon = world.daemon().expect("another daemon");
    eventually("what is over is taken away", || (web.netns.traces() == before).then_some(()));
}

const EVERYTHING: &str = "delay 20ms 5ms 25% distribution normal loss gemodel 1% 50% duplicate 1% 10% corrupt 1% 10% fixed \
                          reorder 5% 10% gap 3 rate 50mbit 14 48 5 queue 200ms mark 100ms slot 1ms 2ms packets 20 seed 5";

#[test]
fn all_effects_at_once_pass_the_verifier_and_work() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let policy = format!(
        "netem = \"{EVERYTHING}\"\n[[target]]\nto = \"10.2.0.0/16\"\nprotocol = \"udp\"\nnetem = \"partition\"\n"
    );
    for direction in ["egress", "ingress"] {
        rig.policy(&policy, direction);
        let verified = rig.shaped(direction).verified_instructions();
        println!("{direction}: {verified} instructions verified");
        assert!(verified < MOST_INSTRUCTIONS / 4, "{direction}: {verified}");
    }
    let subject = rig.shaped("egress");
    let packet = Spec { destination: IpAddr::from([10, 3, 0, 3]), ecn: ECT, ..Spec::udp(1_000) }.build();
    let context = Context::departing(now_ns() + 200 * SECOND_NS);
    let before = subject.count();
    let _ = subject.each(&packet.bytes, &context, 3_000, |_| ());
    let counted = difference(subject.count(), before);
    println!("{counted:?}");
    let tallies = [
        counted.delayed,
        counted.lost,
        counted.overflowed,
        counted.marked,
        counted.duplicated,
        counted.corrupted,
        counted.reordered,
    ];
    assert!(tallies.iter().all(|tally| tally.packets > 0), "each had its effect: {counted:?}");
    let fates = counted.passed + counted.delayed + counted.lost + counted.overflowed;
    assert_eq!(fates.packets, 3_000, "each had one fate");
}

#[test]
fn changes_of_a_plan_lose_no_packet() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.netem("delay 20ms 2ms");
    let pings = thread::scope(|scope| {
        let pings =
            scope.spawn(|| ping(&rig.web.netns, rig.web.host_address, 400, ms(10), &[]).expect("ping works"));
        while !pings.is_finished() {
            for words in [
                "delay 40ms 10ms rate 10mbit",
                "delay 5ms",
                "slot 2ms 4ms",
                "delay 60ms 1ms 50%",
                "rate 1mbit",
            ] {
                rig.netem(words);
            }
            rig.daemon.words(&["set", "web", "--netem", "delay 30ms", "--to", "10.0.0.0/8"]);
        }
        pings.join().expect("it does not panic")
    });
    assert_eq!(pings.received, pings.sent);
}

#[test]
fn clearing_a_plan_delivers_what_waits_and_leaves_no_trace() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let (inside, outside) = (rig.web.netns.traces(), rig.world.host().traces());
    let policy =
        format!("netem = \"{EVERYTHING}\"\n[[target]]\nto = \"10.0.0.0/8\"\ndelay = \"500ms 1ms\"\n");
    rig.policy(&policy, "both");
    let arrived = thread::scope(|scope| {
        let burst = scope.spawn(|| send(&rig, &rig.web, Datagrams::at_once(200, 100)).len());
        eventually("they wait", || (rig.counted("delayed") >= 200).then_some(()));
        rig.daemon.run("clear web");
        burst.join().expect("it does not panic")
    });
    assert_eq!(arrived, 200);
    assert_eq!(rig.web.netns.traces(), inside);
    assert_eq!(rig.world.host().traces(), outside);
    assert_eq!(rig.world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_daemon_killed_and_started_again_adopts_a_plan_with_its_counters() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let before = rig.web.netns.traces();
    rig.policy(
        &format!("netem = \"{EVERYTHING}\"\n[[target]]\nto = \"container:web\"\nloss = \"1%\"\n"),
        "egress",
    );
    let _ = send(&rig, &rig.web, Datagrams::at_once(300, 100));
    let listed = |rig: &Rig| (rig.daemon.run("list"), rig.daemon.view("web")["interfaces"].clone());
    let first = listed(&rig);
    let Rig { world, web, daemon } = rig;
    daemon.kill(Signal::SIGKILL);
    let pings = ping(&web.netns, web.host_address, 20, ms(10), &[]).expect("ping works");
    assert!(pings.least >= ms(1), "it is in force meanwhile: {pings:?}");
    let rig = Rig { daemon: world.daemon().expect("another daemon"), web, world };
    let second = listed(&rig);
    assert_eq!(second.1[0]["policy"], first.1[0]["policy"]);
    let packets =
        |view: &serde_json::Value, what: &str| view[0][what]["packets"].as_u64().expect("it is counted");
    for what in ["delayed", "lost", "duplicated", "corrupted", "reordered"] {
        assert!(packets(&second.1, what) >= packets(&first.1, what), "{what}: {} {}", first.1, second.1);
    }
    let sent = packets(&second.1, "delayed") - packets(&first.1, "delayed");
    assert!((15..=25).contains(&sent), "the pings, but for some that were lost or came twice: {sent}");
    println!("{}", second.0);
    rig.daemon.run("clear web");
    assert_eq!(rig.web.netns.traces(), before);
}
