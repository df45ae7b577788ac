//! Every effect that needs no queue: what the program that the daemon pinned does to packets run through it, one at a time
//! and many, against theory; and to real ones.
//!
//! Random numbers are drawn from seeds in all of these, so each run decides the same.

use std::time::Instant;

use nix::sys::signal::Signal;
use shaper_common::Counters;
use shaper_tests::{
    daemon::eventually,
    frame::{CE, ECT, Frame, NOT_ECT, Spec, TCP},
    ms, needs,
    statistics::{Chain, assert_binomial, assert_geometric, assert_shares, runs},
    subject::{Context, Rig, SECOND_NS, Subject, TC_ACT_STOLEN, TC_ACT_UNSPEC},
    traffic::{Arrival, Datagrams, datagrams, ping, snmp, tcp_bytes},
};

/// The number of packets that are run where chance decides.
const MANY: u32 = 100_000;
/// A processor of the kernel's verifier stops here.
const MOST_INSTRUCTIONS: u32 = 1_000_000;

fn count(sequence: &[bool]) -> u64 {
    sequence.iter().filter(|lost| **lost).count() as u64
}

/// Sends so many datagrams of 100 bytes to the host; gives those that arrived until none did for 300 ms.
fn send(rig: &Rig, sent: u32) -> Vec<Arrival> {
    let (to, sent) = (rig.web.host_address.into(), Datagrams::at_once(sent, 100));
    datagrams(&rig.web.netns, rig.world.host(), to, sent, ms(300)).expect("sockets work")
}

#[test]
fn independent_losses_are_binomial_and_their_runs_geometric() {
    needs!(Root);
    let rig = Rig::new();
    let packet = Spec::udp(100).build().bytes;
    for share in [0.001, 0.01, 0.1, 0.5, 0.999] {
        let subject = rig.subject(&format!("loss {}% seed 1", share * 100.0));
        let (_, counted) = subject.repeat(&packet, &Context::new(), MANY);
        assert_binomial(&format!("loss {share}"), counted.lost.packets, MANY.into(), share);
        assert_eq!(counted.passed.packets + counted.lost.packets, u64::from(MANY));
    }
    let losses = rig.subject("loss 20% seed 2").losses(&packet, MANY as usize);
    assert_binomial("loss 0.2", count(&losses), losses.len() as u64, 0.2);
    assert_geometric("runs of losses", &runs(&losses, true), 1, 0.8);
    assert_geometric("runs of the others", &runs(&losses, false), 1, 0.2);
}

#[test]
fn correlated_losses_have_the_share_and_the_correlation_that_were_asked() {
    needs!(Root);
    let rig = Rig::new();
    let packet = Spec::udp(100).build().bytes;
    for (percent, correlation) in [(10, 60), (1, 25), (50, 90)] {
        let subject = rig.subject(&format!("loss {percent}% {correlation}% seed 3"));
        let losses = subject.losses(&packet, MANY as usize);
        let (share, correlation) = (f64::from(percent) / 100.0, f64::from(correlation) / 100.0);
        // In a chain of two states, what follows depends on the one before alone (p + r (1 - p), p (1 - r)).
        let (again, anew) = (share + correlation * (1.0 - share), share * (1.0 - correlation));
        let follows = |lost: bool| losses.windows(2).filter(move |pair| pair[0] == lost);
        let lost_after = |lost: bool| follows(lost).filter(|pair| pair[1]).count() as u64;
        assert_binomial("lost after a loss", lost_after(true), follows(true).count() as u64, again);
        assert_binomial("lost after none", lost_after(false), follows(false).count() as u64, anew);
        let chain = Chain { steps: [[1.0 - anew, anew], [1.0 - again, again]], loses: [0.0, 1.0] };
        let lost = losses.iter().filter(|lost| **lost).count();
        chain.assert_loses(&format!("loss {share} {correlation}"), lost, losses.len());
    }
}

