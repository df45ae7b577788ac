//! Interfaces that are chosen by the network that they connect a container to, with real runtimes.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shaper_tests::{
    daemon::{Daemon, PATIENCE, eventually},
    docker::{DockerDaemon, DockerWorld},
    needs,
    netns::Netns,
    traffic::ping,
    world::World,
};

/// The networks whose interfaces are shaped, in order; the name of an interface where its network is not known. The names of
/// Docker's interfaces depend on what was connected before.
fn shaped(daemon: &Daemon, container: &str) -> Vec<String> {
    let view = daemon.view(container);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let name = |view: &Value| match view["networks"].as_array() {
        Some(networks) => networks.iter().map(text).collect::<Vec<_>>().join(" and "),
        None => text(&view["interface"]),
    };
    let mut names: Vec<_> = view["interfaces"].as_array().expect("a list").iter().map(name).collect();
    names.sort();
    names
}

fn eventually_shaped(daemon: &Daemon, container: &str, expected: &[&str]) {
    let begin = Instant::now();
    while shaped(daemon, container) != expected {
        let now = shaped(daemon, container);
        assert!(begin.elapsed() < PATIENCE, "{now:?}, not {expected:?}:\n{}", daemon.log());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until these are the networks of a container that is listed.
fn eventually_connected(daemon: &Daemon, container: &str, expected: &[&str]) {
    eventually(&format!("{container} is connected to {expected:?}"), || {
        let view = daemon.view(container);
        let networks = view["container"]["networks"].as_array().into_iter().flatten();
        networks.map(|one| one["network"].as_str()).eq(expected.iter().map(|one| Some(*one))).then_some(())
    });
}

/// The packets of five to the bridge of a network that are answered.
fn answered(world: &DockerWorld, network: &str) -> u32 {
    let (_, bridge) = world.addresses("web", network).expect("it is connected");
    received(&world.netns("web").expect("it runs"), bridge)
}

fn received(from: &Netns, to: Ipv4Addr) -> u32 {
    ping(from, to, 5, Duration::from_millis(1), &["-W", "0.2"]).expect("ping works").received
}

#[test]
fn the_interfaces_of_a_chosen_network_are_shaped_as_long_as_it_is_connected() {
    needs!(Root, Docker);
    let world = DockerWorld::start().expect("Docker and a daemon");
    let before = world.host_traces();
    for network in ["shop_back", "shop_front", "spare"] {
        world.engine.docker(&["network", "create", network]).expect("a network");
    }
    world.engine.run("web", &["--network", "shop_front"]).expect("a container");
    world.engine.docker(&["network", "connect", "shop_back", "web"]).expect("it is connected");
    eventually_connected(&world.daemon, "web", &["shop_back", "shop_front"]);

    let refused = world.daemon.complaint("set web --loss 1% --network nosuch");
    let has =
        "it has no interface of network nosuch: it has eth0 of network shop_front, eth1 of network shop_back";
    assert!(refused.contains(has), "{refused}");
    let planned = world.daemon.run("set web --loss 100% --network *_back --network spare --dry-run --json");
    let planned: Value = serde_json::from_str(&planned).expect("it is JSON");
    let after = planned["results"][0]["after"].as_array().expect("a list").iter();
    assert!(after.map(|line| line["interface"].as_str()).eq([Some("eth1")]), "{planned}");
    assert_eq!(shaped(&world.daemon, "web"), [""; 0]);
    world.daemon.run("set web --loss 100% --network *_back --network spare");
    assert_eq!(shaped(&world.daemon, "web"), ["shop_back"]);
    assert_eq!((answered(&world, "shop_front"), answered(&world, "shop_back")), (5, 0));
    let inspected = world.daemon.run("inspect web");
    for line in [
        "networks shop_back, shop_front",
        "network  shop_back",
        "chosen   of network *_back, of network spare",
    ] {
        assert!(inspected.contains(&format!("\n  {line}\n")), "{inspected}");
    }

    let DockerWorld { daemon, engine, .. } = world;
    daemon.kill(Signal::SIGKILL);
    let docker = |engine: &DockerDaemon, words: &str| {
        engine.docker(&words.split(' ').collect::<Vec<_>>()).expect(words);
    };
    docker(&engine, "network connect spare web");
    let world = DockerWorld::around(engine, "docker,netns").expect("a daemon");
    eventually_shaped(&world.daemon, "web", &["shop_back", "spare"]);
    assert_eq!((answered(&world, "shop_front"), answered(&world, "spare")), (5, 0));

    docker(&world.engine, "network disconnect shop_back web");
    eventually_shaped(&world.daemon, "web", &["spare"]);
    docker(&world.engine, "network disconnect shop_front web");
    docker(&world.engine, "network connect shop_back web");
    eventually_shaped(&world.daemon, "web", &["shop_back", "spare"]);
    docker(&world.engine, "network connect shop_front web");
    eventually_connected(&world.daemon, "web", &["shop_back", "shop_front", "spare"]);
    assert_eq!((answered(&world, "shop_front"), answered(&world, "shop_back")), (5, 0));

    let policy: Value = serde_json::from_str(&world.daemon.run("inspect web --json")).expect("it is JSON");
    let policy = &policy["interfaces"][0]["shaping"]["policy"]["network"];
    assert_eq!(policy, &json!(["*_back", "spare"]));
    world.daemon.run("set web --network shop_front --interface eth2 --for 1h");
    assert_eq!(shaped(&world.daemon, "web"), ["shop_front", "spare"]);
    docker(&world.engine, "rm -f web");
    docker(&world.engine, "network rm shop_back shop_front spare");
    eventually("the host is as before", || (world.host_traces() == before).then_some(()));
    assert!(!world.daemon.log().contains("cannot shape"), "{}", world.daemon.log());
}

#[test]
fn a_network_is_found_by_whoever_shares_it_and_by_its_address_if_its_mac_was_changed() {
    needs!(Root, Docker);
    let world = DockerWorld::start().expect("Docker and a daemon");
    world.engine.docker(&["network", "create", "back"]).expect("a network");
    world.engine.run("web", &[]).expect("a container");
    world.engine.docker(&["network", "connect", "back", "web"]).expect("it is connected");
    world.engine.run("sidecar", &["--network", "container:web"]).expect("a container");
    eventually_connected(&world.daemon, "web", &["back", "bridge"]);
    eventually_connected(&world.daemon, "sidecar", &[]);
    world.daemon.run("set sidecar --loss 100% --network back");
    assert_eq!(shaped(&world.daemon, "web"), ["back"]);
    assert_eq!((answered(&world, "bridge"), answered(&world, "back")), (5, 0));

    world.daemon.run("clear web");
    let web = world.netns("web").expect("it runs");
    web.run("ip link set eth1 address 02:00:00:00:00:99").expect("another address");
    // A bridge inside that has the address is not what connects it.
    let mac = world.daemon.view("web")["container"]["networks"][0]["mac"].as_str().expect("text").to_owned();
    web.run(&format!("ip link add br0 address {mac} type bridge")).expect("a bridge");
    world.daemon.run("set web --loss 100% --network *");
    assert_eq!(shaped(&world.daemon, "web"), ["bridge", "eth1"]);
    world.daemon.run("set web --network back --for 1h");
    assert_eq!((answered(&world, "bridge"), answered(&world, "back")), (5, 0));
}

#[test]
fn a_rule_shapes_a_network_again_when_it_is_back() {
    needs!(Root, Docker);
    let world = DockerWorld::start().expect("Docker and a daemon");
    let docker = |words: &str| world.engine.docker(&words.split(' ').collect::<Vec<_>>()).expect(words);
    docker("network create back");
    world.engine.run("web", &[]).expect("a container");
    eventually_connected(&world.daemon, "web", &["bridge"]);
    world.daemon.run("set web --loss 100% --direction both --network back --keep lossy");
    let refused = "it has no interface of network back: it has eth0 of network bridge";
    eventually("the rule says what it lacks", || {
        world.daemon.run("rules --json").contains(refused).then_some(())
    });
    for _ in 0..2 {
        docker("network connect back web");
        // Both directions are shown.
        eventually_shaped(&world.daemon, "web", &["back", "back"]);
        assert_eq!((answered(&world, "bridge"), answered(&world, "back")), (5, 0));
        docker("network disconnect back web");
        eventually_shaped(&world.daemon, "web", &[]);
        eventually("its pins are gone", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    }
}

#[test]
fn a_network_of_podman_can_be_chosen() {
    needs!(Root, Podman);
    let engine = DockerDaemon::podman().expect("Podman");
    let world = DockerWorld::around(engine, "docker,netns").expect("a daemon");
    for network in ["back", "spare"] {
        world.engine.docker(&["network", "create", network]).expect("a network");
    }
    world.engine.run("web", &["--network", "bridge"]).expect("a container");
    world.engine.docker(&["network", "connect", "back", "web"]).expect("it is connected");
    eventually("both are known", || {
        let networks = world.daemon.view("web")["container"]["networks"].as_array().map(Vec::len);
        (networks == Some(2)).then_some(())
    });
    world.daemon.run("set web --loss 100% --network back --network spare");
    assert_eq!(shaped(&world.daemon, "web"), ["back"]);
    let (_, bridge) = world.addresses("web", "back").expect("it is connected");
    assert_eq!(received(&world.netns("web").expect("it runs"), bridge), 0);

    let DockerWorld { daemon, engine, .. } = world;
    daemon.kill(Signal::SIGKILL);
    engine.docker(&["network", "connect", "spare", "web"]).expect("it is connected");
    // The name of the namespace is known before Podman has told of its networks.
    let world = DockerWorld::around(engine, "docker,netns").expect("a daemon");
    eventually_shaped(&world.daemon, "web", &["back", "spare"]);
    assert!(!world.daemon.log().contains("WARN"), "{}", world.daemon.log());
}

#[test]
fn what_has_no_networks_says_so() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    for choice in ["--network lan", "--network lan --interface eth0"] {
        let refused = daemon.complaint(&format!("set web --loss 1% {choice}"));
        assert!(
            refused.contains("no runtime tells which networks") && refused.contains("--interface"),
            "{refused}"
        );
    }
    assert_eq!(shaped(&daemon, "web"), [""; 0]);
}
