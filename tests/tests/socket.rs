//! The plugin socket under bad input, slow clients and rival daemons: whatever comes, Scope gets its report in time.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::Path,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{
    daemon::eventually,
    needs,
    probe::Probe,
    scene::{PROBE_ID, Scene},
};

const CONTROL: &str = "/control?api_version=1&probe_id=1f9e";
const DROP: &str = r#"{"Control": "traffic-control-table-pkt-drop-low", "NodeID": "web;<container>"}"#;

fn scene() -> Scene {
    Scene::of(&["web"]).expect("a scene")
}

/// Panics unless the daemon goes on, and nothing is shaped.
fn check_unharmed(scene: &Scene, after: &str) {
    let report = scene.report();
    let node = report.node("web").unwrap_or_else(|| panic!("no node of web after {after}"));
    assert_eq!((node.row("latency"), node.row("pktloss")), (Some("-"), Some("-")), "after {after}");
    assert_eq!(scene.world.pins(), ["AYA_LOGS"], "after {after}");
}

#[test]
fn a_control_that_is_none_is_a_bad_request() {
    needs!(Root);
    let scene = scene();
    let twice = format!("{DROP}{DROP}");
    for body in
        ["", "{", "null", "[]", "{}", "pkt-drop-low", r#"{"Control": 3, "NodeID": []}"#, "\u{0}", &twice]
    {
        let (status, text) = scene.ask("POST", CONTROL, body);
        assert_eq!(status, 400, "{body:?}: {text}");
        check_unharmed(&scene, body);
    }
    let (status, text) = scene.ask("POST", "/control?api_version=2", DROP);
    assert_eq!(status, 400, "{text}");
    let (status, text) = scene.ask("GET", "/report?api_version=2&probe_id=1f9e", "");
    assert_eq!(status, 400, "{text}");
    for (method, target) in
        [("GET", "/control"), ("POST", "/report"), ("GET", "/report?api_version=%ff"), ("GET", "/")]
    {
        let (status, text) = scene.ask(method, target, "");
        assert!((400..500).contains(&status), "{method} {target}: {status} {text}");
        check_unharmed(&scene, target);
    }
}

#[test]
fn a_control_that_cannot_be_done_is_said() {
    needs!(Root);
    let scene = scene();
    let (drop, long) = ("traffic-control-table-pkt-drop-low", "x".repeat(10_000));
    for (node_id, control, text) in [
        ("web;<container>", "traffic-control-table-explode", "unknown control"),
        ("web;<container>", "", "unknown control"),
        ("none;<container>", drop, "no container is called \"none\""),
        ("../web;<container>", drop, "no container is called"),
        ("web", drop, "is not a container"),
        (";<container>", drop, "is not a container"),
        ("", drop, "is not a container"),
        ("web;<host>", drop, "is not a container"),
        (&format!("{long};<container>"), drop, "no container is called"),
    ] {
        let answer = scene.probe.press(node_id, control).expect("an answer");
        assert!(answer.shortcut_report.is_none(), "nothing has changed");
        let error = answer.error.expect("a refusal");
        assert!(error.contains(text), "{node_id:?} {control:?}: {error}");
        check_unharmed(&scene, node_id);
    }
}

/// Scope's buttons have no arguments; what else is there is not ours to judge.
#[test]
fn arguments_of_a_control_are_not_looked_at() {
    needs!(Root);
    let scene = scene();
    for arguments in ["null", "{}", "7", "[[]]", r#"{"latency": {"a": 1}}"#, r#""x""#] {
        let fields = format!(r#"{{"AppID": {arguments}, "ControlArgs": {arguments}, "#);
        for (body, row) in [(DROP.to_owned(), "10%"), (DROP.replace("pkt-drop-low", "clear"), "-")] {
            let (status, text) = scene.ask("POST", CONTROL, &body.replace('{', &fields));
            assert_eq!(status, 200, "{text}");
            assert_eq!(scene.report().node("web").expect("a node").row("pktloss"), Some(row), "{arguments}");
        }
        check_unharmed(&scene, arguments);
    }
}

#[test]
fn a_shaping_that_is_none_is_refused_in_words() {
    needs!(Root);
    let scene = scene();
    let web = "/api/v1/containers/web/shaping";
    for (method, target, body, expected, text) in [
        ("PATCH", web, "{", 400, "the body is not a shaping: EOF while parsing"),
        ("PATCH", web, "", 400, "the body is not a shaping: EOF while parsing"),
        ("PATCH", web, "{}", 400, "nothing is asked for"),
        ("PATCH", web, r#"{"los": "1%"}"#, 400, "unknown field \"los\""),
        ("PATCH", web, r#"{"latency": "-1ms"}"#, 400, "that is not negative"),
        ("PATCH", web, r#"{"latency": "1"}"#, 400, "has no unit"),
        ("PATCH", web, r#"{"loss": "101%"}"#, 400, "from 0% to 100%"),
        ("PATCH", web, r#"{"loss": "NaN%"}"#, 400, "loss"),
        ("PATCH", web, r#"{"loss": "1%", "direction": "sideways"}"#, 400, "unknown variant `sideways`"),
        ("PATCH", web, r#"{"loss": "1%", "for": "0"}"#, 400, "a duration of nothing"),
        ("PATCH", "/api/v1/containers/none/shaping", r#"{"loss": "1%"}"#, 404, "no container is called"),
        ("PATCH", "/api/v1/containers/%2e%2e/shaping", r#"{"loss": "1%"}"#, 404, "no container is called"),
        ("PATCH", "/api/v1/containers/%ff/shaping", r#"{"loss": "1%"}"#, 400, "the container's name"),
        ("DELETE", "/api/v1/containers/none/shaping", "", 404, "no container is called"),
        ("POST", web, r#"{"loss": "1%"}"#, 405, "does not take POST"),
        ("GET", "/api/v1/nothing", "", 404, "there is no /api/v1/nothing here"),
        ("GET", "/api/v2/containers", "", 404, "there is no /api/v2/containers here"),
        ("GET", "/", "", 404, "there is no / here"),
    ] {
        let (status, answer) = scene.ask(method, target, body);
        assert_eq!(status, expected, "{method} {target} {body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("no JSON: {answer:?}"));
        assert!(answer["detail"].as_str().is_some_and(|error| error.contains(text)), "{body}: {answer}");
        check_unharmed(&scene, body);
    }
}

#[test]
fn a_body_without_end_is_never_taken() {
    needs!(Root);
    let scene = scene();
    // As JSON it would be a control that works.
    let padded = format!("{DROP}{}", " ".repeat(20 << 20));
    for (target, method) in [(CONTROL, "POST"), ("/api/v1/containers/web/shaping", "PATCH")] {
        let (status, text) = scene.ask(method, target, &padded);
        assert_eq!(status, 413, "{text}");
        check_unharmed(&scene, target);
    }
}

#[test]
fn what_is_no_http_is_turned_away() {
    needs!(Root);
    let scene = scene();
    let headers = format!("GET /report HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100_000));
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over TLS\r\n\r\n"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /report HTTP/9.9\r\n\r\n",
        b"POST /control?api_version=1 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /control?api_version=1 HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        headers.as_bytes(),
    ] {
        // A connection that ends without an answer is as good.
        if let Ok(answer) = scene.send(garbage) {
            assert!((400..500).contains(&answer.status), "{}: {garbage:?}", answer.status);
        }
        check_unharmed(&scene, &String::from_utf8_lossy(&garbage[..20.min(garbage.len())]));
    }
}

#[test]
fn clients_that_dawdle_or_do_nothing_hold_nobody_up() {
    needs!(Root);
    let scene = scene();
    let open = |sent: &[u8]| {
        let mut stream = UnixStream::connect(scene.world.socket()).expect("a connection");
        stream.write_all(sent).expect("it is taken");
        stream
    };
    let begun: [&[u8]; 4] = [
        b"",
        b"GET /rep",
        b"GET /report?api_version=1&probe_id=1 HTTP/1.1\r\nHost: plugin\r\n",
        b"POST /control?api_version=1 HTTP/1.1\r\nHost: plugin\r\nContent-Length: 100\r\n\r\n{\"Control\"",
    ];
    let clients: Vec<_> = begun.iter().cycle().take(200).map(|sent| open(sent)).collect();
    check_unharmed(&scene, "200 clients without a whole request");
    let answer = scene.press("web", "pkt-drop-low");
    assert_eq!(answer.error, None);
    assert_eq!(scene.press("web", "clear").error, None);
    drop(clients);
    check_unharmed(&scene, "the end of those clients");
    // Those who do not wait for their answer.
    for _ in 0..50 {
        drop(open(
            format!("GET /report?api_version=1&probe_id={PROBE_ID} HTTP/1.1\r\nHost: p\r\n\r\n").as_bytes(),
        ));
    }
    check_unharmed(&scene, "clients that do not wait");
}

/// Starts another daemon in the same world, which has to end by itself.
fn rival(scene: &Scene, pin_dir: &Path) -> (ExitStatus, String) {
    let netns_dir = scene.world.netns_dir();
    let mut command = scene.daemon.shaper("serve --runtime netns");
    command.arg("--pin-dir").arg(pin_dir).arg("--netns-dir").arg(netns_dir).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    eventually("it ends", || child.try_wait().expect("it is our child"));
    let output = child.wait_with_output().expect("it is our child");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_second_daemon_leaves_the_first_alone() {
    needs!(Root);
    let scene = scene();
    assert_eq!(scene.press("web", "pkt-drop-low").error, None);
    let pins = scene.world.pins();
    for _ in 0..3 {
        let (status, stderr) = rival(&scene, scene.world.pin_dir());
        assert_eq!(status.code(), Some(1), "{stderr}");
        let socket = scene.world.socket();
        let expected =
            format!("error: another shaper daemon answers on {}: stop it first, or give", socket.display());
        assert!(stderr.contains(&expected), "{stderr}");
        assert_eq!(scene.world.pins(), pins);
        assert_eq!(scene.report().node("web").expect("a node").row("pktloss"), Some("10%"));
    }
    assert_eq!(scene.press("web", "clear").error, None);
    check_unharmed(&scene, "the second daemon");
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_replaced() {
    needs!(Root);
    let Scene { world, containers: _containers, probe, daemon } = scene();
    daemon.kill(Signal::SIGKILL);
    let socket = world.socket();
    let is_socket = fs::symlink_metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket());
    assert!(is_socket, "the case this test is about");
    UnixStream::connect(&socket).expect_err("nobody is behind it");
    let beside = socket.with_file_name("beside");
    fs::write(&beside, "").expect("anybody may");
    let daemon = world.daemon().expect("another daemon");
    daemon.view("web");
    assert!(probe.report().expect("a report").node("web").is_some());
    daemon.kill(Signal::SIGTERM);
    assert!(!socket.exists(), "no probe is to find a plugin that has ended");
    assert!(beside.exists(), "what is not ours stays");
}

#[test]
fn a_daemon_ends_although_clients_do_not() {
    needs!(Root);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let Scene { world, containers: _containers, daemon, .. } = scene();
        let mut half = UnixStream::connect(world.socket()).expect("a connection");
        half.write_all(b"POST /control?api_version=1 HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
            .expect("half a request");
        let _idle: Vec<_> =
            (0..50).map(|_| UnixStream::connect(world.socket()).expect("a connection")).collect();
        Probe::new(world.socket(), PROBE_ID).report().expect("all were accepted by now");
        let begin = Instant::now();
        daemon.kill(signal);
        // It waits for two seconds, and the body's five have not passed then.
        assert!(begin.elapsed() < Duration::from_secs(5), "{signal}: {:?}", begin.elapsed());
        assert!(!world.socket().exists(), "{signal}");
    }
}
