use std::{
    io::Read as _,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::shaping::{
    ContainerState, ContainerView, Direction, Effects, InterfaceView, Named, NamedPeer, Outcomes, Problem,
    Refusal, RuntimeName, Sample, Shaping, ShapingError,
    fake::{FakeShaper, WEB, container, interface, shaped_web, shaping, web},
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

/// Makes a report with no report before it.
fn report(views: &[ContainerView]) -> Value {
    report_at(&reporter(), views, SystemTime::UNIX_EPOCH)
}

fn reporter() -> Reporter {
    Reporter::new(Buttons::with_presets([]), Networks::of(FakeShaper::new([]).presets()))
}

fn report_at(reporter: &Reporter, views: &[ContainerView], now: SystemTime) -> Value {
    reporter.report(views, None, "1f9e", now, |report| serde_json::to_value(report).expect("JSON"))
}

#[test]
fn the_plugins_description_says_why_nothing_can_be_shaped() {
    let problem = Problem { reason: "no bpffs is mounted".to_owned(), since: SystemTime::UNIX_EPOCH };
    let described = |problem| {
        let report = reporter().report(&[], problem, "1f9e", SystemTime::UNIX_EPOCH, |report| {
            serde_json::to_value(report).expect("JSON")
        });
        report["Plugins"][0]["description"].as_str().expect("text").to_owned()
    };
    assert!(described(None).starts_with("Degrades the network"));
    assert_eq!(
        described(Some(&problem)),
        "Nothing can be shaped since 1970-01-01T00:00:00Z: no bpffs is mounted"
    );
}

/// A row of the first table, if `web` has it.
fn row<'a>(report: &'a Value, name: &str) -> Option<&'a str> {
    latest(report, &format!("traffic-control-table-{name}"))
}

/// A row of the table of counts.
fn count<'a>(report: &'a Value, name: &str) -> Option<&'a str> {
    latest(report, &format!("traffic-control-count-{name}"))
}

fn latest<'a>(report: &'a Value, key: &str) -> Option<&'a str> {
    let entry = &report["Container"]["nodes"][node_id(WEB)]["latest"][key];
    entry.is_object().then(|| entry["value"].as_str().expect("text"))
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
    insta::assert_json_snapshot!(report_at(&reporter(), &views, now));
}

#[test]
fn rows_tell_what_is_sent_from_what_is_received() {
    let latency = |out: &str, back: &str| {
        let shaping = |time| shaping(&format!("delay {time}"));
        let interfaces =
            vec![interface(Direction::Egress, shaping(out)), interface(Direction::Ingress, shaping(back))];
        row(&report(&[ContainerView { interfaces, ..web() }]), "latency").map(str::to_owned)
    };
    for (out, back, shown) in [
        ("0", "0", "-"),
        ("2s", "0", "2000ms"),
        ("0", "2s", "2000ms in"),
        ("2s", "2s", "2000ms each way"),
        ("2s", "1s", "2000ms out, 1000ms in"),
    ] {
        assert_eq!(latency(out, back).as_deref(), Some(shown));
    }
}

#[test]
fn rows_say_that_a_shaping_is_broken() {
    let mut view = shaped_web();
    view.interfaces[1].state = crate::shaping::ShapingState::Broken("classifier removed".to_owned());
    let report = report(&[view]);
    assert_eq!(row(&report, "latency"), Some("2000ms out, broken: classifier removed in"));
    let summary = latest(&report, "traffic-control-summary");
    assert!(summary.is_some_and(|summary| summary.contains("broken: classifier removed in")), "{summary:?}");
}

#[test]
fn rows_tell_all_effects_and_targets_and_what_they_did() {
    let policy =
        r#"{"netem": "delay 100ms 20ms duplicate 1%", "target": [{"to": "10.0.0.0/8", "loss": "5%"}]}"#;
    let policy = serde_json::from_str(policy).expect("a policy");
    let sent = InterfaceView {
        outcomes: Outcomes::default().with("duplicated", 7, 700),
        ..interface(Direction::Egress, Shaping { policy: Arc::new(policy), expires_at_ns: None })
    };
    let view = ContainerView {
        interfaces: vec![sent, interface(Direction::Ingress, shaping("delay 1ms"))],
        ..web()
    };
    let report = report(&[view]);
    assert_eq!(row(&report, "latency"), Some("varies out, 1ms in"));
    assert_eq!(row(&report, "pktloss"), Some("varies"), "some packets are lost");
    assert_eq!(row(&report, "netem"), Some("delay 100ms 20ms duplicate 1% out, delay 1ms in"));
    assert_eq!(row(&report, "to 10.0.0.0/8"), Some("loss 5%"));
    let counts = ["duplicated", "corrupted", "marked"].map(|name| count(&report, name));
    assert_eq!(counts, [Some("7"), None, None]);
}

