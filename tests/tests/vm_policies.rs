//! Policies in the course of time, and their own: ramps and steps that need no daemon, deadlines, changes under load, clearing
//! and adoption; and all effects at once.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shaper_tests::{
    daemon::eventually,
    frame::{ECT, Spec},
    ms, needs,
    subject::{Context, Rig, SECOND_NS, SLACK, difference, now_ns},
    traffic::{Datagrams, datagrams, ping},
};

/// The limit of the program's verifier.
const MOST_INSTRUCTIONS: u32 = 1_000_000;

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
    let begins_ns = rig.shaped("egress").schedule(0).begins_at_ns;
    let took = without_a_daemon(rig, begins_ns, 250);
    println!("{:?} ... {:?}", took[0], took[249]);
    for (at, took) in took {
        let took = took.expect("none is lost");
        let expected = ms(20) + ms(80).mul_f64((at.as_secs_f64() / 4.0).min(1.0));
        // Packets may depart a thirty-second of the delay early, with the one before: none of these, which are 20 ms apart.
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
    rig.shaping(steps, "egress");
    let begins_ns = rig.shaped("egress").schedule(0).begins_at_ns;
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
fn a_policy_ends_on_time_without_a_daemon() {
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
fn a_preset_is_one_word_for_both_ways() {
    needs!(Root, Fq);
    let Rig { world: _world, web, daemon } = Rig::new();
    let presets: serde_json::Value =
        serde_json::from_str(&daemon.words(&["presets", "--json"])).expect("JSON");
    let preset = &presets["satellite-geo"];
    daemon.words(&["set", "web", "--preset", "satellite-geo"]);
    let delay = |direction: &str| -> Duration {
        let words = preset[direction].as_str().expect("words");
        let time = words.split_whitespace().nth(1).and_then(|time| time.strip_suffix("ms"));
        Duration::from_secs_f64(time.expect("a delay").parse::<f64>().expect("a number") / 1000.0)
    };
    let pings = ping(&web.netns, web.host_address, 20, ms(10), &[]).expect("ping works");
    let least = delay("egress") + delay("ingress");
    // Beside the delays, the bottlenecks take less than a millisecond for a ping of 98 bytes.
    assert!(pings.mean >= least && pings.mean <= least + ms(1) + SLACK, "{:?} is not {least:?}", pings.mean);
    let view = daemon.view("web");
    let policies =
        view["interfaces"].as_array().expect("interfaces").iter().map(|view| &view["shaping"]["netem"]);
    assert_eq!(policies.count(), 2, "{view}");
}

#[test]
fn all_effects_at_once_pass_the_verifier_and_work() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let shaping = format!(
        "netem = \"{EVERYTHING}\"\n[[target]]\nto = \"10.2.0.0/16\"\nprotocol = \"udp\"\nnetem = \"partition\"\n"
    );
    for direction in ["egress", "ingress"] {
        rig.shaping(&shaping, direction);
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
fn changes_of_a_policy_lose_no_packet() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.netem("delay 20ms 2ms");
    let pings = thread::scope(|scope| {
        let pings =
            scope.spawn(|| ping(&rig.web.netns, rig.web.host_address, 150, ms(10), &[]).expect("ping works"));
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
fn clearing_a_policy_delivers_what_waits_and_leaves_no_trace() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let (inside, outside) = (rig.web.netns.traces(), rig.world.host().traces());
    let shaping =
        format!("netem = \"{EVERYTHING}\"\n[[target]]\nto = \"10.0.0.0/8\"\ndelay = \"500ms 1ms\"\n");
    rig.shaping(&shaping, "both");
    let arrived = thread::scope(|scope| {
        let burst = scope.spawn(|| rig.send(&rig.web, Datagrams::at_once(200, 100)).len());
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
fn a_daemon_killed_and_started_again_adopts_a_policy_with_its_counters() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let before = rig.web.netns.traces();
    rig.shaping(
        &format!("netem = \"{EVERYTHING}\"\n[[target]]\nto = \"container:web\"\nloss = \"1%\"\n"),
        "egress",
    );
    let _ = rig.send(&rig.web, Datagrams::at_once(300, 100));
    let listed = |rig: &Rig| (rig.daemon.run("list"), rig.daemon.view("web")["interfaces"].clone());
    let first = listed(&rig);
    let Rig { world, web, daemon } = rig;
    daemon.kill(Signal::SIGKILL);
    let pings = ping(&web.netns, web.host_address, 20, ms(10), &[]).expect("ping works");
    assert!(pings.least >= ms(1), "it is in force meanwhile: {pings:?}");
    let rig = Rig { daemon: world.daemon().expect("another daemon"), web, world };
    let second = listed(&rig);
    assert_eq!(second.1[0]["shaping"], first.1[0]["shaping"]);
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
