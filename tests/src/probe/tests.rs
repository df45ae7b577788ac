use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    thread,
};

use serde_json::{Value, json};

use super::*;

/// Answers one request with `answer` after `delay` and returns what was asked.
fn serve_once(answer: String, delay: Duration) -> (Probe, thread::JoinHandle<String>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("traffic-control.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let plugin = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a probe");
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).expect("a request");
        thread::sleep(delay);
        // A probe that gave up is what some tests are about.
        let _ = stream.write_all(answer.as_bytes());
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    (Probe::new(socket, "1f9e"), plugin, directory)
}

fn ok(body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn good() -> Value {
    let time = "2023-11-14T22:13:21.250Z";
    json!({
        "Container": {
            "nodes": { "c0ffee;<container>": {
                "latestControls": {
                    "slow": { "timestamp": time, "value": { "dead": false } },
                    "clear": { "timestamp": time, "value": { "dead": true } },
                    "docker_stop_container": { "timestamp": time, "value": { "dead": false } }
                },
                "latest": { "list-latency": { "timestamp": time, "value": "2000ms" } },
                "metrics": { "dropped": { "samples": [{ "date": time, "value": 1.5 }], "min": 0, "max": 1.5 } }
            }},
            "controls": {
                "slow": { "id": "slow", "human": "Slow", "icon": "fa-cut", "rank": 20 },
                "clear": { "id": "clear", "human": "Clear", "icon": "fa-cut", "rank": 24 }
            },
            "metadata_templates": {
                "m": { "id": "m", "label": "M", "priority": 13.5, "from": "latest", "dataType": "" }
            },
            "metric_templates": {
                "dropped": { "id": "dropped", "label": "Dropped", "format": "", "priority": 1 }
            },
            "table_templates": {
                "list": { "id": "list", "label": "L", "type": "property-list", "prefix": "list-" }
            }
        },
        "Plugins": [{
            "id": "traffic-control", "label": "Traffic control", "description": "d",
            "interfaces": ["reporter", "controller"], "api_version": "1"
        }]
    })
}

fn parse(report: &Value) -> Result<Report> {
    Report::parse(report.to_string().as_bytes(), "traffic-control")
}

/// The good report with `value` at `path`.
fn with(path: &str, value: Value) -> Value {
    let mut report = good();
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let parent = report.pointer_mut(parent).expect("a place");
    match parent {
        Value::Array(elements) => elements[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key] = value,
    }
    report
}

#[test]
fn the_probe_asks_as_scopes_does() {
    let (probe, plugin, _directory) = serve_once(ok(&good()), Duration::ZERO);
    let report = probe.report().expect("a report");
    let asked = plugin.join().expect("no panic");
    assert!(
        asked.starts_with("GET /report?api_version=1&probe_id=1f9e HTTP/1.1\r\nHost: plugin\r\n"),
        "{asked}"
    );
    assert!(asked.contains("\r\nAccept-Encoding: gzip\r\n"));
    let node = report.node("c0ffee").expect("a node");
    assert_eq!(node.row("latency"), Some("2000ms"));
    assert_eq!(node.latest("list-latency"), Some("2000ms"));
    assert_eq!(node.controls(), ["docker_stop_container", "slow"]);
    assert_eq!(node.metric("dropped").expect("a metric").samples.len(), 1);
    assert!(report.node("dead").is_none());
}

#[test]
fn a_control_is_escaped_as_go_does() {
    let (probe, plugin, _directory) = serve_once(ok(&json!({ "error": "no" })), Duration::ZERO);
    let answer = probe.press("c0ffee;<container>", "slow").expect("an answer");
    assert_eq!(answer.error.as_deref(), Some("no"));
    let asked = plugin.join().expect("no panic");
    assert!(asked.starts_with("POST /control?api_version=1&probe_id=1f9e HTTP/1.1\r\n"), "{asked}");
    let body = r#"{"AppID":"3559000000000000","Control":"slow","ControlArgs":null,"NodeID":"c0ffee;\u003ccontainer\u003e"}"#;
    assert!(asked.ends_with(body), "{asked}");
}

#[test]
fn a_shortcut_report_has_to_be_whole() {
    let (probe, ..) = serve_once(String::new(), Duration::ZERO);
    let answer = |body: Value| probe.control_answer(body.to_string().as_bytes());
    assert!(answer(json!({})).expect("success").shortcut_report.is_none());
    let whole = answer(json!({ "shortcutReport": good() })).expect("success");
    assert!(whole.shortcut_report.is_some());
    let mut incomplete = good();
    incomplete.as_object_mut().expect("an object").remove("Plugins");
    answer(json!({ "shortcutReport": incomplete })).expect_err("it crashes the probe");
    answer(json!({ "ShortcutReport": good() })).expect_err("it is ignored");
}

#[test]
fn a_late_answer_is_none() {
    let (probe, _plugin, _directory) = serve_once(ok(&good()), TIMEOUT * 2);
    let error = format!("{:#}", probe.report().expect_err("too late"));
    assert!(error.starts_with("ask for a report: no whole answer within 500ms"), "{error}");
}

#[test]
fn any_status_but_200_is_an_error() {
    let answer = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".to_owned();
    let (probe, _plugin, _directory) = serve_once(answer, Duration::ZERO);
    let error = format!("{:#}", probe.report().expect_err("no 200"));
    assert!(error.contains("status 204 instead of 200"), "{error}");
}

#[test]
fn what_would_drop_the_plugin_is_an_error() {
    parse(&good()).expect("a good report");
    for (path, value) in [
        ("/Plugins", json!([])),
        ("/Plugins", json!([good()["Plugins"][0], good()["Plugins"][0]])),
        ("/Plugins/0/id", json!("other")),
        ("/Plugins/0/id", json!("traffic_control")),
        ("/Plugins/0/label", json!("")),
        ("/Plugins/0/interfaces", json!(["controller"])),
        ("/Plugins/0/interfaces", json!(["reporter", "dancer"])),
        ("/Plugins/0/api_version", json!("2")),
        ("/Plugins/0/api_version", json!(1)),
    ] {
        assert!(parse(&with(path, value.clone())).is_err(), "{path}: {value}");
    }
}

#[test]
fn what_would_not_be_shown_as_it_was_meant_is_an_error() {
    let node = |rest: &str| format!("/Container/nodes/c0ffee;<container>/{rest}");
    let template = |rest: &str| format!("/Container/{rest}");
    let time = "2023-11-14T22:13:21Z";
    for (path, value) in [
        (node("latest/list-latency/timestamp"), json!("yesterday")),
        (node("latest/list-latency/timestamp"), json!(1_700_000_000)),
        (node("latest/list-latency/value"), json!(2000)),
        (node("latestControls/slow/value"), json!(false)),
        (node("latestControls/slow/value/dead"), json!("no")),
        (node("latestControls/other"), json!({ "timestamp": time, "value": { "dead": false } })),
        (node("latest_controls"), json!({})),
        (node("metrics/dropped/samples/0/date"), json!("2023-11-14")),
        (node("metrics/dropped/samples/0/value"), json!(null)),
        (node("metrics/dropped/min"), json!(2)),
        (node("metrics/other"), json!({ "samples": [], "min": 0, "max": 0 })),
        (template("nodes/c0ffee"), json!({})),
        (template("controls/slow/id"), json!("fast")),
        (template("metadata_templates/m/from"), json!("nowhere")),
        (template("metric_templates/dropped/format"), json!("furlongs")),
        (template("table_templates/list/type"), json!("chairs")),
        (template("table_templates/list/prefix"), json!("")),
        (template("table_templates/list/type"), json!("multicolumn-table")),
    ] {
        assert!(parse(&with(&path, value.clone())).is_err(), "{path}: {value}");
    }
}

#[test]
fn tables_must_not_take_each_others_rows() {
    let other = json!({ "id": "o", "label": "O", "type": "property-list", "prefix": "list-o-" });
    let error = parse(&with("/Container/table_templates/o", other)).expect_err("overlapping");
    assert!(format!("{error:#}").contains("its prefix begins that of o"));
}

#[test]
fn rows_of_a_table_with_columns_name_their_column() {
    let columns = json!([{ "id": "c", "label": "C" }]);
    let table = json!({ "id": "list", "label": "L", "type": "multicolumn-table", "prefix": "list-", "columns": columns });
    let mut report = with("/Container/table_templates/list", table);
    let error = parse(&report).expect_err("no column");
    assert!(format!("{error:#}").contains("names no column"));
    let latest = &mut report["Container"]["nodes"]["c0ffee;<container>"]["latest"];
    *latest = json!({ "list-row___c": { "timestamp": "2023-11-14T22:13:21Z", "value": "x" } });
    parse(&report).expect("a good report");
}

/// The daemon's crate has this snapshot checked against what it really answers.
#[test]
fn the_daemons_own_report_is_good() {
    const SNAPSHOT: &str = include_str!(
        "../../../shaper/src/scope/snapshots/shaper__scope__tests__a_report_shows_each_container_in_its_state.snap"
    );
    let (_, report) = SNAPSHOT.rsplit_once("---\n").expect("insta's head");
    let report = Report::parse(report.as_bytes(), "traffic-control").expect("a good report");
    let node = report.node("blue").expect("the network namespace");
    assert_eq!(node.latest("control_probe_id"), Some("1f9e"));
    let ours = |id: &str| report.node(id).expect("a node").controls().len();
    assert_eq!([ours("blue"), ours("d1"), ours("d2"), ours("d3")], [5, 10, 1, 2]);
}

#[test]
fn the_later_list_of_buttons_is_the_one_that_is_shown() {
    for (plugin_ms, docker_ms, expected) in [(0, 100, 5), (100, 0, 2)] {
        let (probe, plugin, _directory) = serve_once(ok(&good()), Duration::from_millis(plugin_ms));
        let takes = Duration::from_millis(docker_ms);
        let lists = probe.round(DockerReporter { containers: &["c0ffee"], takes }).expect("a round");
        assert_eq!(lists["c0ffee"].len(), expected, "{lists:?}");
        plugin.join().expect("no panic");
    }
}