#[test]
fn gilbert_elliott_loses_in_bursts_as_long_as_its_bad_state() {
    needs!(Root);
    let rig = Rig::new();
    let packet = Spec::udp(100).build().bytes;
    let losses = rig.subject("loss gemodel 2% 20% seed 4").losses(&packet, MANY as usize);
    let chain = |p: f64, r: f64, loses| Chain { steps: [[1.0 - p, p], [r, 1.0 - r]], loses };
    let lost = |losses: &[bool]| losses.iter().filter(|lost| **lost).count();
    chain(0.02, 0.2, [0.0, 1.0]).assert_loses("gemodel 2% 20%", lost(&losses), losses.len());
    assert_geometric("bursts", &runs(&losses, true), 1, 0.2);
    assert_geometric("gaps", &runs(&losses, false), 1, 0.02);

    let losses = rig.subject("loss gemodel 5% 30% 70% 1% seed 5").losses(&packet, MANY as usize);
    chain(0.05, 0.3, [0.01, 0.7]).assert_loses("gemodel 5% 30% 70% 1%", lost(&losses), losses.len());
}

#[test]
fn four_states_lose_alone_and_in_bursts() {
    needs!(Root);
    let rig = Rig::new();
    let packet = Spec::udp(100).build().bytes;
    // 1 loses nothing, 2 nothing within a burst, 3 in a burst, 4 alone.
    let [p13, p31, p32, p23, p14] = [0.03, 0.1, 0.3, 0.4, 0.02];
    let losses = rig.subject("loss state 3% 10% 30% 40% 2% seed 6").losses(&packet, MANY as usize);
    let steps = [
        [1.0 - p13 - p14, 0.0, p13, p14],
        [0.0, 1.0 - p23, p23, 0.0],
        [p31, p32, 1.0 - p31 - p32, 0.0],
        [1.0, 0.0, 0.0, 0.0],
    ];
    let chain = Chain { steps, loses: [0.0, 0.0, 1.0, 1.0] };
    chain.assert_loses("state", losses.iter().filter(|lost| **lost).count(), losses.len());
    // Those that are longer than one are of the third state.
    let bursts: Vec<_> = runs(&losses, true).into_iter().filter(|length| *length > 1).collect();
    assert_geometric("bursts", &bursts, 2, p31 + p32);
}

#[test]
fn every_nth_is_lost_exactly_and_a_partition_loses_all() {
    needs!(Root);
    let rig = Rig::new();
    let packet = Spec::udp(100).build().bytes;
    for nth in [1, 2, 7, 100] {
        let losses = rig.subject(&format!("loss every {nth}")).losses(&packet, 1_000);
        let lost: Vec<_> = (1..).zip(&losses).filter(|(_, lost)| **lost).map(|(number, _)| number).collect();
        let expected: Vec<usize> = (1..=1_000).filter(|number| number % nth == 0).collect();
        assert_eq!(lost, expected, "every {nth}");
    }
    let (_, counted) = rig.subject("partition").repeat(&packet, &Context::new(), MANY);
    assert_eq!((counted.lost.packets, counted.passed.packets), (u64::from(MANY), 0));
}

#[test]
fn packets_that_know_ecn_are_marked_where_others_are_lost() {
    needs!(Root);
    let rig = Rig::new();
    for spec in [Spec::udp(100), Spec::udp(100).v6()] {
        let subject = rig.subject("loss 10% ecn seed 7");
        let marked = Spec { ecn: ECT, ..spec }.build();
        let marks = subject.each(&marked.bytes, &Context::new(), 5_000, |ran| {
            assert_eq!(ran.verdict, TC_ACT_UNSPEC);
            assert!(Frame::has_right_header(&ran.packet));
            Frame::ecn(&ran.packet) == CE
        });
        assert_binomial("marked", count(&marks), 5_000, 0.1);
        assert_eq!(subject.count().marked.packets, count(&marks));
        assert_eq!(subject.count().lost.packets, 0);

        let subject = rig.subject("loss 10% ecn seed 7");
        let losses = subject.losses(&Spec { ecn: NOT_ECT, ..spec }.build().bytes, 5_000);
        assert_eq!(losses, marks, "the same ones");
        assert_eq!(subject.count().marked.packets, 0);
    }
}

