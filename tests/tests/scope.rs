//! Tests of what people see and press in Scope; loss on any kernel with clsact, latency where there is fq.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;
use shaper_tests::{
    daemon::eventually,
    needs,
    probe::{Probe, Report},
    require::{Need, met},
    scene::{PROBE_ID, Scene},
    statistics::is_binomial,
    traffic::ping,
    world::Container,
};

const BUTTONS: [&str; 5] = ["slow", "medium", "fast", "pkt-drop-low", "clear"];
const MILLISECOND: Duration = Duration::from_millis(1);

fn scene(names: &[&str]) -> Scene {
    Scene::of(names).expect("a scene")
}

/// Returns the rows of latency and loss.
fn rows<'a>(report: &'a Report, name: &str) -> [&'a str; 2] {
    let node = report.node(name).unwrap_or_else(|| panic!("no node of {name}"));
    ["latency", "pktloss"].map(|row| {
        let shown = node.row(row).unwrap_or_else(|| panic!("no row {row} of {name}"));
        assert_eq!(node.latest(&format!("traffic-control-{row}")), Some(shown), "the metadata say the same");
        shown
    })
}

/// Presses a button that works; the rows must be `expected` at once, in this answer and in the next report.
fn press(scene: &Scene, name: &str, button: &str, expected: [&str; 2]) {
    let answer = scene.press(name, button);
    assert_eq!(answer.error, None, "{button} of {name}");
    let shortcut = answer.shortcut_report.expect("it is shown at once");
    assert_eq!(shortcut.container.nodes.len(), 1, "what did not change is not in it");
    assert_eq!(rows(&shortcut, name), expected, "{button} of {name}, in the answer");
    assert_eq!(rows(&scene.report(), name), expected, "{button} of {name}, in the next report");
}

fn lost_from(container: &Container, count: u32) -> u32 {
    let pings = ping(&container.netns, container.host_address, count, MILLISECOND, &["-W", "0.2"]);
    let pings = pings.expect("ping works");
    pings.sent - pings.received
}

#[test]
fn every_container_is_shown_with_its_buttons() {
    needs!(Root);
    let scene = scene(&["web", "db"]);
    let report = scene.report();
    let nodes: Vec<_> = report.container.nodes.keys().collect();
    assert_eq!(nodes, ["db;<container>", "web;<container>"]);
    for name in ["web", "db"] {
        let node = report.node(name).expect("a node");
        assert_eq!(node.controls(), BUTTONS.map(|button| format!("traffic-control-table-{button}")));
        assert_eq!(node.rows(), BTreeMap::from([("latency", "-"), ("pktloss", "-")]));
        assert_eq!(node.latest("control_probe_id"), Some(PROBE_ID), "without it there are no buttons");
        assert_eq!(node.latest("docker_container_name"), Some(name));
        assert!(node.metric("traffic_control_dropped").is_none(), "there is nothing to draw");
    }
}

#[test]
fn containers_come_and_go_with_their_namespaces() {
    needs!(Root);
    let scene = scene(&[]);
    assert!(scene.report().container.nodes.is_empty(), "a report without containers is a good one");
    let web = scene.world.container("web").expect("a container");
    eventually("it is shown", || scene.report().node("web").map(|_| ()));
    drop(web);
    eventually("it is not shown any more", || scene.report().node("web").is_none().then_some(()));
}

/// The crate of the daemon pins a report made from containers of its own; the daemon's own is to be the same.
#[test]
fn the_report_is_the_one_that_is_pinned() {
    const SNAPSHOT: &str = include_str!(
        "../../shaper/src/scope/snapshots/shaper__scope__tests__a_report_shows_each_container_in_its_state.snap"
    );
    needs!(Root);
    let scene = scene(&["blue"]);
    let (status, text) = scene.ask("GET", &format!("/report?api_version=1&probe_id={PROBE_ID}"), "");
    assert_eq!(status, 200);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let (_, pinned) = SNAPSHOT.rsplit_once("---\n").expect("insta's head");
    let mut pinned: Value = serde_json::from_str(pinned).expect("JSON");
    let nodes = pinned["Container"]["nodes"].as_object_mut().expect("nodes");
    nodes.retain(|id, _| id == "blue;<container>");
    assert_eq!(timeless(report), timeless(pinned));
}

/// The same without its times.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.remove("timestamp");
            fields.values_mut().for_each(|field| *field = timeless(field.take()));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| *element = timeless(element.take())),
        _ => {}
    }
    value
}

