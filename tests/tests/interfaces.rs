//! The interfaces of a container that are shaped; on any kernel with clsact.

use serde_json::Value;
use shaper_tests::{needs, netns::Netns, world::World};

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