#[test]
fn duplicates_are_counted_and_pass() {
    needs!(Root);
    let rig = Rig::new();
    let packet = Spec::udp(100).build().bytes;
    for share in [0.01, 0.3] {
        let subject = rig.subject(&format!("duplicate {}% seed 8", share * 100.0));
        let (ran, counted) = subject.repeat(&packet, &Context::new(), MANY);
        assert_eq!((ran.verdict, &ran.packet), (TC_ACT_UNSPEC, &packet));
        assert_binomial("duplicates", counted.duplicated.packets, MANY.into(), share);
        assert_eq!(counted.passed.packets, u64::from(MANY), "copies come by another hook here");
    }
    let (_, counted) = rig.subject("duplicate 100%").repeat(&packet, &Context::new(), 1_000);
    assert_eq!(counted.duplicated.packets, 1_000);
}

/// Packets of all kinds that have a payload and a checksum.
fn kinds() -> Vec<Spec> {
    let udp = Spec::udp(64);
    let tcp = Spec { protocol: TCP, ..udp };
    let v4 = [
        udp,
        Spec { ip_options: 12, ..udp },
        Spec { payload: 33, ..udp },
        tcp,
        Spec { tcp_options: 12, ..tcp },
        Spec { ip_options: 4, tcp_options: 40, payload: 61, ..tcp },
    ];
    let v6 = [
        udp.v6(),
        Spec { ip_options: 8, ..udp.v6() },
        Spec { ip_options: 16, payload: 33, ..udp.v6() },
        tcp.v6(),
        Spec { ip_options: 16, tcp_options: 12, ..tcp.v6() },
    ];
    v4.into_iter().chain(v6).collect()
}

/// Returns the bits that `count` corrupt packets have flipped, from the beginning of what they carry; asserts all else
/// of them.
fn turned(subject: &Subject<'_>, frame: &Frame, context: &Context, count: usize, fixed: bool) -> Vec<usize> {
    subject.each(&frame.bytes, context, count, |ran| {
        assert_eq!(ran.verdict, TC_ACT_UNSPEC);
        assert!(Frame::has_right_header(&ran.packet));
        let checksum = frame.checksum_at() * 8..frame.checksum_at() * 8 + 16;
        let turned = frame.turned(&ran.packet);
        let turned: Vec<_> = turned.into_iter().filter(|bit| !(fixed && checksum.contains(bit))).collect();
        assert_eq!(turned.len(), 1, "one bit, and the checksum if it is made right");
        assert_eq!(frame.is_right(&ran.packet), fixed, "the checksum");
        turned[0].checked_sub(frame.payload * 8).expect("it is behind the headers")
    })
}

#[test]
fn corrupt_packets_have_one_bit_of_what_they_carry_turned() {
    needs!(Root);
    let rig = Rig::new();
    for fixed in ["", "fixed"] {
        let subject = rig.subject(&format!("corrupt 100% {fixed} seed 9"));
        for spec in kinds() {
            let _ = turned(&subject, &spec.build(), &Context::new(), 200, fixed == "fixed");
        }
        let counted = subject.count();
        assert_eq!((counted.corrupted.packets, counted.skipped.packets), (200 * kinds().len() as u64, 0));
    }
    // Those that carry nothing have a bit of their header turned, unless nobody is to see it.
    let empty = Spec { protocol: TCP, ..Spec::udp(0) }.build();
    let ran = rig.subject("corrupt 100% seed 9").once(&empty.bytes, &Context::new());
    assert!(matches!(empty.turned(&ran.packet)[..], [bit] if bit >= empty.transport * 8));
    let subject = rig.subject("corrupt 100% fixed seed 9");
    assert_eq!(subject.once(&empty.bytes, &Context::new()).packet, empty.bytes);
    assert_eq!(subject.count().corrupted.packets, 0);
}

