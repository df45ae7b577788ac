//! Packets to a container that do not wait: shaped at the container's own ingress hook.

use std::{fs, time::Duration};

use shaper_tests::{
    daemon::Daemon,
    needs,
    traffic::{Arrival, Datagrams, datagrams},
    world::{Container, World},
};

const COUNT: u32 = 500;

/// Datagrams from the host to the container, and its daemon's counts of them.
struct Received {
    arrivals: Vec<Arrival>,
    daemon: Daemon,
}

impl Received {
    fn counted(&self, what: &str) -> u64 {
        let view = self.daemon.view("web");
        view["interfaces"][0][what]["packets"].as_u64().unwrap_or_else(|| panic!("no {what} in {view}"))
    }

    /// The times that each number arrived.
    fn times(&self) -> Vec<usize> {
        let mut times = vec![0; COUNT as usize];
        for arrival in &self.arrivals {
            times[arrival.number as usize] += 1;
        }
        times
    }
}

/// Runs `work` on what arrives through `effects`, by each hook, and checks that clearing leaves nothing.
fn through(effects: &str, tos: i32, work: impl Fn(&str, &Received)) {
    for (hook, clsact) in [("tcx", false), ("clsact", true)] {
        let world = World::new().expect("a world");
        let web: Container = world.container("web").expect("a container");
        let before = (web.netns.traces(), world.host().traces());
        let daemon = if clsact { world.daemon_on_clsact() } else { world.daemon() }.expect("a daemon");
        daemon.view("web");
        daemon.words(&["set", "web", "--netem", effects, "--direction", "ingress"]);
        assert_eq!(world.host().traces(), before.1, "the host's end has no part in it");
        let sent = Datagrams { tos, ..Datagrams::at_once(COUNT, 100) };
        let patience = Duration::from_millis(500);
        let arrivals = datagrams(world.host(), &web.netns, web.address.into(), sent, patience);
        let received = Received { arrivals: arrivals.expect("sockets work"), daemon };
        work(hook, &received);
        received.daemon.run("clear web");
        assert_eq!((web.netns.traces(), world.host().traces()), before, "{hook}");
    }
}

#[test]
fn what_a_container_receives_comes_twice() {
    needs!(Root);
    through("duplicate 100%", 0, |hook, received| {
        assert_eq!(received.times(), [2; COUNT as usize], "{hook}");
        assert_eq!(received.counted("duplicated"), u64::from(COUNT), "{hook}");
        assert_eq!(received.counted("passed"), u64::from(COUNT) * 2, "{hook}");
    });
}

#[test]
fn what_a_container_receives_is_lost_as_it_comes() {
    needs!(Root);
    through("loss every 5", 0, |hook, received| {
        let lost = received.times().into_iter().enumerate().filter(|(_, times)| *times == 0);
        let lost: Vec<_> = lost.map(|(number, _)| number % 5).collect();
        assert_eq!(lost, vec![lost[0]; COUNT as usize / 5], "{hook}: each fifth");
        assert_eq!(received.counted("lost"), u64::from(COUNT) / 5, "{hook}");
    });
}

#[test]
fn what_a_container_receives_is_corrupt_and_told_by_its_checksum_or_not() {
    needs!(Root);
    through("corrupt 100%", 0, |hook, received| {
        assert_eq!(received.arrivals.len(), 0, "{hook}: the kernel tells it");
        assert_eq!(received.counted("corrupted"), u64::from(COUNT), "{hook}");
    });
    through("corrupt 100% fixed", 0, |hook, received| {
        assert_eq!(received.arrivals.len(), COUNT as usize, "{hook}");
        let is_turned = |arrival: &Arrival| {
            let zeros = arrival.bytes.iter().skip(4).map(|byte| byte.count_ones()).sum::<u32>();
            // Of the first four bytes, its number, one bit may have been turned, too.
            zeros == 1 || arrival.sent.is_none() || zeros == 0
        };
        assert!(received.arrivals.iter().all(is_turned), "{hook}: by one bit");
        let wrong =
            received.arrivals.iter().filter(|arrival| arrival.bytes[4..].iter().any(|byte| *byte != 0));
        assert!(wrong.count() > COUNT as usize * 9 / 10, "{hook}");
    });
}

#[test]
fn what_a_container_receives_is_marked() {
    needs!(Root);
    const ECT: i32 = 2;
    const CE: u8 = 3;
    through("loss 100% ecn", ECT, |hook, received| {
        assert!(received.arrivals.iter().all(|arrival| arrival.tos == CE), "{hook}");
        assert_eq!((received.arrivals.len(), received.counted("marked")), (COUNT as usize, u64::from(COUNT)));
    });
}

#[test]
fn bytes_are_counted_with_their_ethernet_header() {
    needs!(Root);
    through("loss 0.00001%", 0, |hook, received| {
        let view = received.daemon.view("web");
        let counted = &view["interfaces"][0]["passed"];
        // Ethernet, IPv4, UDP.
        let each = 14 + 20 + 8 + 100;
        assert_eq!(
            (counted["packets"].as_u64(), counted["bytes"].as_u64()),
            (Some(COUNT.into()), Some((COUNT * each).into())),
            "{hook}"
        );
    });
}

#[test]
fn both_directions_share_a_device_and_each_leaves_it_to_the_other() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    web.netns.run("ip link set eth0 txqueuelen 0").expect("it can be set");
    let before = web.netns.traces();
    let daemon = world.daemon_on_clsact().expect("a daemon");
    daemon.view("web");
    for [first, second] in [["egress", "ingress"], ["ingress", "egress"], ["both", "both"]] {
        for [begins, ends] in [[first, second], [second, first]] {
            daemon.run(&format!("set web --loss 1% --direction {begins}"));
            daemon.run("set web --loss 2% --direction both");
            daemon.run(&format!("set web --loss 0% --direction {ends}"));
            assert_eq!(web.netns.classifiers("eth0").len(), if ends == "both" { 0 } else { 1 });
            daemon.run("set web --loss 0% --direction both");
            assert_eq!(web.netns.traces(), before, "{begins} first, {ends} ended first");
        }
    }
    assert_eq!(
        fs::read_dir(world.pin_dir()).expect("it is there").count(),
        3,
        "the ring, the lock and the host"
    );
}
