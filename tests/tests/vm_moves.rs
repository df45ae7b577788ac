//! Hardware that is left behind by a container that ended is what it was.

use shaper_tests::{daemon::eventually, needs, netns::Netns, world::World};

#[test]
fn hardware_whose_container_ends_while_it_loses_packets_is_what_it_was() {
    needs!(Root, Nic);
    let world = World::new().expect("a world");
    let outside = Netns::at("/proc/1/ns/net".into());
    outside.run("ip link set spare gso_max_segs 4321").expect("it can be set");
    let before = outside.run("ip -d link show spare").expect("it is there");
    let inside = Netns::create(world.netns_dir().join("web")).expect("a namespace");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    outside.run(&format!("ip link set spare netns {}", inside.path().display())).expect("it can go");
    daemon.run("set web --loss 1%");
    assert!(inside.run("ip -d link show spare").expect("it is there").contains("gso_max_segs 1 "));
    drop(inside);
    eventually("it is what it was", || (outside.run("ip -d link show spare").ok()? == before).then_some(()));
    eventually("no pins are left", || (world.pins() == ["AYA_LOGS"]).then_some(()));
}