#[test]
fn corrupt_bits_are_anywhere_in_the_payload_alike() {
    needs!(Root);
    let rig = Rig::new();
    let (frame, count) = (Spec::udp(64).build(), MANY as usize);
    for fixed in [false, true] {
        let subject = rig.subject(&format!("corrupt 100% {} seed 10", if fixed { "fixed" } else { "" }));
        let mut counts = vec![0; 64 * 8];
        for bit in turned(&subject, &frame, &Context::new(), count, fixed) {
            counts[bit] += 1;
        }
        assert_shares("bits", &counts, &vec![1.0 / (64.0 * 8.0); counts.len()]);
    }
    let (_, counted) = rig.subject("corrupt 2% seed 11").repeat(&frame.bytes, &Context::new(), MANY);
    assert_binomial("corrupt", counted.corrupted.packets, MANY.into(), 0.02);
    assert_eq!(counted.passed.packets, u64::from(MANY));
}

/// Returns the fates of packets one after the other, with all effects that need no queue.
fn fates(rig: &Rig, seed: u64) -> (Vec<(u32, Vec<u8>)>, Counters) {
    let words = format!("loss 5% 25% duplicate 10% corrupt 20% seed {seed}");
    let subject = rig.subject(&words);
    let packet = Spec::udp(100).build().bytes;
    let fates = subject.each(&packet, &Context::new(), 2_000, |ran| (ran.verdict, ran.packet));
    (fates, subject.count())
}

#[test]
fn the_same_seed_has_the_same_fates_and_another_one_others() {
    needs!(Root);
    let rig = Rig::new();
    let first = fates(&rig, 42);
    assert!(first.1.lost.packets > 0 && first.1.duplicated.packets > 0 && first.1.corrupted.packets > 0);
    assert_eq!(fates(&rig, 42), first);
    let other = fates(&rig, 43);
    assert_ne!(other.0, first.0);
    assert_ne!(other.1, first.1);
}

/// All effects that need no queue, for targets and by time.
const ALL_WITHOUT_A_QUEUE: &str = r#"
    seed = 7
    repeat = true
    [[step]]
    for = "10s"
    ramp = true
    netem = "loss 1% 10% ecn duplicate 1% 10% corrupt 1% 10%"
    [[step]]
    for = "10s"
    netem = "loss 20% 10% ecn duplicate 10% 10% corrupt 10% 10%"
    [[target]]
    to = ["10.2.0.0/16", "!10.2.1.0/24"]
    protocol = "udp"
    port = "1-1000"
    netem = "loss gemodel 5% 10% 70% 1% corrupt 50% fixed"
    [[target]]
    to = "fd02::/16"
    netem = "loss state 5% 10% 20% 30% 1%"
"#;

#[test]
fn all_effects_at_once_pass_the_verifier_with_room_to_spare() {
    needs!(Root);
    let rig = Rig::new();
    for direction in ["egress", "ingress"] {
        rig.shaping(ALL_WITHOUT_A_QUEUE, direction);
        let verified = rig.shaped(direction).verified_instructions();
        println!("{direction}: {verified} instructions verified");
        assert!(verified < MOST_INSTRUCTIONS / 4, "{direction}: {verified}");
    }
    // Each of them has its effect.
    let (target, other) =
        (Spec::udp(64).build(), Spec { ports: (1, 2_000), ecn: ECT, ..Spec::udp(64) }.build());
    let subject = rig.shaped("egress");
    let (_, counted) = subject.repeat(&target.bytes, &Context::new(), MANY);
    let (bad, good) = (5.0 / 15.0, 10.0 / 15.0);
    let steps = [[0.95, 0.05], [0.1, 0.9]];
    let lost = usize::try_from(counted.lost.packets).expect("it fits");
    Chain { steps, loses: [0.01, 0.7] }.assert_loses("the target's", lost, MANY as usize);
    assert_binomial("the target's corrupt", counted.corrupted.packets, counted.passed.packets, 0.5);
    println!("lost {}, expected {}", counted.lost.packets, f64::from(MANY) * (0.7 * bad + 0.01 * good));
    assert_eq!((counted.duplicated.packets, counted.marked.packets), (0, 0));
    let (_, counted) = subject.repeat(&other.bytes, &Context::new(), MANY);
    assert_eq!(counted.lost.packets, 0, "marked instead");
    let seen = [counted.marked, counted.duplicated, counted.corrupted];
    assert!(seen.iter().all(|tally| tally.packets > 0), "{counted:?}");
}

