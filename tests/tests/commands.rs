//! The commands that people type, asked of a daemon that shapes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use shaper_tests::{
    daemon::{eventually, program},
    needs,
    scene::Scene,
    world::World,
};

fn scene(names: &[&str]) -> Scene {
    Scene::of(names).expect("a scene")
}

fn run(scene: &Scene, line: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        scene.daemon.shaper(line).output().expect("the program can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (status.code(), text(stdout), text(stderr))
}

fn json(scene: &Scene, line: &str) -> Value {
    serde_json::from_str(&scene.daemon.run(line)).unwrap_or_else(|error| panic!("`{line}`: {error}"))
}

/// The names of the containers that are shaped.
fn shaped(scene: &Scene) -> Vec<String> {
    let list = json(scene, "list --json");
    let views = list.as_array().expect("a list").iter().filter(|view| view["interfaces"] != json!([]));
    views.map(|view| view["container"]["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn wrong_usage_and_refusals_are_told_apart() {
    needs!(Root);
    let scene = scene(&["web1", "web2"]);
    for (line, code, text) in [
        ("set web1 --loss 101%", 2, "from 0% to 100%"),
        ("set web1 --loss -1%", 2, "--loss"),
        ("set web1 --latency -1ms", 2, "expected a time that is not negative"),
        ("set web1 --latency 1h", 2, "the longest is 5m"),
        ("set web1 --loss 1% --for 0s", 2, "a duration of nothing"),
        ("set web1 --loss 1% --direction sideways", 2, "possible values: egress, ingress, both"),
        ("set web1", 2, "<--latency <TIME>|"),
        ("clear", 2, "<SELECTOR>"),
        ("clear web1 --all", 2, "--all"),
        ("set web --loss 1%", 5, "error: \"web\" may be any of web1, web2: write more of the id"),
        ("set nosuch --loss 1%", 4, "error: no container is called \"nosuch\""),
        ("clear nosuch", 4, "error: no container is called \"nosuch\""),
        ("inspect nosuch", 4, "error: no container is called \"nosuch\""),
        ("inspect ../../version", 4, "error: no container is called \"../../version\""),
    ] {
        let (status, stdout, stderr) = run(&scene, line);
        assert_eq!(status, Some(code), "{line}: {stderr}");
        assert!(stderr.contains(text), "{line}: {stderr}");
        assert_eq!(stdout, "", "{line}");
    }
    assert_eq!(shaped(&scene), [""; 0]);
}

#[test]
fn what_is_set_is_told_and_listed() {
    needs!(Root);
    let scene = scene(&["web", "db"]);
    let told = scene.daemon.run("set web --loss 2.5% --for 1h");
    assert!(told.starts_with("web (web)\n  eth0 egress: loss 2.5%, ends in "), "{told}");
    let view = json(&scene, "set web --loss 50% --direction both --for forever --json");
    assert_eq!(view["container"]["runtime"], "netns");
    let policies: Vec<_> =
        view["interfaces"].as_array().expect("a list").iter().map(|i| &i["shaping"]).collect();
    assert_eq!(policies.len(), 2, "{view}");
    assert!(policies.iter().all(|shaping| shaping["loss"] == "50%"), "{view}");
    let list = scene.daemon.run("list");
    let cells = |name: &str| {
        let line = list.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(cells("web")[2..7], ["netns", "running", "50%", "50%", "-"], "{list}");
    assert_eq!(cells("db")[2..], ["netns", "running", "-", "-", "-", "-", "-", "-"], "{list}");
    assert_eq!(shaped(&scene), ["web"]);
    let cleared = json(&scene, "clear web --json");
    assert_eq!(cleared["interfaces"], json!([]));
}

#[test]
fn a_list_can_be_had_in_several_formats() {
    needs!(Root);
    // All of these mean something in YAML.
    let scene = scene(&["1e3", "no", "null", "web"]);
    let yaml: Value = serde_saphyr::from_str(&scene.daemon.run("list --output yaml")).expect("YAML");
    assert_eq!(yaml, json(&scene, "list --output json"));
    assert_eq!(yaml, json(&scene, "ls --json"));
    assert_eq!(scene.daemon.run("list --output name"), "1e3\nno\nnull\nweb\n");
    assert_eq!(scene.daemon.run("list web -o table"), scene.daemon.run("list web"));
}

#[test]
fn a_list_is_shown_again_until_nobody_reads() {
    needs!(Root);
    let scene = scene(&["web"]);
    let mut command = scene.daemon.shaper("list --watch");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("it goes on").expect("text");
    assert!(next().starts_with("NAME "));
    assert!(next().contains("running  -"), "it is not shaped");
    scene.daemon.run("set web --loss 30%");
    eventually("it is shown as shaped", || next().contains("running  30%").then_some(()));
    drop(lines);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn the_busiest_container_is_at_the_top() {
    needs!(Root);
    let scene = scene(&["idle", "web"]);
    assert_eq!(scene.daemon.run("top --once"), "no container is shaped\n");
    scene.daemon.run("set all --loss 50%");
    let web = &scene.containers[1];
    let flood = format!("ping -q -f -w 60 {}", web.host_address);
    let mut ping = web.netns.command("ping");
    let mut ping = ping.args(flood.split(' ').skip(1)).stdout(Stdio::null()).spawn().expect("it runs");
    let first = || scene.daemon.run("top --once").lines().nth(1).map(str::to_owned);
    let row = eventually("packets are counted", || first().filter(|row| row.starts_with("web ")));
    let _ = ping.kill();
    let _ = ping.wait();
    let cells: Vec<_> = row.split_whitespace().collect();
    let [_, "50%", "-", passed, dropped, lost] = cells[..] else { panic!("{row}") };
    let number = |text: &str| text.trim_end_matches('%').parse::<f64>().expect("a number");
    assert!(number(passed) > 0.0 && number(dropped) > 0.0 && number(lost) > 10.0, "{row}");
}

#[test]
fn all_can_be_cleared_at_once() {
    needs!(Root);
    let scene = scene(&["web", "db", "cache"]);
    scene.daemon.run("set web --loss 1%");
    scene.daemon.run("set db --loss 2% --direction both");
    assert_eq!(shaped(&scene), ["db", "web"]);
    let told = scene.daemon.run("clear --all");
    assert_eq!(told, "db (db) is no longer shaped\nweb (web) is no longer shaped\n");
    assert_eq!(shaped(&scene), [""; 0]);
    assert_eq!(scene.world.pins(), ["AYA_LOGS"]);
    assert_eq!(scene.daemon.run("clear --all"), "no container is shaped\n");
    assert_eq!(scene.daemon.run("clear web"), "web (web) was not shaped\n");
    assert_eq!(json(&scene, "clear --all --json"), json!([]));
}

#[test]
fn a_crowd_is_cleared_at_once_and_not_one_by_one() {
    needs!(Root);
    let world = World::new().expect("a world");
    let crowd = world.crowd(100).expect("containers");
    let count = crowd.len();
    let arguments = ["--runtime", "netns", "--log-level", "shaper=debug"];
    let command = world.host().command(program());
    let daemon = world.spawn(command, world.pin_dir(), &arguments).expect("a daemon");
    eventually("all are listed", || (daemon.run("list").lines().count() == count + 1).then_some(()));
    daemon.run("set all --loss 1%");
    let begin = Instant::now();
    let told = daemon.run("clear --all");
    println!("{count} cleared within {:?}", begin.elapsed());
    assert_eq!(told.lines().filter(|line| line.ends_with(" is no longer shaped")).count(), count);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
    let log = daemon.log();
    assert_eq!(log.matches("changes: cleared ").count(), count);
    assert_eq!(log.matches("a change begins").count(), 0, "none was asked for alone");
}

/// The line of `inspect` that begins with `label`.
fn line<'a>(shown: &'a str, label: &str) -> &'a str {
    let line = shown.lines().find_map(|line| line.trim_start().strip_prefix(label));
    line.unwrap_or_else(|| panic!("no line {label:?} in {shown}")).trim()
}

#[test]
fn what_inspect_shows_can_be_seen_with_the_kernels_tools() {
    needs!(Root);
    let scene = scene(&["web"]);
    let web = &scene.containers[0];
    assert!(scene.daemon.run("inspect web").contains("  not shaped\n"));
    scene.daemon.run("set web --loss 10%");
    let shown = scene.daemon.run("inspect web");
    let pins = scene.world.pins_of(web, "egress").expect("its pins");
    assert_eq!(line(&shown, "pinned"), pins.display().to_string());
    assert_eq!(line(&shown, "policy"), "loss 10%");
    assert_eq!(line(&shown, "see"), format!("bpftool map dump pinned {}/SHAPING", pins.display()));

    let inspection = json(&scene, "inspect web --json");
    let detail = &inspection["details"][0];
    let (id, hook) = (&detail["program_id"], detail["hook"].as_str().expect("it is named"));
    assert_eq!(line(&shown, "program"), format!("{id} on {hook}"));
    let commands: Vec<_> =
        detail["commands"].as_array().expect("a list").iter().map(|c| c.as_str().expect("text")).collect();
    assert!(commands.iter().all(|command| shown.contains(command)), "{shown}");
    for command in &commands {
        let tool = command.split(' ').find(|word| ["bpftool", "tc"].contains(word)).expect("a tool");
        if Command::new(tool).arg("-V").output().is_err() {
            eprintln!("skipped: this machine has no {tool}");
            continue;
        }
        let output = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !stdout.trim().is_empty(), "`{command}`: {stdout}{stderr}");
        let names: &[&str] = match *command {
            shaping if shaping.ends_with("/SHAPING") => &["\"delay_ns\": 0", "\"loss\": 429496729"],
            counters if counters.ends_with("/COUNTERS") => &["\"passed\"", "\"lost\"", "\"packets\""],
            filters if filters.contains("tc filter") => &["direct-action", "id "],
            _ => &[],
        };
        assert!(names.iter().all(|name| stdout.contains(name)), "`{command}` says not {names:?}: {stdout}");
    }
}

#[test]
fn a_command_without_a_daemon_says_how_to_start_one() {
    needs!(Root);
    let scene = scene(&[]);
    let elsewhere = scene.world.netns_dir().join("none.sock");
    let dead = scene.world.netns_dir().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("a socket"));
    let linked = scene.world.netns_dir().join("linked.sock");
    symlink(scene.world.socket(), &linked).expect("a link");
    for (socket, answers) in [(elsewhere, false), (dead, false), (linked, true)] {
        let mut command = Command::new(shaper_tests::daemon::program());
        let output = command.arg("--plugin-socket").arg(&socket).arg("list").output().expect("it runs");
        assert_eq!(output.status.code(), Some(if answers { 0 } else { 3 }), "{}", socket.display());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let expected =
            format!("error: no daemon listens on {}: start it with `shaper serve`", socket.display());
        assert!(answers || stderr.starts_with(&expected), "{stderr}");
    }
}

#[test]
fn distributions_and_traces_are_read_from_files_before_a_daemon_is_asked() {
    needs!(Root);
    let scene = scene(&[]);
    let directory = scene.world.netns_dir();
    fs::write(directory.join("own.dist"), "-8192 0 8192\n").expect("it can be written");
    fs::write(directory.join("lte.down"), "1\n3\n3\n").expect("it can be written");
    fs::write(directory.join("bad.down"), "3\n1\n").expect("it can be written");
    let ask = |words: &[&str]| {
        let mut command = Command::new(shaper_tests::daemon::program());
        command.args(["set", "web"]).args(words).args(["--plugin-socket", "/nowhere/none.sock"]);
        // Where iproute2's distributions are, by its own variable.
        let output = command.env("TC_LIB_DIR", &directory).current_dir(&directory).output().expect("it runs");
        String::from_utf8(output.stderr).expect("text")
    };
    for (words, said) in [
        (["--netem", "delay 10ms 1ms distribution own"], "no daemon listens"),
        (["--netem", "delay 10ms 1ms distribution own.dist"], "no daemon listens"),
        (["--netem", "delay 10ms 1ms distribution other"], "unknown distribution \"other\""),
        (["--trace", "lte.down"], "no daemon listens"),
        (["--trace", "bad.down"], "bad.down"),
        (["--trace", "none.down"], "none.down"),
    ] {
        let stderr = ask(&words);
        assert!(stderr.contains(said), "{words:?}: {stderr}");
    }
}
