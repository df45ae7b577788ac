//! Tests of the program's verdict on a packet, one at a time: `BPF_PROG_TEST_RUN` on the very program that the daemon
//! pinned.

use shaper_common::{Counters, MAX_DELAY_NS, Shaping, Tally};
use shaper_tests::{
    needs,
    subject::{Context, Rig, SECOND_NS, Subject, TC_ACT_STOLEN, TC_ACT_UNSPEC, now_ns},
};

/// A rig whose program does whatever the test writes into its map of the policy.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.daemon.run("set web --loss 1%");
    rig
}

/// Runs the program on a packet of 64 bytes, `repeat` times.
fn run(
    subject: &mut Subject<'_>,
    shaping: Shaping,
    context: &Context,
    repeat: u32,
) -> (u32, Context, Counters) {
    subject.set_shaping(shaping);
    let (ran, counted) = subject.repeat(&[0; 64], context, repeat);
    (ran.verdict, ran.context, counted)
}

/// Runs the program on one packet after another as fast as can be: the stamps, between the times before and after.
fn stamps(subject: &mut Subject<'_>, shaping: Shaping, count: usize) -> Vec<(u64, u64, u64)> {
    subject.set_shaping(shaping);
    let mut before = now_ns();
    let looks = subject.each(&[0; 64], &Context::new(), count, |ran| (ran.context.departure_ns(), now_ns()));
    let stamp = |(stamp, after)| (std::mem::replace(&mut before, after), stamp, after);
    looks.into_iter().map(stamp).collect()
}

const ONE: Tally = Tally { packets: 1, bytes: 64 };
const DELAYED: Shaping =
    Shaping { expires_at_ns: 0, delay_ns: SECOND_NS, in_maps: 0, queueless: 0, loss: 0, orphan: 0 };

#[test]
fn each_policy_has_its_verdict_stamp_and_counter() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let (verdict, out, counted) = run(&mut subject, Shaping::default(), &Context::new(), 1);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_UNSPEC, 0), "nothing asked");
    assert_eq!(counted, Counters { passed: ONE, ..Counters::default() });

    let all = Shaping { loss: u32::MAX, ..Shaping::default() };
    let (verdict, _, counted) = run(&mut subject, all, &Context::new(), 1);
    assert_eq!(verdict, TC_ACT_STOLEN, "all lost, and nobody told");
    assert_eq!(counted, Counters { lost: ONE, ..Counters::default() });

    let before = now_ns();
    let (verdict, out, counted) = run(&mut subject, DELAYED, &Context::new(), 1);
    let stamp = out.u64_at(Context::TSTAMP);
    assert_eq!(verdict, TC_ACT_UNSPEC);
    assert!((before + SECOND_NS..=now_ns() + SECOND_NS).contains(&stamp), "{stamp} is not a second from now");
    assert_eq!(counted, Counters { delayed: ONE, ..Counters::default() });

    let both = Shaping { loss: u32::MAX, ..DELAYED };
    let (verdict, out, counted) = run(&mut subject, both, &Context::new(), 1);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_STOLEN, 0), "a lost packet is not delayed");
    assert_eq!(counted, Counters { lost: ONE, ..Counters::default() });
}

#[test]
fn a_packets_own_departure_time_is_kept_under_the_delay() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let paced = now_ns() + 10 * SECOND_NS;
    let (_, out, _) =
        run(&mut subject, DELAYED, &Context::new().with(Context::TSTAMP, paced.to_ne_bytes()), 1);
    assert_eq!(out.u64_at(Context::TSTAMP), paced + SECOND_NS);
    let other_clock = 1_800_000_000 * SECOND_NS;
    let before = now_ns();
    let (_, out, _) =
        run(&mut subject, DELAYED, &Context::new().with(Context::TSTAMP, other_clock.to_ne_bytes()), 1);
    assert!((before + SECOND_NS..=now_ns() + SECOND_NS).contains(&out.u64_at(Context::TSTAMP)));
}

#[test]
fn a_copy_is_delayed_from_when_its_original_came() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    subject.set_shaping(DELAYED);
    // Until nothing came in between.
    shaper_tests::daemon::eventually("the copy comes at once", || {
        let (came, ran) = subject.copied(&[0; 64]);
        (ran.context.departure_ns() == came + SECOND_NS).then_some(())
    });
    let before = now_ns();
    let long_ago = Context::new().with(Context::CB, (before - SECOND_NS).to_ne_bytes());
    let (_, out, _) = run(&mut subject, DELAYED, &long_ago, 1);
    assert!(
        (before + SECOND_NS - 100_000..).contains(&out.u64_at(Context::TSTAMP)),
        "that was something else"
    );
}