#[test]
fn a_deadline_ends_all_effects_without_a_daemon() {
    needs!(Root);
    let Rig { world, web, daemon } = Rig::new();
    let begin = Instant::now();
    daemon.words(&[
        "set",
        "web",
        "--netem",
        "loss 50% ecn duplicate 100% corrupt 100% seed 1",
        "--for",
        "1s",
    ]);
    let subject = Subject::shaped(&world, &web, "egress");
    daemon.kill(Signal::SIGKILL);
    let packet = Spec { ecn: ECT, ..Spec::udp(64) }.build();
    let (_, counted) = subject.repeat(&packet.bytes, &Context::new(), 1_000);
    assert_eq!((counted.duplicated.packets, counted.corrupted.packets), (1_000, 1_000));
    assert!(begin.elapsed() < ms(1_000), "it was in force still");
    eventually("it is over", || {
        (subject.repeat(&packet.bytes, &Context::new(), 1).1.corrupted.packets == 0).then_some(())
    });
    assert!(begin.elapsed() >= ms(1_000), "not before its time");
    let (ran, counted) = subject.repeat(&packet.bytes, &Context::new(), 1_000);
    assert_eq!((ran.verdict, ran.packet), (TC_ACT_UNSPEC, packet.bytes));
    let passed = counted.passed;
    assert_eq!((passed.packets, counted), (1_000, Counters { passed, ..Counters::default() }));
}

#[test]
fn a_policy_whose_deadline_is_over_or_that_is_empty_leaves_packets_alone() {
    needs!(Root);
    let rig = Rig::new();
    let mut subject = rig.subject("partition ecn");
    let shaping = subject.shaping();
    let packet = Spec::udp(64).build().bytes;
    assert_eq!(subject.once(&packet, &Context::new()).verdict, TC_ACT_STOLEN);
    let now_ns = shaper_tests::subject::now_ns();
    subject.set_shaping(shaper_common::Shaping { expires_at_ns: now_ns, ..shaping });
    assert_eq!(subject.once(&packet, &Context::new()).verdict, TC_ACT_UNSPEC);
    subject.set_shaping(shaper_common::Shaping { expires_at_ns: now_ns + 60 * SECOND_NS, ..shaping });
    assert_eq!(subject.once(&packet, &Context::new()).verdict, TC_ACT_STOLEN);
    subject.set_shaping(shaper_common::Shaping::default());
    assert_eq!(subject.once(&packet, &Context::new()).verdict, TC_ACT_UNSPEC);
}

#[test]
fn real_datagrams_come_twice_as_often_as_is_counted() {
    needs!(Root);
    let rig = Rig::new();
    rig.netem("duplicate 20% seed 12");
    let sent = 3_000;
    let arrived = send(&rig, sent);
    let twice = arrived.len() as u64 - u64::from(sent);
    assert_eq!(rig.counted("duplicated"), twice);
    assert_binomial("twice", twice, sent.into(), 0.2);
    let mut copies = vec![0; sent as usize];
    arrived.iter().for_each(|arrival| copies[arrival.number as usize] += 1);
    assert!(copies.iter().all(|copies| (1..=2).contains(copies)), "each once or twice");
    assert!(arrived.iter().all(|arrival| arrival.bytes.len() == 100));
}