#[test]
fn what_somebody_took_off_is_seen_as_broken_and_a_click_puts_it_back() {
    needs!(Root);
    let scene = scene(&["web"]);
    let web = &scene.containers[0];
    let before = web.netns.traces();
    press(&scene, "web", "pkt-drop-low", ["-", "10%"]);
    web.netns.remove_classifiers("eth0");
    eventually("Scope shows it", || {
        let report = scene.report();
        let summary = report.node("web")?.latest("traffic-control-summary")?.to_owned();
        summary.contains("broken: classifier removed").then_some(())
    });
    assert_eq!(lost_from(web, 100), 0);
    press(&scene, "web", "pkt-drop-low", ["-", "10%"]);
    let lost: Vec<_> = (0..2).map(|_| lost_from(web, 1000)).collect();
    assert!(lost.iter().any(|&lost| is_binomial(lost.into(), 1000, 0.1)), "{lost:?} of 1000 lost at 10 %");
    press(&scene, "web", "clear", ["-", "-"]);
    assert_eq!(web.netns.traces(), before);
}

#[test]
fn packet_drop_is_seen_at_once_and_felt() {
    needs!(Root);
    let scene = scene(&["web"]);
    let web = &scene.containers[0];
    let before = web.netns.traces();
    press(&scene, "web", "pkt-drop-low", ["-", "10%"]);
    let lost: Vec<_> = (0..2).map(|_| lost_from(web, 1000)).collect();
    assert!(lost.iter().any(|&lost| is_binomial(lost.into(), 1000, 0.1)), "{lost:?} of 1000 lost at 10 %");
    let report = scene.report();
    let node = report.node("web").expect("a node");
    let count = |row: &str| node.row(row).expect("a row").parse::<u32>().expect("a number");
    assert_eq!(count("packets") + count("dropped"), 2000, "nothing else was sent");
    assert_eq!(count("dropped"), lost.iter().sum::<u32>());
    assert_eq!(count("delayed"), 0);

    press(&scene, "web", "clear", ["-", "-"]);
    let report = scene.report();
    let left = report.node("web").expect("a node").rows();
    assert!(left.values().all(|&value| value == "-"), "nothing is set or counted any more: {left:?}");
    assert_eq!(lost_from(web, 200), 0);
    assert_eq!(scene.world.pins(), ["AYA_LOGS"]);
    assert_eq!(web.netns.traces(), before);
    press(&scene, "web", "clear", ["-", "-"]);
}

#[test]
fn one_effect_keeps_the_other() {
    needs!(Root, Fq);
    let scene = scene(&["web"]);
    for (button, expected) in [
        ("slow", ["2000ms", "-"]),
        ("medium", ["1000ms", "-"]),
        ("pkt-drop-low", ["1000ms", "10%"]),
        ("fast", ["500ms", "10%"]),
        ("clear", ["-", "-"]),
        ("pkt-drop-low", ["-", "10%"]),
        ("slow", ["2000ms", "10%"]),
        ("clear", ["-", "-"]),
    ] {
        press(&scene, "web", button, expected);
    }
    eventually("nothing is left", || (scene.world.pins() == ["AYA_LOGS"]).then_some(()));
}

#[test]
fn a_latency_is_felt() {
    needs!(Root, Fq);
    let scene = scene(&["web"]);
    let web = &scene.containers[0];
    press(&scene, "web", "fast", ["500ms", "-"]);
    let pings = ping(&web.netns, web.host_address, 10, 10 * MILLISECOND, &[]).expect("ping works");
    assert_eq!(pings.received, 10);
    assert!(pings.mean >= 500 * MILLISECOND, "{pings:?}");
    press(&scene, "web", "clear", ["-", "-"]);
}

#[test]
fn a_missing_fq_is_said_beside_the_buttons() {
    needs!(Root);
    if met(&[Need::Fq]) {
        eprintln!("skipped: this machine has fq");
        return;
    }
    let scene = scene(&["web"]);
    let web = &scene.containers[0];
    let before = web.netns.traces();
    for button in ["slow", "medium", "fast"] {
        let answer = scene.press("web", button);
        let error = answer.error.expect("a refusal");
        assert!(error.starts_with("no fq: modprobe sch_fq"), "Scope shows no more: {error}");
        assert!(error.contains("container web: eth0"), "{error}");
        assert!(answer.shortcut_report.is_none(), "nothing has changed");
        assert_eq!(rows(&scene.report(), "web"), ["-", "-"]);
        assert_eq!(web.netns.traces(), before);
        assert_eq!(scene.world.pins(), ["AYA_LOGS"]);
    }
    press(&scene, "web", "pkt-drop-low", ["-", "10%"]);
    assert!(scene.press("web", "slow").error.expect("a refusal").contains("modprobe sch_fq"));
    assert_eq!(rows(&scene.report(), "web"), ["-", "10%"], "the loss stays");
}

