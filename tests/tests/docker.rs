//! Docker's containers, through Scope's buttons and our own commands: loss, and the comings and goings of containers.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use serde_json::Value;
use shaper_tests::{
    daemon::eventually, docker::DockerWorld, needs, netns::Netns, probe::DockerReporter,
    statistics::is_binomial, traffic::ping,
};

/// The buttons of Scope's Docker reporter on a running container, and ours.
const BUTTONS_OF_A_RUNNING_CONTAINER: [&str; 10] = [
    "docker_attach_container",
    "docker_exec_container",
    "docker_pause_container",
    "docker_restart_container",
    "docker_stop_container",
    "traffic-control-table-slow",
    "traffic-control-table-medium",
    "traffic-control-table-fast",
    "traffic-control-table-pkt-drop-low",
    "traffic-control-table-clear",
];

fn world() -> DockerWorld {
    DockerWorld::start().expect("Docker and a daemon")
}

fn lost(from: &Netns, to: Ipv4Addr, count: u32) -> u32 {
    let pings = ping(from, to, count, Duration::from_millis(1), &["-W", "0.2"]).expect("ping works");
    assert_eq!(pings.sent, count);
    count - pings.received
}

/// Returns true if a tenth is lost. One run in a thousand strays further by chance; two of two do not.
fn loses_a_tenth(from: &Netns, to: Ipv4Addr) -> bool {
    let lost: Vec<_> = (0..2).map(|_| lost(from, to, 1000)).collect();
    println!("{lost:?} of 1000 lost at 10 %");
    lost.iter().any(|&lost| is_binomial(lost.into(), 1000, 0.1))
}

fn interfaces(world: &DockerWorld, container: &str) -> Vec<(String, String)> {
    let view = world.daemon.view(container);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let interface = |view: &Value| (text(&view["interface"]), text(&view["shaping"]["loss"]));
    view["interfaces"].as_array().expect("a list").iter().map(interface).collect()
}

/// Waits until neither we nor Scope show any shaping of a container.
fn eventually_unshaped(world: &DockerWorld, container: &str, id: &str) {
    eventually(&format!("{container} is unshaped"), || interfaces(world, container).is_empty().then_some(()));
    world.node("Scope shows no loss", id, |node| (node?.row("pktloss")? == "-").then_some(()));
}

fn inode(netns: &Netns) -> u64 {
    fs::metadata(netns.path()).expect("it is there").ino()
}

#[test]
fn buttons_follow_the_state_of_a_container() {
    needs!(Root, Docker);
    let world = world();
    let docker = |line: &str| world.engine.docker(&line.split(' ').collect::<Vec<_>>()).expect(line);
    let created = docker("create --name created busybox:local sleep 1000");
    let begin = Instant::now();
    let id = world.engine.run("web", &[]).expect("a container");
    let started = begin.elapsed();
    world.node("it is discovered", &id, |node| {
        (node?.controls() == BUTTONS_OF_A_RUNNING_CONTAINER).then_some(())
    });
    println!("started after {started:?}, discovered after {:?}", begin.elapsed());
    let report = world.probe.report().expect("a report");
    assert!(report.node(&created).is_none(), "what never ran has no node");
    let node = report.node(&id).expect("it has been discovered");
    // Scope's Docker reporter has these: it sends the clicks, and two labels would take turns.
    assert_eq!((node.latest("control_probe_id"), node.latest("docker_container_name")), (None, None));

    docker("pause web");
    world.node("only unpausing is left", &id, |node| {
        (node?.controls() == ["docker_unpause_container"]).then_some(())
    });
    let refused = world.press(&id, "pkt-drop-low").error.expect("nobody could see it work");
    assert!(refused.contains("paused"), "{refused}");
    docker("unpause web");
    world.node("all is back", &id, |node| (node?.controls() == BUTTONS_OF_A_RUNNING_CONTAINER).then_some(()));
    assert_eq!(world.press(&id, "pkt-drop-low").error, None);

    docker("stop web");
    world.node("only starting and removing are left", &id, |node| {
        (node?.controls() == ["docker_remove_container", "docker_start_container"]).then_some(())
    });
    let refused = world.press(&id, "pkt-drop-low").error.expect("it has no network");
    assert!(refused.contains("stopped"), "{refused}");
    docker("rm web");
    world.node("its node goes with it", &id, |node| node.is_none().then_some(()));
}

/// Scope's Docker reporter is asked at the same time, and takes some milliseconds longer than a report does to be made.
#[test]
fn buttons_stay_whether_docker_or_we_are_asked_first() {
    needs!(Root, Docker);
    let world = world();
    let id = world.run("web", &[]);
    for round in 0..20 {
        let takes = Duration::from_millis(50);
        let lists = world.probe.round(DockerReporter { containers: &[&id], takes }).expect("a round");
        let mut expected = BUTTONS_OF_A_RUNNING_CONTAINER.to_vec();
        let mut shown: Vec<_> = lists[&id].iter().map(String::as_str).collect();
        expected.sort_unstable();
        shown.sort_unstable();
        assert_eq!(shown, expected, "round {round}");
    }
}