#[test]
fn a_target_whose_name_has_no_address_says_so() {
    let policy =
        r#"{"target": [{"to": "container:db port 80", "loss": "5%"}, {"to": "container:d", "loss": "5%"}]}"#;
    let policy = serde_json::from_str(policy).expect("a policy");
    let named = |name: &str, addresses: &[IpAddr]| NamedPeer {
        name: name.to_owned(),
        addresses: addresses.to_vec(),
        age_ms: None,
        problem: None,
    };
    let sent = InterfaceView {
        names: vec![named("container:db", &[]), named("container:d", &[IpAddr::from([10, 0, 0, 7])])],
        ..interface(Direction::Egress, Shaping { policy: Arc::new(policy), expires_at_ns: None })
    };
    let report = report(&[ContainerView { interfaces: vec![sent], ..web() }]);
    let shown = row(&report, "to container:db port 80");
    assert_eq!(shown, Some("loss 5%; nothing yet: container:db has no address"));
    assert_eq!(row(&report, "to container:d"), Some("loss 5%"));
}

#[test]
fn five_rows_tell_what_is_set_before_anything_is_counted() {
    let mut view = shaped_web();
    view.interfaces[0].shaping = Shaping {
        expires_at_ns: view.interfaces[0].shaping.expires_at_ns,
        ..shaping("delay 2s 1ms loss 10%")
    };
    let report = report(&[view]);
    let node = &report["Container"]["nodes"][node_id(WEB)]["latest"];
    let keys: Vec<_> = node.as_object().expect("rows").keys().collect();
    let of_table =
        |prefix: &str| -> Vec<_> { keys.iter().filter_map(|key| key.strip_prefix(prefix)).collect() };
    assert_eq!(of_table("traffic-control-table-"), ["latency", "netem", "pktloss", "remaining"]);
    assert_eq!(of_table("traffic-control-count-"), ["delayed", "dropped", "packets"]);
    let tables: Vec<_> = report["Container"]["table_templates"].as_object().expect("tables").keys().collect();
    assert!(tables.is_sorted() && tables[0] == "traffic-control-table", "Scope sorts them: {tables:?}");
}

#[test]
fn what_is_set_is_in_sight_without_asking_for_more() {
    let summary = |view: ContainerView| {
        let report = report(&[view]);
        let line = &report["Container"]["metadata_templates"]["traffic-control-summary"];
        assert!(line["priority"].as_f64().expect("a number") < 10.0);
        latest(&report, "traffic-control-summary").map(str::to_owned)
    };
    assert_eq!(summary(web()), None);
    let shown = summary(shaped_web());
    assert_eq!(shown.as_deref(), Some("delay 2000ms loss 10% out, delay 200ms in, ends in 10m"));
    let targets = r#"{"target": [{"to": "10.0.0.0/8", "loss": "5%"}]}"#;
    let policy = Arc::new(serde_json::from_str(targets).expect("a policy"));
    let interfaces = vec![interface(Direction::Egress, Shaping { policy, expires_at_ns: None })];
    assert_eq!(summary(ContainerView { interfaces, ..web() }).as_deref(), Some("targets: 1"));
}

#[tokio::test]
async fn a_preset_is_shown_by_its_name_as_long_as_it_is_all_there_is() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let button = "traffic-control-table-preset-3g";
    let answer = press(&shaper, &node_id(WEB), button).await;
    let shortcut = &answer["shortcutReport"];
    assert_eq!(row(shortcut, "preset"), Some("3g"));
    assert_eq!(latest(shortcut, "traffic-control-summary"), Some("preset 3g"));
    let answer = press(&shaper, &node_id(WEB), "traffic-control-table-pkt-drop-low").await;
    assert_eq!(row(&answer["shortcutReport"], "preset"), None);
}

