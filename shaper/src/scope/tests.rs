use std::time::{Duration, SystemTime};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::shaping::{
    ContainerState, ContainerView, Direction, Effects, Named, RuntimeName, ShapingError,
    fake::{FakeShaper, WEB, container, shaped_web, web},
};

/// A preset with a button, and its title.
const THREE_G: (&str, &str) = ("3g", "3G");
const QUERY: &str = "?api_version=1&probe_id=1f9e";

async fn ask(
    shaper: &Arc<FakeShaper>,
    method: &str,
    path: &str,
    body: impl Into<Body>,
) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(body.into()).expect("a request");
    let answer =
        router(shaper.clone(), Buttons::with_presets([THREE_G])).oneshot(request).await.expect("an answer");
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn press(shaper: &Arc<FakeShaper>, node_id: &str, control: &str) -> Value {
    let body = json!({"AppID": "3559", "Control": control, "ControlArgs": null, "NodeID": node_id});
    let (status, answer) = ask(shaper, "POST", &format!("/control{QUERY}"), body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

async fn refusal(shaper: &Arc<FakeShaper>, node_id: &str, control: &str) -> String {
    let answer = press(shaper, node_id, control).await;
    assert_eq!(answer.as_object().expect("an object").len(), 1, "{answer}");
    answer["error"].as_str().expect("an error").to_owned()
}

fn node_id(id: &str) -> String {
    format!("{id};<container>")
}

fn netns() -> ContainerView {
    container("blue", "blue", RuntimeName::Netns, ContainerState::Running)
}

#[test]
fn a_report_shows_each_container_in_its_state() {
    let docker = |id, name, state| container(id, name, RuntimeName::Docker, state);
    let views = [
        shaped_web(),
        docker("d1", "idle", ContainerState::Running),
        docker("d2", "frozen", ContainerState::Paused),
        docker("d3", "gone", ContainerState::Stopped),
        netns(),
    ];
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_001_250);
    insta::assert_json_snapshot!(nodes::report(&views, Buttons::with_presets([]), "1f9e", now));
}

#[test]
fn rows_tell_what_is_sent_from_what_is_received() {
    use crate::shaping::{
        Direction,
        fake::{interface, policy},
    };
    let row = |out: &str, back: &str| {
        let policy = |time| policy(&format!("delay {time}"));
        let interfaces =
            vec![interface(Direction::Egress, policy(out)), interface(Direction::Ingress, policy(back))];
        let view = ContainerView { interfaces, ..web() };
        let report = nodes::report(&[view], Buttons::with_presets([]), "", SystemTime::UNIX_EPOCH);
        let latest = &report.container.nodes[&node_id(WEB)].latest;
        latest["traffic-control-table-latency"].value.clone()
    };
    assert_eq!(row("0", "0"), "-");
    assert_eq!(row("2s", "0"), "2000ms");
    assert_eq!(row("0", "2s"), "2000ms in");
    assert_eq!(row("2s", "2s"), "2000ms each way");
    assert_eq!(row("2s", "1s"), "2000ms out, 1000ms in");
}

#[test]
fn rows_say_that_a_shaping_is_broken() {
    let mut view = shaped_web();
    view.interfaces[1].state = crate::shaping::ShapingState::Broken("classifier removed".to_owned());
    let report = nodes::report(&[view], Buttons::with_presets([]), "", SystemTime::UNIX_EPOCH);
    let latest = &report.container.nodes[&node_id(WEB)].latest;
    let shown = &latest["traffic-control-table-latency"].value;
    assert_eq!(shown, "2000ms out, broken: classifier removed in");
}

#[test]
fn rows_tell_all_effects_and_targets_and_what_they_did() {
    use crate::shaping::{
        Counts, Direction, InterfaceView, Policy,
        fake::{interface, policy},
    };
    let plan =
        r#"{"netem": "delay 100ms 20ms duplicate 1%", "target": [{"to": "10.0.0.0/8", "loss": "5%"}]}"#;
    let plan = serde_json::from_str(plan).expect("a plan");
    let sent = InterfaceView {
        duplicated: Counts { packets: 7, bytes: 700 },
        ..interface(Direction::Egress, Policy { plan: Arc::new(plan), expires_at_ns: None })
    };
    let view =
        ContainerView { interfaces: vec![sent, interface(Direction::Ingress, policy("delay 1ms"))], ..web() };
    let report = nodes::report(&[view], Buttons::with_presets([]), "", SystemTime::UNIX_EPOCH);
    let latest = &report.container.nodes[&node_id(WEB)].latest;
    let row =
        |name: &str| latest.get(&*format!("traffic-control-table-{name}")).map(|row| row.value.as_str());
    assert_eq!(row("latency"), Some("100ms out, 1ms in"));
    assert_eq!(row("netem"), Some("delay 100ms 20ms duplicate 1% out, delay 1ms in"));
    assert_eq!(row("to 10.0.0.0/8"), Some("loss 5%"));
    assert_eq!((row("duplicated"), row("corrupted"), row("marked")), (Some("7"), None, None));
}

#[tokio::test]
async fn the_probe_gets_a_report_with_its_own_id() {
    let shaper = Arc::new(FakeShaper::new([netns()]));
    let (status, body) = ask(&shaper, "GET", &format!("/report{QUERY}"), "").await;
    assert_eq!(status, StatusCode::OK);
    let report: Value = serde_json::from_str(&body).expect("JSON");
    let latest = &report["Container"]["nodes"]["blue;<container>"]["latest"];
    assert_eq!(latest["control_probe_id"]["value"], "1f9e");
    assert_eq!(report["Plugins"][0]["id"], "traffic-control");
}

#[tokio::test]
async fn each_button_does_what_it_says_and_keeps_the_rest() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for (button, latency, loss) in [
        ("slow", "2000ms", "-"),
        ("medium", "1000ms", "-"),
        ("pkt-drop-low", "1000ms", "10%"),
        ("fast", "500ms", "10%"),
        ("clear", "-", "-"),
    ] {
        let answer = press(&shaper, &node_id(WEB), &format!("traffic-control-table-{button}")).await;
        let report = &answer["shortcutReport"];
        assert_eq!(report["Plugins"][0]["id"], "traffic-control", "an incomplete report crashes the probe");
        let latest = &report["Container"]["nodes"][node_id(WEB)]["latest"];
        assert_eq!(latest["traffic-control-table-latency"]["value"], latency, "{button}");
        assert_eq!(latest["traffic-control-table-pktloss"]["value"], loss, "{button}");
    }
    assert!(shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn containers_that_share_a_network_namespace_change_together() {
    let mut sidecar = container("51de", "sidecar", RuntimeName::Docker, ContainerState::Running);
    sidecar.container.netns = web().container.netns;
    let shaper = Arc::new(FakeShaper::new([web(), sidecar, netns()]));
    let answer = press(&shaper, &node_id(WEB), "traffic-control-table-slow").await;
    let nodes = answer["shortcutReport"]["Container"]["nodes"].as_object().expect("nodes");
    assert_eq!(nodes.len(), 2);
    for node in nodes.values() {
        assert_eq!(node["latest"]["traffic-control-table-latency"]["value"], "2000ms");
    }
}

#[tokio::test]
async fn a_preset_that_was_asked_for_has_a_button_behind_the_others() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let (_, report) = ask(&shaper, "GET", &format!("/report{QUERY}"), "").await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let control = &report["Container"]["controls"]["traffic-control-table-preset-3g"];
    assert_eq!((control["human"].as_str(), control["rank"].as_u64()), (Some("Network: 3G"), Some(25)));
    let answer = press(&shaper, &node_id(WEB), "traffic-control-table-preset-3g").await;
    let node = &answer["shortcutReport"]["Container"]["nodes"][node_id(WEB)];
    assert!(node["latestControls"]["traffic-control-table-preset-3g"].is_object());
    let (view, preset) = (shaper.seen(WEB), shaper.presets().find("3g").expect("shipped"));
    for direction in [Direction::Egress, Direction::Ingress] {
        let expected = Effects::parse(preset.effects(direction).expect("words"), &Named::default());
        let policy = view.policy(direction).expect("it is shaped");
        assert_eq!(policy.words(), expected.expect("effects").to_string());
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_beside_the_buttons() {
    let paused = container("d2", "frozen", RuntimeName::Docker, ContainerState::Paused);
    let shaper = Arc::new(FakeShaper::new([web(), paused]));
    let slow = "traffic-control-table-slow";
    assert!(refusal(&shaper, &node_id("dead"), slow).await.starts_with("no container is called \"dead\""));
    assert!(refusal(&shaper, &node_id("d2"), slow).await.starts_with("container frozen is paused"));
    assert!(refusal(&shaper, &node_id(WEB), "explode").await.starts_with("there is no control \"explode\""));
    for bad in [WEB, "", ";<container>", "c0ffee;<host>"] {
        assert!(refusal(&shaper, bad, slow).await.contains("is no container"), "{bad}");
    }
    *shaper.failure.lock().expect("not poisoned") =
        Some(|| ShapingError::Failed("attach to eth0 (egress) of container web: no".to_owned()));
    let text = refusal(&shaper, &node_id(WEB), slow).await;
    assert_eq!(text, "attach to eth0 (egress) of container web: no");
    assert!(shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn a_body_that_is_no_control_request_is_a_bad_request() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for body in ["", "{", "slow", "{}", "[]", r#"{"Control":3,"NodeID":"x"}"#, "\u{0}"] {
        let (status, text) = ask(&shaper, "POST", &format!("/control{QUERY}"), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(text.starts_with("the body is no control request: "), "{text}");
    }
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for (method, path) in
        [("GET", "/report"), ("GET", "/report?api_version=2&probe_id=1"), ("POST", "/control?api_version=2")]
    {
        let (status, text) = ask(&shaper, method, path, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains("is not spoken here: ask with ?api_version=1"), "{text}");
    }
}
