//! Tests that the state shown is the true one: shaping that somebody else takes off a device is said to be broken, and
//! can be set again.

use std::{fs, time::Duration};

use aya::maps::{Array, Map, MapData};
use nix::sys::signal::Signal;
use shaper_common::Original;
use shaper_tests::{
    daemon::{Daemon, eventually},
    needs, tcx,
    traffic::ping,
    world::{Container, World},
};

fn world_of_web() -> (World, Container) {
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    (world, web)
}

fn shaped_world() -> (World, Container, Daemon) {
    let (world, web) = world_of_web();
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    (world, web, daemon)
}

/// Returns the number of 20 pings from the container that are lost.
fn lost(web: &Container) -> u32 {
    let pings = ping(&web.netns, web.host_address, 20, Duration::from_millis(1), &["-W", "0.2"]);
    let pings = pings.expect("ping works");
    pings.sent - pings.received
}

fn wait_for_state(daemon: &Daemon, state: &str) {
    eventually(&format!("it is {state}"), || {
        (daemon.view("web")["interfaces"][0]["state"] == state).then_some(())
    });
}

/// The lines of the log that contain `words`.
fn lines(daemon: &Daemon, words: &str) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

#[test]
fn a_removed_classifier_is_said_once_and_put_back_by_the_next_set() {
    needs!(Root);
    let (_world, web, daemon) = shaped_world();
    let before = web.netns.traces();
    daemon.run("set web --loss 100%");
    assert_eq!(daemon.view("web")["interfaces"][0]["state"], "intact");
    web.netns.remove_classifiers("eth0");
    wait_for_state(&daemon, "broken");
    assert_eq!(daemon.view("web")["interfaces"][0]["reason"], "classifier removed");
    assert!(daemon.run("list").contains("broken: classifier removed"));
    assert!(daemon.run("inspect web").contains("broken: classifier removed"));
    assert_eq!(lost(&web), 0);
    daemon.run("set web --for 1h");
    assert_eq!(daemon.view("web")["interfaces"][0]["state"], "intact");
    assert_eq!(lost(&web), 20, "what was set before is in force again");
    eventually("it is said", || (!lines(&daemon, "shaping repaired").is_empty()).then_some(()));
    for kind in ["broken", "repaired"] {
        let said = lines(&daemon, &format!("shaping {kind}: classifier removed"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("web") && said[0].contains("eth0") && said[0].contains("loss 100%"),
            "{said:?}"
        );
    }
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
}

fn reason(daemon: &Daemon) -> String {
    daemon.view("web")["interfaces"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_classifier_in_front_that_lets_nothing_through_is_said_and_overtaken_by_the_next_set() {
    needs!(Root);
    let (world, web) = world_of_web();
    let daemon = world.daemon_on_clsact().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100%");
    assert_eq!(lost(&web), 20);
    // A new classifier of the same priority comes first (`cls_bpf_change`); this one matches everything.
    let file = world.directory().join("everything");
    fs::write(&file, "1,6 0 0 4294967295,").expect("it can be written");
    let filter = format!("bpf bytecode-file {} flowid 1:1", file.display());
    web.netns
        .run(&format!("tc filter add dev eth0 egress protocol all prio 1 {filter}"))
        .expect("anybody may");
    wait_for_bypass(&daemon, &web);
    assert_eq!(reason(&daemon), "a bpf classifier of priority 1 lets no packet through to the classifier");
    daemon.run("set web --for 1h");
    assert_eq!((lost(&web), reason(&daemon)), (20, String::new()), "ours is first again");
}

/// Has the container ping until the daemon sees that a loss of all is off, as something in front lets nothing through.
fn wait_for_bypass(daemon: &Daemon, web: &Container) {
    eventually("it is seen", || {
        assert_eq!(lost(web), 0, "the loss is off");
        reason(daemon).contains("lets no packet through to the classifier").then_some(())
    });
}

#[test]
fn a_tcx_program_that_lets_nothing_through_is_said_and_overtaken_by_the_next_set() {
    needs!(Root, Tcx);
    let (_world, web, daemon) = shaped_world();
    daemon.run("set web --loss 100%");
    let _program = web.netns.enter(|| tcx::pass_everything("eth0")).expect("it is attached");
    wait_for_bypass(&daemon, &web);
    assert!(reason(&daemon).starts_with("the TCX program "), "{}", reason(&daemon));
    daemon.run("set web --for 1h");
    assert_eq!((lost(&web), reason(&daemon)), (20, String::new()), "ours is first again");
}

#[test]
fn a_tcx_program_before_a_classifier_is_said_and_no_set_succeeds_until_it_is_gone() {
    needs!(Root, Tcx);
    let (world, web) = world_of_web();
    let daemon = world.daemon_on_clsact().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100%");
    let program = web.netns.enter(|| tcx::pass_everything("eth0")).expect("it is attached");
    wait_for_bypass(&daemon, &web);
    let complaint = daemon.complaint("set web --loss 50%");
    assert!(complaint.contains("may keep ours from running"), "{complaint}");
    drop(program);
    eventually("it is intact", || {
        lost(&web);
        reason(&daemon).is_empty().then_some(())
    });
    assert_eq!(lost(&web), 20);
}

#[test]
fn what_a_container_receives_past_its_hosts_end_is_lost_as_well() {
    needs!(Root, Tcx);
    let (world, web, daemon) = shaped_world();
    let other = world.container("other").expect("a container");
    world.host().enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("it forwards");
    for container in [&web, &other] {
        let line = format!("ip route add default via {}", container.host_address);
        container.netns.run(&line).expect("a route");
    }
    let lost = || {
        let pings = ping(&other.netns, web.address, 20, Duration::from_millis(1), &["-W", "0.2"]);
        let pings = pings.expect("ping works");
        pings.sent - pings.received
    };
    daemon.run("set web --loss 100% --direction ingress");
    assert_eq!(lost(), 20);
    let redirected = world.host().enter(|| tcx::redirect_to_peer(&other.host_end, &web.host_end));
    let _redirected = redirected.expect("it is attached");
    assert_eq!(lost(), 20);
    daemon.run("clear web");
    assert_eq!(lost(), 0);
}

#[test]
fn clearing_what_is_broken_gives_back_what_there_is() {
    needs!(Root);
    let (world, web, daemon) = shaped_world();
    web.netns.run("ip link set eth0 txqueuelen 0").expect("it can be set");
    let before = web.netns.traces();
    daemon.run("set web --loss 100%");
    web.netns.remove_classifiers("eth0");
    wait_for_state(&daemon, "broken");
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn the_end_of_a_shaping_is_said_once_with_the_reason() {
    needs!(Root);
    let (world, web, daemon) = shaped_world();
    daemon.run("set web --loss 1% --for 1s");
    eventually("it ends", || (!lines(&daemon, "shaping ended").is_empty()).then_some(()));
    daemon.run("set web --loss 1% --direction both");
    web.netns.run("ip link del eth0").expect("it can go");
    eventually("its end is said", || (lines(&daemon, "its interface has gone").len() == 2).then_some(()));
    eventually("its pins go", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    world.container("db").expect("another container");
    let db = world.container("db2").expect("another container");
    daemon.view("db2");
    daemon.run("set db2 --loss 1%");
    eventually("it is counted", || (daemon.view("db2")["samples"].as_array()?.len() > 1).then_some(()));
    drop(db);
    eventually("its end is said", || (lines(&daemon, "shaping ended").len() == 4).then_some(()));
    let over = lines(&daemon, "shaping ended: its time is over");
    assert_eq!(over.len(), 1, "{over:?}");
    assert!(over[0].contains("web") && over[0].contains("eth0") && over[0].contains("loss 1%"), "{over:?}");
    let last = lines(&daemon, "shaping ended").pop().expect("four");
    let is_said = ["its container was removed", "has gone"].iter().any(|reason| last.contains(reason));
    assert!(last.contains("db2") && is_said, "{last}");
}

/// The daemon's end, its pins then changed by `change`, and another daemon's start: the device is as it was.
fn kill_and_change(length: u32, change: impl FnOnce(&Container, &std::path::Path)) {
    let (world, web, daemon) = shaped_world();
    web.netns.run(&format!("ip link set eth0 txqueuelen {length}")).expect("it can be set");
    if length > 0 {
        web.netns.run("tc qdisc add dev eth0 clsact").expect("clsact is there");
    }
    let before = web.netns.traces();
    daemon.run("set web --loss 1%");
    daemon.kill(Signal::SIGKILL);
    change(&web, &world.pins_of(&web, "egress").expect("its pins"));
    let daemon = world.daemon().expect("another daemon");
    daemon.view("web");
    assert_eq!(web.netns.traces(), before, "{}", daemon.log());
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_device_without_a_record_of_what_it_was_has_not_been_touched() {
    needs!(Root);
    kill_and_change(777, |web, pins| {
        let map = MapData::from_pin(pins.join("ORIGINAL")).expect("it is pinned");
        let mut map: Array<_, Original> = Array::try_from(Map::Array(map)).expect("it is an array");
        map.set(0, Original::default(), 0).expect("it can be written");
        web.netns.enter(|| tcx::detach_all("eth0"));
        let _ = web.netns.run("tc filter del dev eth0 egress");
        web.netns.run("ip link set eth0 gso_max_segs 65535").expect("it can be set");
    });
}

#[test]
fn pins_that_cannot_be_read_give_back_what_is_recorded() {
    needs!(Root);
    kill_and_change(777, |_, pins| fs::remove_file(pins.join("SHAPING")).expect("it is pinned"));
    kill_and_change(0, |_, pins| fs::remove_file(pins.join("SHAPING")).expect("it is pinned"));
}

#[test]
fn a_queue_length_is_given_back_by_the_next_daemon_too() {
    needs!(Root);
    kill_and_change(0, |web, _| {
        web.netns.remove_classifiers("eth0");
    });
}
