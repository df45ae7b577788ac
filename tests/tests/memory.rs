//! The daemon's memory is given back after large work.

use std::{fs, net::Ipv4Addr};

use aya::maps::{LpmTrie, Map, MapData};
use serde_json::{Value, json};
use shaper_common::{
    TARGETS_MAP,
    policy::{Address, RuleList},
};
use shaper_tests::{daemon::eventually, needs, scene::Scene};

const WEB: &str = "/api/v1/containers/web/shaping";
const PREFIXES: u32 = 100_000;
/// The size of each large body, in bytes.
const LARGE: usize = 11 << 20;
/// The memory that may stay after large work beyond what was there before: less than two of the eight bodies.
const KEPT: u64 = 24 << 20;

/// Bytes of the daemon in memory.
fn resident(scene: &Scene) -> u64 {
    let path = format!("/proc/{}/status", scene.daemon.pid());
    let status = fs::read_to_string(path).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

/// A policy with so many prefixes.
fn policy(prefixes: u32) -> Value {
    let prefix = |number: u32| format!("{}/28", Ipv4Addr::from(0x0a00_0000 + (number << 4)));
    let prefixes: Vec<_> = (0..prefixes).map(prefix).collect();
    json!({ "target": [{ "to": prefixes, "netem": "loss 1%" }] })
}

fn check_given_back(scene: &Scene, before: u64, work: &str) {
    eventually(&format!("memory is given back after {work}"), || {
        (resident(scene) < before + KEPT).then_some(())
    });
}

#[test]
fn memory_is_given_back_after_large_work() {
    needs!(Root);
    let scene = Scene::of(&["web"]).expect("a scene");
    let (status, text) = scene.ask("PATCH", WEB, r#"{"loss": "1%"}"#);
    assert_eq!(status, 200, "{text}");
    let before = resident(&scene);
    let policy = json!({ "policy": policy(PREFIXES), "direction": "both" });
    let (status, text) = scene.ask("PATCH", WEB, &policy.to_string());
    assert_eq!(status, 200, "{text:.200}");
    let (status, text) = scene.ask("DELETE", WEB, "");
    assert_eq!(status, 200, "{text:.200}");
    check_given_back(&scene, before, "a large policy");
    let padded = format!("{}{}", r#"{"loss": "1%"}"#, " ".repeat(LARGE));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(scene.ask("PATCH", WEB, &padded).0, 200));
        }
    });
    check_given_back(&scene, before, "large bodies");
}

/// The kernel frees all entries of a trie in one go, and holds up a processor meanwhile.
#[test]
fn a_large_trie_that_was_replaced_is_emptied_before_the_kernel_frees_it() {
    needs!(Root);
    let scene = Scene::of(&["web"]).expect("a scene");
    let set = |body: Value| {
        let (status, text) = scene.ask("PATCH", WEB, &body.to_string());
        assert_eq!(status, 200, "{text:.200}");
    };
    set(json!({ "policy": policy(20_000) }));
    let pins = scene.world.pins();
    let directory = pins.iter().find(|name| name.starts_with("netns-")).expect("an instance");
    let pin = scene.world.pin_dir().join(directory).join(TARGETS_MAP);
    let trie: LpmTrie<_, Address, RuleList> = MapData::from_pin(pin)
        .and_then(|map| LpmTrie::try_from(Map::LpmTrie(map)))
        .expect("the daemon's trie");
    assert_eq!(trie.keys().count(), 20_000);
    set(json!({ "policy": policy(10) }));
    eventually("it is emptied", || trie.keys().next().is_none().then_some(()));
}