#[test]
fn a_button_loses_packets_until_the_container_is_gone() {
    needs!(Root, Docker);
    let world = world();
    let before = world.host_traces();
    let id = world.run("web", &[]);
    let web = world.netns("web").expect("it runs");
    let (_, bridge) = world.addresses("web", "bridge").expect("addresses");
    assert_eq!(lost(&web, bridge, 100), 0);
    let unshaped = web.traces();
    let begin = Instant::now();
    let answer = world.press(&id, "pkt-drop-low");
    println!("the first click was answered after {:?}", begin.elapsed());
    assert_eq!(answer.error, None);
    let at_once = answer.shortcut_report.expect("Scope is not kept waiting");
    assert_eq!(at_once.node(&id).and_then(|node| node.row("pktloss")), Some("10%"));
    assert_eq!(
        world.probe.report().expect("a report").node(&id).and_then(|node| node.row("pktloss")),
        Some("10%")
    );
    assert!(loses_a_tenth(&web, bridge));
    assert_eq!(world.pins().len(), 2, "one interface and the log ring");
    assert_eq!(world.press(&id, "clear").error, None);
    assert_eq!(web.traces(), unshaped);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
    assert_eq!(world.press(&id, "pkt-drop-low").error, None);
    world.engine.rm("web").expect("it can go");
    world.node("its node goes with it", &id, |node| node.is_none().then_some(()));
    eventually("its pins go with it", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    eventually("the bridge is as before", || (world.host_traces() == before).then_some(()));
}

#[test]
fn what_a_container_receives_is_lost_on_the_bridge() {
    needs!(Root, Docker);
    let world = world();
    let before = world.host_traces();
    let id = world.run("web", &[]);
    let (address, _) = world.addresses("web", "bridge").expect("addresses");
    assert_eq!(lost(&world.host, address, 100), 0);
    let unshaped = world.host_traces();
    world.daemon.run("set web --loss 10% --direction ingress");
    assert!(loses_a_tenth(&world.host, address));
    world.node("Scope says which way", &id, |node| (node?.row("pktloss")? == "10% in").then_some(()));
    world.daemon.run("clear web");
    assert_eq!(world.host_traces(), unshaped);
    world.daemon.run("set web --loss 10% --direction both");
    assert_eq!(world.pins().len(), 3, "two directions and the log ring");
    world.engine.rm("web").expect("it can go");
    eventually("its pins go with it", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    eventually("the bridge is as before", || (world.host_traces() == before).then_some(()));
}

#[test]
fn a_restart_ends_shaping_even_if_the_namespace_has_the_same_number() {
    needs!(Root, Docker);
    let world = world();
    let id = world.run("web", &[]);
    let mut reused = 0;
    for round in 0..10 {
        let old = inode(&world.netns("web").expect("it runs"));
        assert_eq!(world.press(&id, "pkt-drop-low").error, None, "round {round}");
        // Without a pause, the old namespace's number is rarely free in time for the new one.
        let verbs: &[&str] = if round % 2 == 0 { &["restart"] } else { &["kill", "start"] };
        for verb in verbs {
            world.engine.docker(&[verb, "web"]).expect("it restarts");
        }
        eventually_unshaped(&world, "web", &id);
        eventually("its pins are gone", || (world.pins() == ["AYA_LOGS"]).then_some(()));
        let web = world.netns("web").expect("it runs");
        reused += u32::from(inode(&web) == old);
        let (_, bridge) = world.addresses("web", "bridge").expect("addresses");
        assert_eq!(lost(&web, bridge, 20), 0, "round {round}");
        let ends = || world.daemon.log().matches("shaping ended: its ").count();
        eventually("its end is said once", || (ends() == round + 1).then_some(()));
    }
    println!("the number was used again in {reused} of 10 restarts");
}

#[test]
fn a_container_that_gets_the_number_of_another_is_not_shaped() {
    needs!(Root, Docker);
    let world = world();
    let mut reused = 0;
    for round in 0..5 {
        let web = world.run("web", &[]);
        let old = inode(&world.netns("web").expect("it runs"));
        assert_eq!(world.press(&web, "pkt-drop-low").error, None, "round {round}");
        world.engine.docker(&["kill", "web"]).expect("it ends");
        let db = world.run("db", &[]);
        reused += u32::from(inode(&world.netns("db").expect("it runs")) == old);
        eventually_unshaped(&world, "db", &db);
        eventually_unshaped(&world, "web", &web);
        eventually("its pins are gone", || (world.pins() == ["AYA_LOGS"]).then_some(()));
        // It can be shaped, and is then not taken for the one that went.
        assert_eq!(world.press(&db, "pkt-drop-low").error, None, "round {round}");
        world.engine.rm("web").expect("it can go");
        world.node("its node goes with it", &web, |node| node.is_none().then_some(()));
        assert_eq!(interfaces(&world, "db"), [("eth0".to_owned(), "10%".to_owned())]);
        world.engine.rm("db").expect("it can go");
        eventually("its pins go with it", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    }
    println!("the number was used again in {reused} of 5 rounds");
}

#[test]
fn a_container_on_the_hosts_network_is_refused() {
    needs!(Root, Docker);
    let world = world();
    let id = world.run("node", &["--network", "host"]);
    let before = world.host_traces();
    for button in ["pkt-drop-low", "slow"] {
        let refused = world.press(&id, button).error.expect("it would shape the whole host");
        assert!(refused.contains("--network host") && refused.contains("node"), "{refused}");
    }
    assert_eq!(world.press(&id, "clear").error, None, "there is nothing to clear");
    assert_eq!(world.host_traces(), before);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn containers_that_share_a_network_share_its_shaping() {
    needs!(Root, Docker);
    let world = world();
    let web = world.run("web", &[]);
    let sidecar = world.run("sidecar", &["--network", "container:web"]);
    let shown = |id: &str, loss: &str| {
        world.node("both show the same", id, |node| (node?.row("pktloss")? == loss).then_some(()));
    };
    let answer = world.press(&web, "pkt-drop-low");
    assert_eq!(answer.error, None);
    let at_once = answer.shortcut_report.expect("Scope is not kept waiting");
    for id in [&web, &sidecar] {
        assert_eq!(at_once.node(id).and_then(|node| node.row("pktloss")), Some("10%"));
        shown(id, "10%");
    }
    assert_eq!(world.pins().len(), 2, "one shaping and the log ring");
    assert_eq!(world.press(&sidecar, "clear").error, None);
    for id in [&web, &sidecar] {
        shown(id, "-");
    }
    assert_eq!(world.pins(), ["AYA_LOGS"]);

    assert_eq!(world.press(&web, "pkt-drop-low").error, None);
    world.engine.rm("sidecar").expect("it can go");
    world.node("its node goes with it", &sidecar, |node| node.is_none().then_some(()));
    shown(&web, "10%");
    assert_eq!(world.pins().len(), 2, "the other is still there");
}

#[test]
fn a_network_that_is_connected_later_is_shaped_too() {
    needs!(Root, Docker);
    let world = world();
    let before = world.host_traces();
    let docker = |line: &str| world.engine.docker(&line.split(' ').collect::<Vec<_>>()).expect(line);
    let id = world.run("web", &[]);
    assert_eq!(world.press(&id, "pkt-drop-low").error, None);
    docker("network create lan");
    docker("network connect lan web");
    let tenth = |interface: &str| (interface.to_owned(), "10%".to_owned());
    eventually("the new interface is shaped", || {
        (interfaces(&world, "web") == [tenth("eth0"), tenth("eth1")]).then_some(())
    });
    let (_, bridge) = world.addresses("web", "lan").expect("addresses");
    assert!(loses_a_tenth(&world.netns("web").expect("it runs"), bridge));
    docker("network disconnect lan web");
    eventually("the old one stays", || (interfaces(&world, "web") == [tenth("eth0")]).then_some(()));
    assert_eq!(world.pins().len(), 2, "one interface and the log ring");

    docker("network connect lan web");
    eventually("it is shaped again", || (interfaces(&world, "web").len() == 2).then_some(()));
    world.daemon.run("set web --interface eth[1-9] --for 1h");
    let all_but_the_first = |number: usize| {
        let shaped = interfaces(&world, "web");
        shaped.len() == number && !shaped.contains(&tenth("eth0"))
    };
    assert!(all_but_the_first(1), "{:?}", interfaces(&world, "web"));
    docker("network create wan");
    docker("network connect wan web");
    eventually("a new interface is one that was chosen", || all_but_the_first(2).then_some(()));
    world.engine.rm("web").expect("it can go");
    docker("network rm lan wan");
    eventually("the bridge is as before", || (world.host_traces() == before).then_some(()));
}

#[test]
fn shaping_and_buttons_outlive_a_restart_of_docker() {
    needs!(Root, Docker);
    let mut world = world();
    let id = world.run("web", &[]);
    assert_eq!(world.press(&id, "pkt-drop-low").error, None);
    let gone = world.run("gone", &[]);
    let DockerWorld { engine, daemon, probe, .. } = &mut world;
    engine
        .restart(|| {
            let report = probe.report().expect("Docker's end is no reason to fail");
            for container in [&id, &gone] {
                assert!(report.node(container).is_some(), "what is known is kept");
            }
            daemon.run("set gone --loss 1%");
            daemon.run("set web --for 1h");
        })
        .expect("Docker is back");
    world.engine.rm("gone").expect("it can go");
    world.node("Docker is watched again", &gone, |node| node.is_none().then_some(()));
    let view = world.daemon.view("web");
    assert_eq!(view["interfaces"][0]["shaping"]["loss"], "10%");
    assert!(view["interfaces"][0]["remaining_ms"].is_u64(), "{view}");
    eventually("only one is left", || (world.pins().len() == 2).then_some(()));
    assert_eq!(world.press(&id, "clear").error, None);
}
