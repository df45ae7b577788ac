//! Devices that leave their namespace while they are shaped get back what they keep wherever they go.

use nix::sys::signal::Signal;
use shaper_tests::{
    daemon::{Daemon, eventually},
    needs,
    netns::Netns,
    world::{Container, World},
};

/// A container whose device has no queue length, and one without a device to shape, for it to go to.
fn world_of_two() -> (World, Container, Netns, Daemon) {
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    web.netns.run("ip link set eth0 txqueuelen 0 gso_max_segs 4321").expect("they can be set");
    let elsewhere = Netns::create(world.netns_dir().join("elsewhere")).expect("a namespace");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.view("elsewhere");
    (world, web, elsewhere, daemon)
}

fn move_to(web: &Container, elsewhere: &Netns) {
    web.netns.run(&format!("ip link set eth0 netns {}", elsewhere.path().display())).expect("it can go");
}

/// The limits that a device keeps wherever it goes.
fn limits(netns: &Netns) -> [String; 2] {
    let link = netns.run("ip -d link show eth0").expect("it is there");
    let after = |word: &str| {
        let (_, after) = link.split_once(word).unwrap_or_default();
        after.split_whitespace().next().unwrap_or_default().to_owned()
    };
    [after(" qlen "), after(" gso_max_segs ")]
}

/// The limits of a device that nobody has changed.
fn unchanged() -> [String; 2] {
    [String::new(), "4321".to_owned()]
}

fn eventually_unchanged(netns: &Netns) {
    eventually("it is what it was", || (limits(netns) == unchanged()).then_some(()));
}

#[test]
fn a_device_that_leaves_its_container_is_what_it_was() {
    needs!(Root);
    let (world, web, elsewhere, daemon) = world_of_two();
    assert_eq!(limits(&web.netns), unchanged());
    daemon.run("set web --loss 1% --direction both");
    assert_eq!(limits(&web.netns)[1], "1");
    move_to(&web, &elsewhere);
    eventually_unchanged(&elsewhere);
    // A TCX program moves with its device.
    eventually("no program is on it", || elsewhere.classifiers("eth0").is_empty().then_some(()));
    eventually("no pins are left", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    let ended = || daemon.log().matches("shaping ended: its interface has gone").count();
    eventually("both ends are said", || (ended() == 2).then_some(()));
}

#[test]
fn what_a_device_receives_is_not_lost_any_more_where_it_is_shaped_otherwise() {
    needs!(Root);
    let (world, web, elsewhere, daemon) = world_of_two();
    daemon.run("set web --loss 100% --direction ingress");
    move_to(&web, &elsewhere);
    daemon.run("set elsewhere --loss 1%");
    eventually("its one program is that of what it sends", || {
        let interfaces = daemon.view("elsewhere")["interfaces"].as_array()?.len();
        (interfaces == 1 && elsewhere.classifiers("eth0").len() == 1).then_some(())
    });
    daemon.run("clear elsewhere");
    assert_eq!(elsewhere.classifiers("eth0"), [""; 0]);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_device_that_leaves_while_no_daemon_runs_is_what_it_was() {
    needs!(Root);
    let (world, web, elsewhere, daemon) = world_of_two();
    daemon.run("set web --loss 1%");
    daemon.kill(Signal::SIGKILL);
    move_to(&web, &elsewhere);
    drop(web);
    assert_eq!(limits(&elsewhere)[1], "1");
    let daemon = world.daemon().expect("another daemon");
    daemon.view("elsewhere");
    assert_eq!(limits(&elsewhere), unchanged());
    assert_eq!(elsewhere.classifiers("eth0"), [""; 0]);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_device_that_is_shaped_again_elsewhere_is_what_it_was_after_that() {
    needs!(Root);
    let (_world, web, elsewhere, daemon) = world_of_two();
    daemon.run("set web --loss 1%");
    move_to(&web, &elsewhere);
    daemon.run("set elsewhere --loss 1%");
    eventually("it is lost", || daemon.log().contains("its interface has gone").then_some(()));
    eventually("its record is corrected", || {
        daemon.run("clear elsewhere");
        let is_unchanged = limits(&elsewhere) == unchanged();
        (is_unchanged || {
            daemon.run("set elsewhere --loss 1%");
            false
        })
        .then_some(())
    });
}

#[test]
fn another_device_with_the_index_of_one_that_left_is_not_touched() {
    needs!(Root);
    let (world, web, elsewhere, daemon) = world_of_two();
    let link = web.netns.run("ip -o link show eth0").expect("it is there");
    let index = link.split(':').next().expect("ip begins with the index");
    daemon.run("set web --loss 1%");
    daemon.kill(Signal::SIGKILL);
    move_to(&web, &elsewhere);
    let add = format!("ip link add eth0 index {index} gso_max_segs 1 type veth peer name other netns");
    web.netns.run(&format!("{add} {}", world.host().path().display())).expect("the index is free");
    web.netns.run("tc qdisc add dev eth0 clsact").expect("it can be added");
    let before = web.netns.traces();
    let daemon = world.daemon().expect("another daemon");
    daemon.view("web");
    assert_eq!(limits(&elsewhere), unchanged());
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
}
