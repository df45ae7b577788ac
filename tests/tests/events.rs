//! Events: what has happened to the shaping of containers, and through whom.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, PATIENCE, eventually, program},
    documents::words,
    needs,
    world::World,
};

fn run(daemon: &Daemon, line: &str) -> String {
    daemon.words(&words(line).iter().map(String::as_str).collect::<Vec<_>>())
}

/// Each event in short: `web began process loss 1%`.
fn short(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let netem = |lines: &Value| text(&lines[0]["netem"]);
    let detail = match event["reason"].as_str() {
        Some(reason) => reason.to_owned(),
        None => netem(&event["after"]),
    };
    let (container, action) = (text(&event["container"]), text(&event["action"]));
    format!("{container} {action} {} {detail}", text(&event["by"]["kind"])).trim_end().to_owned()
}

fn events(daemon: &Daemon) -> Vec<String> {
    let all: Value = serde_json::from_str(&daemon.run("events --json")).expect("JSON");
    all.as_array().expect("a list").iter().map(short).collect()
}

#[test]
fn every_change_is_told_with_its_author_to_those_who_follow_and_in_the_audit_log() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let audit = world.directory().join("audit.jsonl");
    let path = audit.display().to_string();
    let arguments = ["--runtime", "netns", "--audit-log", &path];
    let daemon = world.spawn(world.host().command(program()), world.pin_dir(), &arguments).expect("a daemon");
    drop(daemon.view("web"));

    let mut follower = daemon.command(&["events", "--follow", "--json"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("the program runs");
    let (sender, followed) = mpsc::channel();
    let stdout = follower.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(short(&serde_json::from_str(&line).expect("JSON")));
        }
    });
    // It is to follow before anything happens.
    eventually("somebody follows", || {
        daemon.run("set web --loss 9%");
        followed.recv_timeout(Duration::from_millis(100)).ok()
    });
    daemon.run("clear web");
    let before = events(&daemon).len();

    daemon.run("set web --loss 1%");
    daemon.run("set web --loss 2% --for 2s");
    assert!(daemon.complaint_about(&["set", "nobody", "--loss", "1%"]).contains("no container is called"));
    eventually("its time is over", || {
        events(&daemon).iter().any(|one| one.contains("its time is over")).then_some(())
    });
    run(&daemon, "set all --loss 3% --keep slow");
    eventually("the rule is in force", || events(&daemon).last()?.contains("loss 3%").then_some(()));
    run(&daemon, "rules remove slow");
    eventually("the rule has ended", || events(&daemon).last()?.contains("ended rule").then_some(()));
    let expected = [
        "web began process loss 1%",
        "web changed process loss 2%",
        "nobody refused process no container is called \"nobody\", and no id starts with it: `shaper list` shows all containers",
        "web ended shaper its time is over",
        "web began rule loss 3%",
        "web ended rule",
    ];
    assert_eq!(events(&daemon)[before..], expected);
    let told: Vec<_> = (0..before + expected.len() - 1)
        .map(|_| followed.recv_timeout(PATIENCE).expect("an event"))
        .collect();
    assert_eq!(told[told.len() - expected.len()..], expected, "{told:?}");
    let written = fs::read_to_string(&audit).expect("the audit log");
    let written: Vec<_> =
        written.lines().map(|line| short(&serde_json::from_str(line).expect("JSON"))).collect();
    assert_eq!(written, events(&daemon));
    assert!(daemon.run("events --last 1").contains("web ended by rule slow; before: eth0 egress: loss 3%"));

    daemon.kill(nix::sys::signal::Signal::SIGTERM);
    let ended = follower.wait().expect("it ends");
    assert!(ended.success(), "a stream ends with the daemon: {ended}");
    reader.join().expect("it ends");
}
