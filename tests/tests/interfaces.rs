//! The interfaces of a container that are shaped; on any kernel with clsact.

use std::{net::Ipv4Addr, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{
    daemon::Daemon,
    needs,
    netns::Netns,
    traffic::ping,
    world::{Container, World},
};

fn world() -> World {
    World::new().expect("a world")
}

/// The interfaces and directions that are shaped, as `eth0 egress`.
fn shaped(view: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let interfaces = view["interfaces"].as_array().expect("a list").iter();
    interfaces.map(|view| format!("{} {}", text(&view["interface"]), text(&view["direction"]))).collect()
}

/// The kernel gives the host's namespace a number in the container's only when somebody looks at the veth, or it goes up.
#[test]
fn both_directions_of_a_link_that_was_never_up_are_shaped_at_once() {
    needs!(Root);
    let world = world();
    let netns = Netns::create(world.netns_dir().join("web")).expect("a namespace");
    let path = netns.path().display();
    world.host().run(&format!("ip link add veth0 type veth peer name eth0 netns {path}")).expect("a veth");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100% --direction both");
    assert_eq!(shaped(&daemon.view("web")), ["eth0 egress", "eth0 ingress"]);
}

/// Adds a veth whose other end, `eth0`, is in a namespace of its own, as for a container in a container.
fn hold(world: &World, holder: &Netns, name: &str, address: &str) -> Netns {
    let inner = Netns::create(world.directory().join(name)).expect("a namespace");
    let path = inner.path().display();
    holder.run(&format!("ip link add {name} type veth peer name eth0 netns {path}")).expect("a veth");
    holder.run(&format!("ip link set {name} up")).expect("it goes up");
    inner.run(&format!("ip addr add {address} dev eth0")).expect("an address");
    inner.run("ip link set eth0 up").expect("it goes up");
    inner
}

/// A container that holds others: one at a bridge, as Docker has them, and one at a veth alone, as kind has them.
fn holder(world: &World) -> (Container, [Netns; 2]) {
    let outer = world.container("outer").expect("a container");
    let netns = &outer.netns;
    let bridged = hold(world, netns, "vethin0", "10.98.0.2/24");
    for line in [
        "ip link add docker0 type bridge",
        "ip addr add 10.98.0.1/24 dev docker0",
        "ip link set docker0 up",
        "ip link set vethin0 master docker0",
    ] {
        netns.run(line).expect(line);
    }
    let routed = hold(world, netns, "vethin1", "10.97.0.2/24");
    netns.run("ip addr add 10.97.0.1/24 dev vethin1").expect("an address");
    (outer, [bridged, routed])
}

fn received(from: &Netns, to: Ipv4Addr) -> u32 {
    ping(from, to, 20, Duration::from_millis(1), &["-W", "0.2"]).expect("ping works").received
}

#[test]
fn a_container_that_holds_containers_is_shaped_where_it_is_connected_to_the_outside() {
    needs!(Root);
    let world = world();
    let (outer, [bridged, routed]) = holder(&world);
    let daemon = world.daemon().expect("a daemon");
    daemon.view("outer");
    daemon.run("set outer --loss 100% --direction both");
    assert_eq!(shaped(&daemon.view("outer")), ["eth0 egress", "eth0 ingress"]);
    assert_eq!(received(&outer.netns, outer.host_address), 0);
    assert_eq!(received(&bridged, Ipv4Addr::new(10, 98, 0, 1)), 20);
    assert_eq!(received(&routed, Ipv4Addr::new(10, 97, 0, 1)), 20);

    // What was chosen is shaped in place of it.
    daemon.run("clear outer");
    daemon.run("set outer --loss 100% --interface vethin* --interface docker0");
    let view = daemon.view("outer");
    let mut interfaces = shaped(&view);
    interfaces.sort();
    assert_eq!(interfaces, ["docker0 egress", "vethin0 egress", "vethin1 egress"]);
    assert_eq!(received(&outer.netns, outer.host_address), 20);
    assert_eq!(received(&bridged, Ipv4Addr::new(10, 98, 0, 1)), 0);
    daemon.run("clear outer");
    daemon.run("set outer --loss 100% --interface vethin* --direction ingress");
    assert_eq!(shaped(&daemon.view("outer")), ["vethin0 ingress", "vethin1 ingress"]);
    assert_eq!(received(&routed, Ipv4Addr::new(10, 97, 0, 1)), 0);
    daemon.run("clear outer");
    daemon.run("set outer --loss 100% --interface vethin*");
    let refused = daemon.complaint("set outer --loss 1% --interface wlan0");
    assert!(
        refused.contains("it has no interface wlan0: it has eth0, vethin0, docker0, vethin1"),
        "{refused}"
    );
    assert_eq!(daemon.view("outer")["interfaces"][0]["shaping"]["loss"], "100%", "nothing has changed");
}

#[test]
fn a_container_behind_another_is_shaped_where_its_default_route_leads() {
    needs!(Root);
    let world = world();
    let router = world.container("router").expect("a container");
    let inner = hold(&world, &router.netns, "vethin0", "10.98.0.2/24");
    inner.run("ip route add default via 10.98.0.1").expect("a route");
    let held = hold(&world, &inner, "vethin1", "10.97.0.2/24");
    let _named = inner.alias(world.netns_dir().join("inner")).expect("a name");
    let _other = held.alias(world.netns_dir().join("held")).expect("a name");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("inner");
    daemon.run("set inner --loss 100%");
    assert_eq!(shaped(&daemon.view("inner")), ["eth0 egress"]);
    daemon.view("held");
    daemon.run("set held --loss 100%");
    assert_eq!(shaped(&daemon.view("held")), ["eth0 egress"], "there is no other");
}

fn add_interface(world: &World, container: &Container, number: u8) {
    let (host, own) = (Ipv4Addr::new(10, 96, number, 1), Ipv4Addr::new(10, 96, number, 2));
    let (name, host_end) = (format!("lan{number}"), format!("host{number}"));
    world.add_interface(container, &name, &host_end, host, own).expect("an interface");
}

fn loss(daemon: &Daemon) -> Vec<(String, String)> {
    let view = daemon.view("web");
    let interfaces = view["interfaces"].as_array().expect("a list").iter();
    let loss = |view: &Value| view["shaping"]["loss"].as_str().unwrap_or_default().to_owned();
    shaped(&view).into_iter().zip(interfaces.map(loss)).collect()
}

#[test]
fn chosen_interfaces_are_kept_for_those_that_come_later() {
    needs!(Root);
    let world = world();
    let web = world.container("web").expect("a container");
    add_interface(&world, &web, 0);
    let daemon = world.daemon().expect("a daemon");
    let of = |names: &[&str], loss: &str| -> Vec<_> {
        names.iter().map(|name| (format!("{name} egress"), loss.to_owned())).collect()
    };
    daemon.view("web");
    daemon.run("set web --loss 1%");
    assert_eq!(loss(&daemon), of(&["eth0", "lan0"], "1%"));
    daemon.run("set web --interface lan* --for 1h");
    assert_eq!(loss(&daemon), of(&["lan0"], "1%"), "shaping moves to what is chosen");
    assert_eq!(received(&web.netns, web.host_address), 20);
    add_interface(&world, &web, 1);
    daemon.run("set web --loss 2%");
    assert_eq!(loss(&daemon), of(&["lan0", "lan1"], "2%"));

    daemon.kill(Signal::SIGKILL);
    add_interface(&world, &web, 2);
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 3%");
    assert_eq!(loss(&daemon), of(&["lan0", "lan1", "lan2"], "3%"));
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["policy"]["interface"][0], "lan*");

    daemon.run("clear web");
    daemon.run("set web --loss 4%");
    assert_eq!(loss(&daemon), of(&["eth0", "lan0", "lan1", "lan2"], "4%"), "clearing ends the choice");
}
