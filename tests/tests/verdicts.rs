//! What the program does to a packet, one at a time: `BPF_PROG_TEST_RUN` on the very program that the daemon pinned.

use aya::{
    maps::{Array, Map, MapData, PerCpuArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use shaper_common::{COUNTERS_MAP, Counters, MAX_DELAY_NS, POLICY_MAP, Policy, Tally};
use shaper_tests::{daemon::Daemon, needs, world::World};

const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_STOLEN: u32 = 4;
const SECOND_NS: u64 = 1_000_000_000;

/// `struct __sk_buff`, of which the kernel lets tests set and read some fields.
struct Context([u8; 192]);

impl Context {
    const PRIORITY: usize = 32;
    const CB: usize = 48;
    const TSTAMP: usize = 152;
    const WIRE_LEN: usize = 160;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;

    const fn new() -> Self {
        Self([0; 192])
    }

    fn with<const N: usize>(mut self, offset: usize, value: [u8; N]) -> Self {
        self.0[offset..offset + N].copy_from_slice(&value);
        self
    }

    fn u64_at(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.0[offset..offset + 8].try_into().expect("eight bytes"))
    }

    fn u32_at(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.0[offset..offset + 4].try_into().expect("four bytes"))
    }
}

/// The program of a shaped interface, and its maps.
struct Subject {
    program: SchedClassifier,
    policy: Array<MapData, Policy>,
    counters: PerCpuArray<MapData, Counters>,
    // Dropped last, in this order.
    daemon: Daemon,
    _container: shaper_tests::world::Container,
    world: World,
}

impl Subject {
    fn new() -> Self {
        let world = World::new().expect("a world");
        let container = world.container("web").expect("a container");
        let daemon = world.daemon().expect("a daemon");
        daemon.view("web");
        daemon.run("set web --loss 1%");
        let pins = world.pins_of(&container, "egress").expect("its pins");
        let map = |name: &str| MapData::from_pin(pins.join(name)).expect("it is pinned");
        Self {
            program: SchedClassifier::from_pin(pins.join("program")).expect("it is pinned"),
            policy: Array::try_from(Map::Array(map(POLICY_MAP))).expect("its layout"),
            counters: PerCpuArray::try_from(Map::PerCpuArray(map(COUNTERS_MAP))).expect("its layout"),
            daemon,
            _container: container,
            world,
        }
    }

    /// Runs the program on a packet of 64 bytes, `repeat` times, in the world's host namespace.
    fn run(&mut self, policy: Policy, context: &Context, repeat: u32) -> (u32, Context, Counters) {
        self.policy.set(0, policy, 0).expect("it can be written");
        let before = self.count();
        let (packet, mut packet_out, mut out) = ([0_u8; 64], [0_u8; 128], Context::new());
        let program = &self.program;
        let verdict = self.world.host().enter(|| {
            let options = TestRunOptions {
                data_in: Some(&packet),
                data_out: Some(&mut packet_out),
                ctx_in: Some(&context.0),
                ctx_out: Some(&mut out.0),
                repeat,
                ..TestRunOptions::new()
            };
            program.test_run(options).expect("the kernel runs it").return_value
        });
        let after = self.count();
        (verdict, out, difference(after, before))
    }

    /// Runs the program on one packet after another as fast as can be: the stamps, between the times before and after.
    fn stamps(&mut self, policy: Policy, count: usize) -> Vec<(u64, u64, u64)> {
        self.policy.set(0, policy, 0).expect("it can be written");
        let program = &self.program;
        self.world.host().enter(|| {
            let stamp = || {
                let (mut packet_out, mut out) = ([0_u8; 128], Context::new());
                let before = now_ns();
                let options = TestRunOptions {
                    data_in: Some(&[0; 64]),
                    data_out: Some(&mut packet_out),
                    ctx_in: Some(&Context::new().0),
                    ctx_out: Some(&mut out.0),
                    ..TestRunOptions::new()
                };
                program.test_run(options).expect("the kernel runs it");
                (before, out.u64_at(Context::TSTAMP), now_ns())
            };
            std::iter::repeat_with(stamp).take(count).collect()
        })
    }