/// Loading, attaching and pinning have to be done within the probe's half second, in which reports are asked for, too.
#[test]
fn the_first_control_of_each_container_is_in_time() {
    needs!(Root);
    let names: Vec<_> = (0..10).map(|number| format!("web{number}")).collect();
    let scene = scene(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let other = Probe::new(scene.world.socket(), "2e");
    let done = AtomicBool::new(false);
    let reports = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut reports = Vec::new();
            while !done.load(Ordering::Relaxed) {
                reports.push(other.report().map(drop));
            }
            reports
        });
        for name in &names {
            press(&scene, name, "pkt-drop-low", ["-", "10%"]);
        }
        done.store(true, Ordering::Relaxed);
        asking.join().expect("it does not panic")
    });
    assert!(!reports.is_empty());
    for report in reports {
        report.expect("no control holds a report up");
    }
}

#[test]
fn rates_are_drawn_of_what_is_shaped() {
    needs!(Root);
    let scene = scene(&["web"]);
    let web = &scene.containers[0];
    press(&scene, "web", "pkt-drop-low", ["-", "10%"]);
    eventually("both rates have been above nothing", || {
        lost_from(web, 200);
        let report = scene.report();
        let node = report.node("web").expect("a node");
        let metrics = ["traffic_control_passed", "traffic_control_dropped"].map(|id| node.metric(id));
        let [Some(passed), Some(dropped)] = metrics else { return None };
        assert_eq!(passed.samples.len(), dropped.samples.len());
        let peak = |samples: &[shaper_tests::probe::MetricSample]| {
            samples.iter().map(|sample| sample.value).fold(0.0, f64::max)
        };
        let [passed, dropped] = [passed, dropped].map(|metric| (peak(&metric.samples), metric));
        assert!(passed.0 <= passed.1.max && dropped.0 <= dropped.1.max, "they fit the sparkline");
        (passed.1.samples.len() >= 2 && passed.0 > dropped.0 && dropped.0 > 0.0).then_some(())
    });
    press(&scene, "web", "clear", ["-", "-"]);
    let report = scene.report();
    let passed = report.node("web").expect("a node").metric("traffic_control_passed");
    let values: Vec<_> = passed.expect("the sparkline ends at nothing").samples.iter().collect();
    assert!(values.len() == 1 && values[0].value == 0.0, "{values:?}");
}

/// A failed report would take all other containers out of Scope, too.
#[test]
fn a_report_never_fails_because_of_one_container() {
    needs!(Root);
    let scene = scene(&["web", "db", "cache"]);
    for name in ["web", "db", "cache"] {
        press(&scene, name, "pkt-drop-low", ["-", "10%"]);
    }
    let [web, db, _] = &scene.containers[..] else { panic!("there are three") };
    web.netns.run("ip link del eth0").expect("it can go");
    fs::remove_dir_all(scene.world.pins_of(db, "egress").expect("its pins")).expect("anybody may");
    db.netns.remove_classifiers("eth0");
    assert_eq!(scene.report().container.nodes.len(), 3);
    for name in ["web", "db"] {
        // Whether there is something to do or not, it is said.
        let _ = scene.press(name, "pkt-drop-low");
        assert_eq!(scene.report().container.nodes.len(), 3);
        let _ = scene.press(name, "clear");
    }
    let report = scene.report();
    for (name, expected) in [("web", ["-", "-"]), ("db", ["-", "-"]), ("cache", ["-", "10%"])] {
        assert_eq!(rows(&report, name), expected, "{name}");
    }
}

#[test]
fn a_container_that_went_before_the_button_was_pressed_is_named() {
    needs!(Root);
    let scene = scene(&["db"]);
    for (round, button) in BUTTONS.iter().cycle().take(10).enumerate() {
        let name = format!("web{round}");
        let container = scene.world.container(&name).expect("a container");
        eventually("it is shown", || scene.report().node(&name).map(|_| ()));
        if round >= BUTTONS.len() {
            press(&scene, &name, "pkt-drop-low", ["-", "10%"]);
        }
        drop(container);
        let answer = scene.press(&name, button);
        // To clear what has gone by itself is no failure.
        let error = answer.error.unwrap_or_else(|| {
            assert_eq!(*button, "clear");
            name.clone()
        });
        assert!(error.contains(&name), "{error}");
        assert_eq!(rows(&scene.report(), "db"), ["-", "-"]);
    }
    eventually("its pins go with it", || (scene.world.pins() == ["AYA_LOGS"]).then_some(()));
}