#[test]
fn real_pings_are_lost_as_is_counted() {
    needs!(Root);
    let rig = Rig::new();
    rig.netem("loss gemodel 10% 30% seed 13");
    let pings = ping(&rig.web.netns, rig.web.host_address, 500, ms(2), &["-W", "1"]).expect("ping works");
    assert_eq!((u64::from(pings.sent - pings.received), pings.sent), (rig.counted("lost"), 500));
    let chain = Chain { steps: [[0.9, 0.1], [0.3, 0.7]], loses: [0.0, 1.0] };
    chain.assert_loses("pings", (pings.sent - pings.received) as usize, 500);
}

#[test]
fn who_receives_datagrams_that_are_corrupt_drops_them_for_their_checksums() {
    needs!(Root);
    let rig = Rig::new();
    rig.netem("corrupt 10% seed 14");
    let errors = || snmp(rig.world.host(), "Udp", "InCsumErrors").expect("it is counted");
    let (before, sent) = (errors(), 2_000);
    let arrived = send(&rig, sent);
    let corrupted = rig.counted("corrupted");
    assert_binomial("corrupt", corrupted, sent.into(), 0.1);
    assert_eq!(errors() - before, corrupted);
    assert_eq!(arrived.len() as u64, u64::from(sent) - corrupted);
    assert!(arrived.iter().all(|arrival| arrival.bytes[4..] == [0; 96]), "what arrives is what was sent");
}

#[test]
fn who_receives_datagrams_with_fixed_checksums_has_one_bit_turned() {
    needs!(Root);
    let rig = Rig::new();
    rig.netem("corrupt 10% fixed seed 15");
    let sent = 2_000;
    let arrived = send(&rig, sent);
    assert_eq!(arrived.len(), sent as usize);
    // They keep their order, so that their numbers may be turned, too.
    let bits = |(number, bytes): (u32, &[u8])| {
        let numbers = number.to_be_bytes();
        bytes.iter().zip(numbers.iter().chain(&[0; 96])).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
    };
    let turned: Vec<_> = (0..).zip(arrived.iter().map(|arrival| &arrival.bytes[..])).map(bits).collect();
    assert!(turned.iter().all(|bits| *bits <= 1), "{turned:?}");
    let corrupted = turned.iter().filter(|bits| **bits == 1).count() as u64;
    assert_eq!(corrupted, rig.counted("corrupted"));
    assert_binomial("corrupt", corrupted, sent.into(), 0.1);
}

#[test]
fn tcp_repairs_what_is_corrupt_unless_its_checksums_are_fixed() {
    needs!(Root);
    let rig = Rig::new();
    let host = rig.world.host();
    let transfer =
        || tcp_bytes(&rig.web.netns, host, rig.web.host_address.into(), 2_000_000).expect("it arrives");
    let errors = || snmp(host, "Tcp", "InCsumErrors").expect("it is counted");

    rig.netem("corrupt 2% seed 16");
    let (before, transferred) = (errors(), transfer());
    let (corrupted, seen) = (rig.counted("corrupted"), errors() - before);
    assert!(corrupted > 0 && transferred.retransmits > 0, "{transferred:?}");
    // Of what carries nothing (two packets that begin the connection, two that end it), a length that was turned is seen
    // before the checksum.
    assert!((corrupted - 4..=corrupted).contains(&seen), "{seen} of {corrupted} were seen");
    assert_eq!((transferred.turned, transferred.bytes >= 2_000_000), (0, true), "repaired");

    rig.daemon.run("clear web");
    rig.netem("corrupt 2% fixed seed 16");
    let (before, transferred) = (errors(), transfer());
    assert_eq!(errors(), before, "nobody sees it");
    let corrupted = rig.counted("corrupted");
    // What a machine that is busy sends again for want of an answer may be corrupt, and is not taken.
    let taken = corrupted.saturating_sub(transferred.retransmits)..=corrupted;
    assert!(corrupted > 0 && taken.contains(&transferred.turned), "{corrupted}: {transferred:?}");
}
