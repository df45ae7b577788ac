//! That losses are of single packets, also TCP's, and that devices take again what they took when they are over.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt::UdpGsoSegment},
};
use shaper_tests::{
    capture::{Packets, watch},
    daemon::{Daemon, eventually},
    needs,
    traffic::tcp,
    world::{Container, World},
};

fn shaped_world() -> (World, Container, Daemon) {
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    (world, web, daemon)
}

/// Returns the number of segments that the container's device takes in one packet.
fn taken_at_once(web: &Container) -> u32 {
    let link = web.netns.run("ip -d link show eth0").expect("ip works");
    let (_, after) = link.split_once("gso_max_segs ").expect("it is shown");
    after.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_device_takes_single_segments_while_some_are_to_be_lost() {
    needs!(Root);
    let (world, web, daemon) = shaped_world();
    web.netns.run("ip link set eth0 gso_max_segs 4321 group 7").expect("it can be set");
    let (before, outside) = (web.netns.traces(), world.host().traces());
    for end in ["set web --loss 0", "clear web", "set web --for 1s"] {
        daemon.run("set web --loss 1%");
        assert_eq!(taken_at_once(&web), 1, "before `{end}`");
        assert_eq!(world.host().traces(), outside, "the host's end has no part in it");
        daemon.run("set web --loss 50%");
        assert_eq!(taken_at_once(&web), 1);
        daemon.run(end);
        eventually(&format!("`{end}` gives it back"), || (web.netns.traces() == before).then_some(()));
    }
    daemon.run("set web --loss 1%");
    daemon.kill(Signal::SIGKILL);
    let daemon = world.daemon().expect("another daemon");
    daemon.view("web");
    assert_eq!(taken_at_once(&web), 1);
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before, "after a restart");
}

#[test]
fn a_limit_that_somebody_changes_meanwhile_is_theirs() {
    needs!(Root);
    let (_world, web, daemon) = shaped_world();
    daemon.run("set web --loss 1%");
    web.netns.run("ip link set eth0 gso_max_segs 9").expect("anybody may");
    daemon.run("clear web");
    assert_eq!(taken_at_once(&web), 9);
    daemon.run("set web --loss 1%");
    web.netns.run("ip link set eth0 gso_max_segs 10").expect("anybody may");
    daemon.run("set web --loss 2%");
    assert_eq!(taken_at_once(&web), 1, "a new loss needs it again");
    daemon.run("clear web");
    assert_eq!(taken_at_once(&web), 9);
}

#[test]
fn a_classifier_that_somebody_else_removed_leaves_no_limit_behind() {
    needs!(Root);
    let (_world, web, daemon) = shaped_world();
    let before = web.netns.traces();
    daemon.run("set web --loss 1%");
    web.netns.remove_classifiers("eth0");
    daemon.run("set web --loss 1%");
    assert_eq!(taken_at_once(&web), 1);
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
}

#[test]
fn pins_that_cannot_be_read_leave_no_limit_behind() {
    needs!(Root);
    let (world, web, daemon) = shaped_world();
    let before = web.netns.traces();
    daemon.run("set web --loss 1%");
    daemon.kill(Signal::SIGKILL);
    let pins = world.pins_of(&web, "egress").expect("its pins");
    std::fs::rename(pins.join("SHAPING"), pins.join("ORIGINAL")).expect("it is another map then");
    let daemon = world.daemon().expect("another daemon");
    daemon.view("web");
    eventually("it is taken away", || (web.netns.traces() == before).then_some(()));
}

#[test]
fn a_loss_taken_from_a_delay_gives_its_segments_back() {
    needs!(Root, Fq);
    let (_world, web, daemon) = shaped_world();
    daemon.run("set web --latency 10ms");
    let before = taken_at_once(&web);
    assert!(before > 1, "a delay alone needs none");
    daemon.run("set web --loss 1%");
    assert_eq!(taken_at_once(&web), 1);
    daemon.run("set web --loss 0");
    eventually("they are given back", || (taken_at_once(&web) == before).then_some(()));
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["latency"], "10ms");
}

/// Returns what arrives at the host of the container's one connection during `work`.
fn watched(world: &World, web: &Container, work: impl FnOnce()) -> Packets {
    watch(world.host(), web.address, work).expect("root may").1
}

#[test]
fn tcp_loses_single_packets_also_on_connections_that_were_there() {
    needs!(Root);
    let (world, web, daemon) = shaped_world();
    // Adding the hook takes the device's queue away for a moment, and what is sent then is lost, in one piece.
    web.netns.run("tc qdisc add dev eth0 clsact").expect("it can be added");
    let second = Duration::from_secs(1);
    let longest = || watched(&world, &web, || thread::sleep(second / 10)).longest();
    thread::scope(|scope| {
        let begin = Instant::now();
        let sender = scope.spawn(|| tcp(&web.netns, world.host(), web.host_address.into(), 8 * second));
        eventually("it sends many segments at once", || (longest() > 1500).then_some(()));
        let seen = watched(&world, &web, || {
            daemon.run("set web --loss 5%");
            thread::sleep(2 * second);
        });
        let lost = seen.losses(seen.port().expect("something came"));
        println!("{} losses, on average of {:.3} packets", lost.runs.len(), lost.mean_run());
        assert!(lost.runs.len() >= 50, "too few to tell: {lost:?}");
        // Of single packets 1 / (1 - 0.05) are lost in a row, with a deviation of 0.24: 1.2 is over four deviations of
        // the mean of fifty.
        assert!(lost.mean_run() < 1.2, "{lost:?}");
        assert!(longest() <= 1500);
        daemon.run("clear web");
        eventually("it sends many segments at once again", || (longest() > 1500).then_some(()));
        assert!(begin.elapsed() < 8 * second, "the connection was the same");
        let transfer = sender.join().expect("it does not panic").expect("it arrives");
        assert!(transfer.retransmits > 0, "{transfer:?}");
    });
}

#[test]
fn datagrams_that_the_kernel_parts_arrive_whole() {
    needs!(Root);
    let (world, web, daemon) = shaped_world();
    daemon.run("set web --loss 0.000001%");
    let receiver = world.host().enter(|| UdpSocket::bind((web.host_address, 0))).expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("it is not zero");
    let to = receiver.local_addr().expect("it is bound");
    web.netns.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        setsockopt(&socket, UdpGsoSegment, &1000).expect("Linux has it since 4.18");
        assert_eq!(socket.send_to(&[7; 40_000], to).expect("it is sent"), 40_000);
    });
    for number in 0..40 {
        let length = receiver.recv(&mut [0; 2000]).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(length, 1000);
    }
}
