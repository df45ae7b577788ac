//! Queues that somebody else takes off a device: packets that do not wait are not counted as delayed.

use std::time::Duration;

use shaper_tests::{
    daemon::{Daemon, eventually},
    needs,
    traffic::ping,
    world::{Container, World},
};

fn shaped_world() -> (World, Container, Daemon) {
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    (world, web, daemon)
}

/// The mean round trip of 20 pings from the container.
fn round_trip(web: &Container) -> Duration {
    let pings = ping(&web.netns, web.host_address, 20, Duration::from_millis(10), &[]).expect("ping works");
    assert_eq!(pings.received, 20);
    pings.mean
}

fn wait_for_reason(daemon: &Daemon, reason: &str) {
    eventually(reason, || (daemon.view("web")["interfaces"][0]["reason"] == reason).then_some(()));
    assert!(daemon.run("list").contains(&format!("broken: {reason}")));
}

fn delayed(daemon: &Daemon) -> u64 {
    daemon.view("web")["interfaces"][0]["delayed"]["packets"].as_u64().expect("a count")
}

#[test]
fn a_queue_that_was_taken_away_is_said_and_nothing_is_counted_as_delayed() {
    needs!(Root, Fq);
    let latency = Duration::from_millis(100);
    for words in [&["--latency", "100ms"][..], &["--netem", "delay 100ms 1us"]] {
        let (_world, web, daemon) = shaped_world();
        let before = web.netns.traces();
        daemon.words(&[&["set", "web"], words].concat());
        assert!(round_trip(&web) >= latency);
        web.netns.run("tc qdisc replace dev eth0 root pfifo").expect("anybody may");
        wait_for_reason(&daemon, "queue replaced by pfifo");
        let counted = delayed(&daemon);
        assert!(counted >= 20);
        assert!(round_trip(&web) < latency);
        assert_eq!(delayed(&daemon), counted, "{words:?}");
        let complaint = daemon.complaint("set web --for 1h");
        assert!(
            complaint.contains("tc qdisc del dev eth0 root"),
            "another's queue is not replaced: {complaint}"
        );
        web.netns.run("tc qdisc del dev eth0 root").expect("anybody may");
        wait_for_reason(&daemon, "queue removed");
        daemon.run("set web --for 1h");
        assert_eq!(daemon.view("web")["interfaces"][0]["state"], "intact");
        assert!(round_trip(&web) >= latency, "{words:?}");
        assert!(delayed(&daemon) >= counted + 20);
        web.netns.run("tc qdisc del dev eth0 root").expect("anybody may");
        wait_for_reason(&daemon, "queue removed");
        daemon.run("clear web");
        assert_eq!(web.netns.traces(), before);
    }
}