    fn count(&self) -> Counters {
        let mut sum = Counters::default();
        for cpu in self.counters.get(&0, 0).expect("it can be read").iter() {
            sum += *cpu;
        }
        sum
    }
}

fn difference(after: Counters, before: Counters) -> Counters {
    let tally = |a: Tally, b: Tally| Tally { packets: a.packets - b.packets, bytes: a.bytes - b.bytes };
    Counters {
        passed: tally(after.passed, before.passed),
        delayed: tally(after.delayed, before.delayed),
        lost: tally(after.lost, before.lost),
        refused: tally(after.refused, before.refused),
        overflowed: tally(after.overflowed, before.overflowed),
        marked: tally(after.marked, before.marked),
        duplicated: tally(after.duplicated, before.duplicated),
        corrupted: tally(after.corrupted, before.corrupted),
        reordered: tally(after.reordered, before.reordered),
        invalid_policy: after.invalid_policy - before.invalid_policy,
        orphan_failed: after.orphan_failed - before.orphan_failed,
    }
}

fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec().cast_unsigned() * SECOND_NS + now.tv_nsec().cast_unsigned()
}

const ONE: Tally = Tally { packets: 1, bytes: 64 };
const DELAYED: Policy = Policy { expires_at_ns: 0, delay_ns: SECOND_NS, plan: 0, loss: 0, orphan: 0 };

#[test]
fn each_policy_has_its_verdict_stamp_and_counter() {
    needs!(Root);
    let mut subject = Subject::new();
    let (verdict, out, counted) = subject.run(Policy::default(), &Context::new(), 1);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_UNSPEC, 0), "nothing asked");
    assert_eq!(counted, Counters { passed: ONE, ..Counters::default() });

    let all = Policy { loss: u32::MAX, ..Policy::default() };
    let (verdict, _, counted) = subject.run(all, &Context::new(), 1);
    assert_eq!(verdict, TC_ACT_STOLEN, "all lost, and nobody told");
    assert_eq!(counted, Counters { lost: ONE, ..Counters::default() });

    let before = now_ns();
    let (verdict, out, counted) = subject.run(DELAYED, &Context::new(), 1);
    let stamp = out.u64_at(Context::TSTAMP);
    assert_eq!(verdict, TC_ACT_UNSPEC);
    assert!((before + SECOND_NS..=now_ns() + SECOND_NS).contains(&stamp), "{stamp} is not a second from now");
    assert_eq!(counted, Counters { delayed: ONE, ..Counters::default() });

    let both = Policy { loss: u32::MAX, ..DELAYED };
    let (verdict, out, counted) = subject.run(both, &Context::new(), 1);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_STOLEN, 0), "a lost packet is not delayed");
    assert_eq!(counted, Counters { lost: ONE, ..Counters::default() });
}

#[test]
fn a_packets_own_departure_time_is_kept_under_the_delay() {
    needs!(Root);
    let mut subject = Subject::new();
    let paced = now_ns() + 10 * SECOND_NS;
    let (_, out, _) = subject.run(DELAYED, &Context::new().with(Context::TSTAMP, paced.to_ne_bytes()), 1);
    assert_eq!(out.u64_at(Context::TSTAMP), paced + SECOND_NS);
    let other_clock = 1_800_000_000 * SECOND_NS;
    let before = now_ns();
    let (_, out, _) =
        subject.run(DELAYED, &Context::new().with(Context::TSTAMP, other_clock.to_ne_bytes()), 1);
    assert!((before + SECOND_NS..=now_ns() + SECOND_NS).contains(&out.u64_at(Context::TSTAMP)));
}

#[test]
fn a_copy_is_delayed_from_when_its_original_came() {
    needs!(Root);
    let mut subject = Subject::new();
    // Until no other thread came in between.
    shaper_tests::daemon::eventually("the copy comes at once", || {
        let came = now_ns();
        let (_, out, _) = subject.run(DELAYED, &Context::new().with(Context::CB, came.to_ne_bytes()), 1);
        (out.u64_at(Context::TSTAMP) == came + SECOND_NS).then_some(())
    });
    let before = now_ns();
    let long_ago = Context::new().with(Context::CB, (before - SECOND_NS).to_ne_bytes());
    let (_, out, _) = subject.run(DELAYED, &long_ago, 1);
    assert!(
        (before + SECOND_NS - 100_000..).contains(&out.u64_at(Context::TSTAMP)),
        "that was something else"
    );
}