#[test]
fn packets_that_are_due_together_depart_together() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let stamps = stamps(&mut subject, DELAYED, 1_000);
    for &(before, stamp, after) in &stamps {
        // 100 us early at most; never late.
        assert!(
            (before + SECOND_NS - 100_000..=after + SECOND_NS).contains(&stamp),
            "{before} {stamp} {after}"
        );
    }
    assert!(stamps.windows(2).all(|pair| pair[0].1 <= pair[1].1), "none overtakes another");
    assert!(stamps.windows(2).any(|pair| pair[0].1 == pair[1].1), "some depart together");
}

#[test]
fn a_policy_ends_at_its_deadline_by_itself() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let all = Shaping { loss: u32::MAX, ..DELAYED };
    let running = Shaping { expires_at_ns: now_ns() + 60 * SECOND_NS, ..all };
    assert_eq!(run(&mut subject, running, &Context::new(), 1).0, TC_ACT_STOLEN);
    let ended = Shaping { expires_at_ns: now_ns(), ..all };
    let (verdict, out, counted) = run(&mut subject, ended, &Context::new(), 1);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_UNSPEC, 0));
    assert_eq!(counted, Counters { passed: ONE, ..Counters::default() });
}

#[test]
fn losses_over_a_hundred_thousand_packets_are_binomial() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let draws = 100_000_u32;
    for share in [0.001, 0.01, 0.1, 0.5, 0.999] {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
        let shaping = Shaping { loss: (share * 4_294_967_296.0) as u32, ..Shaping::default() };
        let (n, mean) = (f64::from(draws), f64::from(draws) * share);
        // 99.9 % of samples lie within 3.29 standard deviations; two in a row outside happen once in a million runs.
        let bound = 3.29 * (n * share * (1.0 - share)).sqrt() + 1.0;
        let lost: Vec<_> =
            (0..2).map(|_| run(&mut subject, shaping, &Context::new(), draws).2.lost.packets).collect();
        #[expect(clippy::cast_precision_loss, reason = "at most a hundred thousand")]
        let close = lost.iter().any(|&lost| (lost as f64 - mean).abs() <= bound);
        assert!(close, "{lost:?} of {draws} lost at {share}, expected {mean} +- {bound}");
    }
}

#[test]
fn a_gso_packet_counts_as_the_segments_it_carries() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let gso = Context::new()
        .with(Context::GSO_SEGS, 3_u32.to_ne_bytes())
        .with(Context::GSO_SIZE, 20_u32.to_ne_bytes())
        .with(Context::WIRE_LEN, 172_u32.to_ne_bytes());
    let (_, _, counted) = run(&mut subject, Shaping::default(), &gso, 1);
    assert_eq!(counted.passed, Tally { packets: 3, bytes: 172 });
}

#[test]
fn control_traffic_is_delayed_like_any_other() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    // fq up to Linux 6.6 lets priority 7 out at once; the class above it is none of our business.
    let control = Context::new().with(Context::PRIORITY, 0x0001_0007_u32.to_ne_bytes());
    let (_, out, _) = run(&mut subject, DELAYED, &control, 1);
    assert_eq!(out.u32_at(Context::PRIORITY), 0x0001_0006);
    let usual = Context::new().with(Context::PRIORITY, 5_u32.to_ne_bytes());
    assert_eq!(run(&mut subject, DELAYED, &usual, 1).1.u32_at(Context::PRIORITY), 5);
}

#[test]
fn a_policy_that_cannot_be_carried_out_passes_packets_and_is_told_to_the_daemon() {
    needs!(Root);
    let rig = rig();
    let mut subject = rig.shaped("egress");
    let impossible = Shaping { delay_ns: MAX_DELAY_NS + 1, ..DELAYED };
    let (verdict, out, counted) = run(&mut subject, impossible, &Context::new(), 3);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_UNSPEC, 0));
    assert_eq!(counted.invalid_policy, 3);
    assert_eq!(counted.passed.packets, 3);
    shaper_tests::daemon::eventually("the daemon logs it", || {
        rig.daemon.log().contains("the policy's delay is out of range").then_some(())
    });
}
