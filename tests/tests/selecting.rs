//! Many containers at once: whom a selector chooses, and that all of them are changed or none.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shaper_tests::{
    daemon::{Daemon, eventually, program},
    documents::{commands, read, words},
    needs,
    netns::Netns,
    probe::Probe,
    require::{self, Need},
    scene::{PROBE_ID, Scene},
    traffic::ping,
    world::{Container, World},
};

fn scene(names: &[&str]) -> Scene {
    Scene::of(names).expect("a scene")
}

/// The exit code of a command, and what it wrote and complained of.
fn run(daemon: &Daemon, line: &str) -> (Option<i32>, String, String) {
    let output = daemon.command(&words(line).iter().map(String::as_str).collect::<Vec<_>>()).output();
    let output = output.expect("the program can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The results of a command that ends with this exit code.
fn results(daemon: &Daemon, line: &str, code: i32) -> Vec<Value> {
    let (status, out, err) = run(daemon, &format!("{line} --json"));
    assert_eq!(status, Some(code), "{line}: {out}{err}");
    let all: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {err}"));
    all["results"].as_array().expect("a list").clone()
}

/// Names and results, as in `web changed`.
fn ends(results: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    results
        .iter()
        .map(|one| format!("{} {}", text(&one["container"]["name"]), text(&one["result"])))
        .collect()
}

/// The containers that are shaped, with what is sent.
fn shaped(daemon: &Daemon) -> Vec<String> {
    let list: Value = serde_json::from_str(&daemon.run("list --json")).expect("JSON");
    let views = list.as_array().expect("a list").iter();
    let line = |view: &Value| {
        let netem = view["interfaces"][0]["shaping"]["netem"].as_str()?;
        Some(format!("{}: {netem}", view["container"]["name"].as_str()?))
    };
    views.filter_map(line).collect()
}

/// Tells whether packets from a container arrive; each loss here is of all or of none.
fn arrive(container: &Container) -> bool {
    let options = ["-W", "0.2"];
    let pings = ping(&container.netns, container.host_address, 3, Duration::from_millis(5), &options);
    let pings = pings.expect("ping works");
    assert!(pings.received == 0 || pings.received == pings.sent, "{pings:?}");
    pings.received > 0
}

#[test]
fn what_fits_is_shaped_and_nothing_else() {
    needs!(Root);
    let scene = scene(&["shop-db", "shop-web", "shop-web-2", "test"]);
    let arriving = || scene.containers.iter().map(arrive).collect::<Vec<_>>();
    let set = |line: &str| ends(&results(&scene.daemon, line, 0));
    assert_eq!(set("set 'shop-*+!shop-db' --loss 100%"), ["shop-web changed", "shop-web-2 changed"]);
    assert_eq!(arriving(), [true, false, false, true]);
    assert_eq!(set("clear 're:^shop-web-[0-9]+$' test"), ["shop-web-2 changed", "test unchanged"]);
    assert_eq!(arriving(), [true, false, true, true]);
    assert_eq!(set("set test,shop-db --loss 100%"), ["shop-db changed", "test changed"]);
    assert_eq!(arriving(), [false, false, true, false]);
    let (_, out, _) = run(&scene.daemon, "list 'shop-*' runtime:docker");
    let names: Vec<_> = out.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["shop-db", "shop-web", "shop-web-2"]);
    let (_, out, _) = run(&scene.daemon, "inspect 'shop-web*'");
    assert!(out.contains("shop-web (shop-web)") && out.contains("\nshop-web-2 (shop-web-2)"), "{out}");
    assert_eq!(set("clear all").len(), 4);
    assert_eq!(arriving(), [true; 4]);
    assert_eq!(scene.world.pins(), ["AYA_LOGS"]);
}

#[test]
fn exit_codes_say_what_happened() {
    needs!(Root);
    let scene = scene(&["web-1", "web-2"]);
    let _bare = Netns::create(scene.world.netns_dir().join("bare")).expect("a namespace");
    scene.daemon.view("bare");
    for (line, code, said) in [
        ("set lable:app=web --loss 1%", 2, "unknown kind \"lable\"; did you mean \"label\"?"),
        ("set 're:[' --loss 1%", 2, "invalid regular expression"),
        ("set web-1 --loss 1% --count 0", 2, "invalid count \"0\""),
        ("set 'db-*' --loss 1%", 4, "error: no container fits \"db-*\""),
        ("set label:app=web --loss 1%", 4, "error: no container fits"),
        ("clear 'db-*'", 4, "error: no container fits"),
        ("list 'db-*'", 4, "error: no container fits"),
        ("inspect 'db-*'", 4, "error: no container fits"),
        ("set web-1,wbe-2 --loss 1%", 4, "\"wbe-2\"; did you mean web-2"),
        ("set 'web-*+!wbe-2' --loss 1%", 4, "\"wbe-2\"; did you mean web-2"),
        ("set web-1,web --loss 1%", 5, "\"web\" may be any of web-1, web-2"),
        (
            "set 'web-*' --loss 1% --max-containers 1",
            5,
            "2 containers would be changed, and at most 1 may be",
        ),
        ("set all --loss 1%", 5, "1 of 3 failed, nothing has changed; the first is bare: it has no network"),
    ] {
        let (status, _, err) = run(&scene.daemon, line);
        assert_eq!(status, Some(code), "{line}: {err}");
        assert!(err.contains(said), "{line}: {err}");
    }
    assert_eq!(shaped(&scene.daemon), [""; 0]);
    for line in
        ["set 'db-*' --loss 1% --allow-none", "clear 'db-*' --allow-none", "set db --loss 1% --allow-none"]
    {
        assert_eq!(
            run(&scene.daemon, line),
            (Some(0), "no container fits\n".to_owned(), String::new()),
            "{line}"
        );
    }
    let partly = results(&scene.daemon, "set all --loss 1% --partial", 6);
    assert_eq!(ends(&partly), ["bare refused", "web-1 changed", "web-2 changed"]);
    assert_eq!(shaped(&scene.daemon), ["web-1: loss 1%", "web-2: loss 1%"]);
}

#[test]
fn a_dry_run_says_what_then_happens_and_touches_nothing() {
    needs!(Root);
    let scene = scene(&["web-1", "web-2", "web-3"]);
    let _bare = Netns::create(scene.world.netns_dir().join("web-bare")).expect("a namespace");
    scene.daemon.view("web-bare");
    scene.daemon.run("set web-1 --loss 5% --for 1h");
    let state = || {
        let show = |one: &Container| {
            let commands = ["ip -d link show eth0", "tc qdisc show dev eth0"];
            commands.map(|command| one.netns.run(command).expect("it can be shown"))
        };
        let devices: Vec<_> = scene.containers.iter().map(show).collect();
        (scene.world.pins(), scene.daemon.run("inspect all"), devices)
    };
    for (line, code) in [
        ("set 'web-?' --netem 'loss 10% duplicate 1%'", 0),
        ("set 'web-?' --loss 20% --to 10.0.0.0/8 --direction both", 0),
        ("set 'web-*' --loss 30% --partial", 6),
        ("set 'web-*' --loss 40%", 5),
        ("clear 'web-[12]'", 0),
    ] {
        let before = state();
        let planned = results(&scene.daemon, &format!("{line} --dry-run"), code);
        assert_eq!(state().0, before.0, "{line}");
        assert_eq!(state().2, before.2, "{line}");
        assert_eq!(without_times(&state().1), without_times(&before.1), "{line}");
        let done = results(&scene.daemon, line, code);
        assert_eq!(shapings(&planned), shapings(&done), "{line}");
        let as_done = |end: &String| end.replace("planned", "changed");
        assert_eq!(ends(&planned).iter().map(as_done).collect::<Vec<_>>(), ends(&done), "{line}");
    }
}

#[test]
fn a_dry_run_refuses_a_delay_that_the_kernel_has_no_queue_for() {
    needs!(Root);
    let scene = scene(&["web-1", "web-2"]);
    scene.daemon.run("set web-1 --loss 5%");
    let line = "set 'web-?' --latency 10ms";
    let can = require::met(&[Need::Fq]);
    let planned = results(&scene.daemon, &format!("{line} --dry-run"), if can { 0 } else { 5 });
    let done = results(&scene.daemon, line, if can { 0 } else { 5 });
    let as_done = |end: &String| end.replace("planned", "changed");
    assert_eq!(ends(&planned).iter().map(as_done).collect::<Vec<_>>(), ends(&done));
    assert_eq!(scene.daemon.run("list").contains("10ms"), can);
}

/// The text that `inspect` shows, but for times and counts, which go on.
fn without_times(shown: &str) -> String {
    let lines = shown.lines().map(|line| line.split(", ends in ").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The shaping before and after, without times, which go on.
fn shapings(results: &[Value]) -> Vec<Value> {
    let line = |line: &Value| json!([line["interface"], line["direction"], line["netem"], line["targets"]]);
    let lines = |lines: &Value| lines.as_array().expect("a list").iter().map(line).collect::<Vec<_>>();
    results.iter().map(|one| json!([lines(&one["before"]), lines(&one["after"])])).collect()
}

/// Something mounted where a container's shaping would be pinned, so that the kernel refuses the last step of a change.
struct Obstacle(PathBuf);

impl Obstacle {
    fn before(scene: &Scene, container: &Container) -> Self {
        let path = scene.world.pins_of(container, "egress").expect("a path");
        fs::create_dir(&path).expect("it can be made");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&path).status().expect("mount runs");
        assert!(mounted.success());
        Self(path)
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_was_done_is_put_back_when_something_fails_in_the_middle() {
    needs!(Root);
    let scene = scene(&["web-1", "web-2", "web-3", "web-4"]);
    scene.daemon.run("set web-1 --loss 5% --for 1h");
    scene.daemon.run("set web-2 --loss 7% --direction both");
    let before = shaped(&scene.daemon);
    let obstacle = Obstacle::before(&scene, &scene.containers[2]);
    let failed = results(&scene.daemon, "set 'web-*' --loss 50% --for 2h", 1);
    let is_failed = |one: &&Value| one["result"] == "failed";
    let reasons: Vec<_> =
        failed.iter().filter(is_failed).map(|one| one["container"]["name"].clone()).collect();
    assert_eq!(reasons, ["web-3"], "{failed:?}");
    for one in failed.iter().filter(|one| !is_failed(one)) {
        assert!(one["result"] == "restored" || one["result"] == "untouched", "{one}");
        let lines = &shapings(std::slice::from_ref(one))[0];
        assert_eq!(lines[0], lines[1], "as before: {one}");
    }
    assert_eq!(shaped(&scene.daemon), before);
    let left = scene.daemon.view("web-1")["interfaces"][0]["remaining_ms"].as_u64().expect("a time");
    assert!((3_000_000..=3_600_000).contains(&left), "{left} ms of an hour");
    let partly = results(&scene.daemon, "set 'web-*' --loss 50% --partial", 6);
    assert_eq!(ends(&partly), ["web-1 changed", "web-2 changed", "web-3 failed", "web-4 changed"]);
    drop(obstacle);
    assert_eq!(results(&scene.daemon, "set 'web-*' --loss 60%", 0).len(), 4);
}

#[test]
fn a_count_chooses_the_same_ones_each_time() {
    needs!(Root);
    let names: Vec<_> = (0..8).map(|number| format!("web-{number}")).collect();
    let scene = scene(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let chosen = ends(&results(&scene.daemon, "set 'web-*' --count 3 --loss 1%", 0));
    assert_eq!(chosen.len(), 3);
    assert_eq!(ends(&results(&scene.daemon, "set 'web-*' --count 3 --loss 2%", 0)), chosen);
    assert_eq!(shaped(&scene.daemon).len(), 3);
    let Scene { daemon, containers, world, .. } = scene;
    daemon.kill(Signal::SIGTERM);
    let daemon = world.daemon().expect("the next one");
    daemon.view("web-7");
    assert_eq!(ends(&results(&daemon, "set 'web-*' --count 3 --loss 3%", 0)), chosen);
    assert_eq!(ends(&results(&daemon, "set all --count 30% --loss 3%", 0)), chosen, "3 of 8 are 30 %");
    assert_eq!(shaped(&daemon).len(), 3);
    drop(containers);
}

#[test]
fn containers_of_one_namespace_are_changed_once() {
    needs!(Root);
    let scene = scene(&["web"]);
    let _alias = scene.containers[0].netns.alias(scene.world.netns_dir().join("sidecar")).expect("a name");
    scene.daemon.view("sidecar");
    let set = results(&scene.daemon, "set web sidecar --loss 1%", 0);
    assert_eq!(ends(&set), ["sidecar changed"]);
    assert_eq!(set[0]["shared_with"], json!(["web"]));
    let (_, out, _) = run(&scene.daemon, "clear all");
    assert!(out.lines().nth(1).is_some_and(|line| line.starts_with("sidecar, web  ")), "{out}");
    assert_eq!(shaped(&scene.daemon), [""; 0]);
}

#[test]
fn what_is_protected_is_shaped_by_force_alone_and_cleared_by_anyone() {
    needs!(Root);
    let world = World::new().expect("a world");
    let containers = ["db-1", "web"].map(|name| world.container(name).expect("a container"));
    let options = ["--runtime", "netns", "--protect", "db-*", "--protect", "nobody"];
    let daemon = world.spawn(world.host().command(program()), world.pin_dir(), &options).expect("a daemon");
    containers.iter().for_each(|one| drop(daemon.view(&one.name)));
    let refused = "error: protected: `shaper serve --protect` names it. To shape db-1 nevertheless, write its id, or --force\n";
    assert_eq!(run(&daemon, "set db-1 --loss 1%"), (Some(5), String::new(), refused.to_owned()));
    assert_eq!(ends(&results(&daemon, "set db-1 web --loss 1%", 5)), ["db-1 refused", "web untouched"]);
    assert_eq!(ends(&results(&daemon, "set all --loss 1%", 0)), ["db-1 skipped", "web changed"]);
    let (status, _, err) = run(&daemon, "set 'db-*' --loss 1%");
    assert_eq!(status, Some(4));
    assert!(err.contains("and can be changed: db-1: protected: "), "{err}");
    let probe = Probe::new(world.socket(), PROBE_ID);
    let pressed = probe.press("db-1;<container>", "traffic-control-table-pkt-drop-low").expect("an answer");
    assert!(format!("{pressed:?}").contains("protected: "), "{pressed:?}");
    assert_eq!(shaped(&daemon), ["web: loss 1%"]);
    daemon.run("set db-1 --loss 2% --force");
    assert_eq!(ends(&results(&daemon, "set all --loss 3% --force", 0)), ["db-1 changed", "web changed"]);
    daemon.run("clear db-1");
    assert_eq!(shaped(&daemon), ["web: loss 3%"]);
}

#[test]
fn the_api_selects_as_the_commands_do() {
    needs!(Root);
    let scene = scene(&["web-1", "web-2"]);
    let ask = |method: &str, target: &str, body: &str| {
        let (status, text) = scene.ask(method, &format!("/api/v1{target}"), body);
        (status, serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{text}: {error}")))
    };
    let (status, answer) = ask("PATCH", "/shaping?selector=web-1&selector=web-2", r#"{"loss": "1%"}"#);
    assert_eq!((status, answer["results"].as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    let whole = r#"{"egress": {"policy": {"loss": "2%"}}}"#;
    assert_eq!(ask("PUT", "/shaping?selector=web-*&dry_run=true", whole).0, 200);
    assert_eq!(shaped(&scene.daemon), ["web-1: loss 1%", "web-2: loss 1%"]);
    assert_eq!(ask("PUT", "/shaping?selector=web-*&count=1", whole).0, 200);
    assert_eq!(shaped(&scene.daemon).iter().filter(|line| line.ends_with("loss 2%")).count(), 1);
    for (target, status, said) in [
        ("/shaping", 400, "expected a parameter selector"),
        ("/shaping?selector=", 400, "expected a name"),
        ("/shaping?selector=all&color=red", 400, "unknown parameter \\\"color\\\""),
        ("/shaping?selector=all&partial=maybe", 400, "expected true or false"),
        ("/shaping?selector=db-*", 404, "no container fits"),
        ("/shaping?selector=all&max_containers=1", 422, "at most 1 may be"),
        ("/containers/web-1/shaping?selector=all", 400, "unknown parameter \\\"selector\\\""),
    ] {
        let (answered, answer) = ask("PATCH", target, r#"{"loss": "1%"}"#);
        assert_eq!(answered, status, "{target}: {answer}");
        assert!(answer["detail"].to_string().contains(said), "{target}: {answer}");
    }
    assert_eq!(ask("GET", "/containers?selector=web-*&count=1", "").1.as_array().map(Vec::len), Some(1));
    assert_eq!(ask("DELETE", "/shaping?selector=all", "").0, 200);
    assert_eq!(shaped(&scene.daemon), [""; 0]);
}

#[test]
fn a_target_follows_the_containers_that_fit_its_selector() {
    needs!(Root);
    let scene = scene(&["web", "db-1", "db-2"]);
    let target = |selector: &str| format!("set web --netem partition --to container:{selector}");
    assert!(scene.daemon.complaint(&target("dbs-*")).contains("no container fits \"dbs-*\""));
    assert!(scene.daemon.complaint(&target("lable:a=b")).contains("did you mean \"label\"?"));
    scene.daemon.run(&target("db-*+!db-2"));
    let addresses = || {
        let names = scene.daemon.view("web")["interfaces"][0]["names"].clone();
        let mut all: Vec<String> =
            names[0]["addresses"].as_array().expect("a list").iter().map(|one| one.to_string()).collect();
        all.retain(|address| address.contains("10.99."));
        all
    };
    let of = |container: &Container| format!("\"{}\"", container.address);
    assert_eq!(addresses(), [of(&scene.containers[1])]);
    let third = scene.world.container("db-3").expect("a container");
    eventually("it follows", || (addresses() == [of(&scene.containers[1]), of(&third)]).then_some(()));
    drop(third);
    eventually("it forgets", || (addresses() == [of(&scene.containers[1])]).then_some(()));
}

/// The kinds of what named namespaces do not have: nothing fits.
const ABSENT: [&str; 7] = ["label:", "service:", "project:", "pod:", "ns:", "image:", "runtime:docker"];

#[test]
fn every_example_of_the_page_about_selectors_does_what_it_says() {
    needs!(Root);
    let scene = scene(&["cache", "db", "shop-db", "shop-web-1", "shop-web-2", "web", "web-1", "web-2"]);
    let examples = commands(&read("docs/selecting.md"));
    let mut count = 0;
    for example in examples.iter().filter(|example| example.starts_with("shaper ")) {
        if words(example).get(1).is_some_and(|word| word == "serve") {
            continue;
        }
        count += 1;
        let (status, out, err) = run(&scene.daemon, example.trim_start_matches("shaper "));
        let is_absent = ABSENT.iter().any(|kind| example.contains(kind));
        match status {
            Some(4) if is_absent => assert!(err.contains("no container fits"), "{example}: {err}"),
            status => assert_eq!(status, Some(0), "{example}: {out}{err}"),
        }
    }
    assert!(count >= 10, "the page has examples");
}