#[test]
fn packets_that_are_due_together_depart_together() {
    needs!(Root);
    let mut subject = Subject::new();
    let stamps = subject.stamps(DELAYED, 1_000);
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
    let mut subject = Subject::new();
    let all = Policy { loss: u32::MAX, ..DELAYED };
    let running = Policy { expires_at_ns: now_ns() + 60 * SECOND_NS, ..all };
    assert_eq!(subject.run(running, &Context::new(), 1).0, TC_ACT_STOLEN);
    let ended = Policy { expires_at_ns: now_ns(), ..all };
    let (verdict, out, counted) = subject.run(ended, &Context::new(), 1);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_UNSPEC, 0));
    assert_eq!(counted, Counters { passed: ONE, ..Counters::default() });
}

#[test]
fn losses_over_a_hundred_thousand_packets_are_binomial() {
    needs!(Root);
    let mut subject = Subject::new();
    let draws = 100_000_u32;
    for share in [0.001, 0.01, 0.1, 0.5, 0.999] {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
        let policy = Policy { loss: (share * 4_294_967_296.0) as u32, ..Policy::default() };
        let (n, mean) = (f64::from(draws), f64::from(draws) * share);
        // 99.9 % of samples lie within 3.29 standard deviations; two in a row outside happen once in a million runs.
        let bound = 3.29 * (n * share * (1.0 - share)).sqrt() + 1.0;
        let lost: Vec<_> =
            (0..2).map(|_| subject.run(policy, &Context::new(), draws).2.lost.packets).collect();
        #[expect(clippy::cast_precision_loss, reason = "at most a hundred thousand")]
        let close = lost.iter().any(|&lost| (lost as f64 - mean).abs() <= bound);
        assert!(close, "{lost:?} of {draws} lost at {share}, expected {mean} +- {bound}");
    }
}

#[test]
fn a_gso_packet_counts_as_the_segments_it_carries() {
    needs!(Root);
    let mut subject = Subject::new();
    let gso = Context::new()
        .with(Context::GSO_SEGS, 3_u32.to_ne_bytes())
        .with(Context::GSO_SIZE, 20_u32.to_ne_bytes())
        .with(Context::WIRE_LEN, 172_u32.to_ne_bytes());
    let (_, _, counted) = subject.run(Policy::default(), &gso, 1);
    assert_eq!(counted.passed, Tally { packets: 3, bytes: 172 });
}

#[test]
fn control_traffic_is_delayed_like_any_other() {
    needs!(Root);
    let mut subject = Subject::new();
    // fq up to Linux 6.6 lets priority 7 out at once; the class above it is none of our business.
    let control = Context::new().with(Context::PRIORITY, 0x0001_0007_u32.to_ne_bytes());
    let (_, out, _) = subject.run(DELAYED, &control, 1);
    assert_eq!(out.u32_at(Context::PRIORITY), 0x0001_0006);
    let usual = Context::new().with(Context::PRIORITY, 5_u32.to_ne_bytes());
    assert_eq!(subject.run(DELAYED, &usual, 1).1.u32_at(Context::PRIORITY), 5);
}

#[test]
fn a_policy_that_cannot_be_carried_out_passes_packets_and_is_told_to_the_daemon() {
    needs!(Root);
    let mut subject = Subject::new();
    let impossible = Policy { delay_ns: MAX_DELAY_NS + 1, ..DELAYED };
    let (verdict, out, counted) = subject.run(impossible, &Context::new(), 3);
    assert_eq!((verdict, out.u64_at(Context::TSTAMP)), (TC_ACT_UNSPEC, 0));
    assert_eq!(counted.invalid_policy, 3);
    assert_eq!(counted.passed.packets, 3);
    shaper_tests::daemon::eventually("the daemon logs it", || {
        subject.daemon.log().contains("the policy's delay is out of range").then_some(())
    });
}