#[test]
fn what_is_gone_is_shown_as_gone_until_the_app_has_forgotten_it() {
    let reporter = reporter();
    let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let mut policy = shaped_web();
    policy.interfaces[0].shaping = shaping("delay 2s 1ms");
    let shaped = report_at(&reporter, &[policy], at(100));
    for name in ["netem", "remaining"] {
        assert!(row(&shaped, name).is_some_and(|value| value != "-"), "{name}");
    }
    for second in [101, 119] {
        let report = report_at(&reporter, &[web()], at(second));
        for name in ["latency", "pktloss", "netem", "remaining"] {
            assert_eq!(row(&report, name), Some("-"), "{name}, second {second}");
        }
        assert_eq!(count(&report, "packets"), Some("-"));
        assert_eq!(latest(&report, "traffic-control-summary"), Some("-"));
        for metric in ["traffic_control_passed", "traffic_control_dropped"] {
            let metric = &report["Container"]["nodes"][node_id(WEB)]["metrics"][metric];
            assert_eq!((&metric["samples"][0]["value"], &metric["max"]), (&json!(0.0), &json!(0.0)));
        }
    }
    let report = report_at(&reporter, &[web()], at(120));
    assert_eq!((row(&report, "netem"), row(&report, "latency")), (None, Some("-")));
    assert!(report["Container"]["nodes"][node_id(WEB)]["metrics"].is_null());
}

/// The probe waits 500 ms, in which it has to decode the report, too: what counts is how much there is to write and read.
#[tokio::test]
async fn a_thousand_containers_fit_into_a_report() {
    let views = (1000..2000).map(|number| {
        let id = format!("{number:0>64}");
        let samples = (0..60)
            .map(|second| Sample { at_ms: 1_700_000_000_000 + second * 1000, ..shaped_web().samples[0] });
        let view = container(&id, &number.to_string(), RuntimeName::Docker, ContainerState::Running);
        ContainerView { interfaces: shaped_web().interfaces, samples: samples.collect(), ..view }
    });
    let shaper = Arc::new(FakeShaper::new(views));
    let request =
        Request::get(format!("/report{QUERY}")).header("Accept-Encoding", "gzip").body(Body::empty());
    let answer =
        router(Arc::clone(&shaper), Buttons::with_presets([THREE_G])).oneshot(request.expect("a request"));
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let packed = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    let mut body = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut body).expect("gzip");
    let report: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(report["Container"]["nodes"].as_object().expect("nodes").len(), 1000);
    assert!(body.len() < 4_000_000, "{} bytes", body.len());
    assert!(packed.len() < 250_000, "{} bytes", packed.len());
    assert_eq!(
        ask(&shaper, "GET", &format!("/report{QUERY}"), "").await.1.len(),
        body.len(),
        "the same without gzip"
    );
}

/// Docker's reporter has to be the first of the two: see [`reports`].
#[tokio::test]
async fn a_report_is_held_back_where_dockers_reporter_has_buttons_too() {
    for (view, least_ms) in [(web(), 60), (netns(), 0)] {
        let shaper = Arc::new(FakeShaper::new([view]));
        let asked = std::time::Instant::now();
        ask(&shaper, "GET", &format!("/report{QUERY}"), "").await;
        let took = asked.elapsed();
        assert!(
            took >= Duration::from_millis(least_ms) && took < Duration::from_millis(least_ms + 200),
            "{took:?}"
        );
        let asked = std::time::Instant::now();
        press(&shaper, &node_id("blue"), "traffic-control-table-clear").await;
        assert!(asked.elapsed() < Duration::from_millis(50), "no click is held back");
    }
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
        let shaping = view.shaping(direction).expect("it is shaped");
        assert_eq!(shaping.words(), expected.expect("effects").to_string());
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_beside_the_buttons() {
    let paused = container("d2", "frozen", RuntimeName::Docker, ContainerState::Paused);
    let shaper = Arc::new(FakeShaper::new([web(), paused]));
    let slow = "traffic-control-table-slow";
    assert!(refusal(&shaper, &node_id("dead"), slow).await.starts_with("no container is called \"dead\""));
    assert!(refusal(&shaper, &node_id("d2"), slow).await.starts_with("paused: only a running"));
    assert!(refusal(&shaper, &node_id(WEB), "explode").await.starts_with("unknown control \"explode\""));
    for bad in [WEB, "", ";<container>", "c0ffee;<host>"] {
        assert!(refusal(&shaper, bad, slow).await.contains("is not a container"), "{bad}");
    }
    *shaper.failure.lock().expect("not poisoned") =
        Some(|| ShapingError::from(Refusal::NoFq).about("eth0 (egress)").about("container web"));
    let text = refusal(&shaper, &node_id(WEB), slow).await;
    assert_eq!(
        text,
        "no fq: modprobe sch_fq (CONFIG_NET_SCH_FQ). A delay needs this queue, a loss alone does not (container web: eth0 (egress))"
    );
    assert!(shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn a_body_that_is_no_control_request_is_a_bad_request() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for body in ["", "{", "slow", "{}", "[]", r#"{"Control":3,"NodeID":"x"}"#, "\u{0}"] {
        let (status, text) = ask(&shaper, "POST", &format!("/control{QUERY}"), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(text.starts_with("the body is not a control request: "), "{text}");
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
