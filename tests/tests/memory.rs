//! The daemon's memory is given back after large work.

use std::{fs, net::Ipv4Addr};

use serde_json::json;
use shaper_tests::{daemon::eventually, needs, scene::Scene};

const WEB: &str = "/api/v1/containers/web/shaping";
const PREFIXES: u32 = 100_000;
/// What the large bodies have in bytes, each.
const LARGE: usize = 15 << 20;
/// What may stay after large work beyond what was there before: less than two of the eight bodies.
const KEPT: u64 = 24 << 20;

/// Bytes of the daemon in memory.
fn resident(scene: &Scene) -> u64 {
    let path = format!("/proc/{}/status", scene.daemon.pid());
    let status = fs::read_to_string(path).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
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
    let (status, text) = scene.ask("PUT", WEB, r#"{"loss": "1%"}"#);
    assert_eq!(status, 200, "{text}");
    let before = resident(&scene);
    let prefix = |number: u32| format!("{}/28", Ipv4Addr::from(0x0a00_0000 + (number << 4)));
    let prefixes: Vec<_> = (0..PREFIXES).map(prefix).collect();
    let plan =
        json!({ "policy": { "target": [{ "to": prefixes, "netem": "loss 1%" }] }, "direction": "both" });
    let (status, text) = scene.ask("PUT", WEB, &plan.to_string());
    assert_eq!(status, 200, "{text:.200}");
    let (status, text) = scene.ask("DELETE", WEB, "");
    assert_eq!(status, 200, "{text:.200}");
    check_given_back(&scene, before, "a large plan");
    let padded = format!("{}{}", r#"{"loss": "1%"}"#, " ".repeat(LARGE));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(scene.ask("PUT", WEB, &padded).0, 200));
        }
    });
    check_given_back(&scene, before, "large bodies");
}
