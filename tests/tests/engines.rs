//! Rules where the engine is slow, breaks off, or is restarted: what a rule and a person did stays known.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually},
    docker::{DockerDaemon, child_of},
    ms, needs,
};

/// Containers that a rule fits, `web-1` and `web-2`, the latter exempt, and one that it does not fit.
fn ruled(daemon: &Daemon, engine: &DockerDaemon, extra_args: &[&str]) {
    daemon.run("set web-* --loss 5% --keep lossy-web");
    for name in ["web-1", "web-2", "db"] {
        engine.run(name, extra_args).expect("a container");
    }
    eventually_shaped(daemon, &["web-1", "web-2"]);
    daemon.run("clear web-2");
    assert_eq!(shaped(daemon), ["web-1"]);
}

/// The containers that have the rule's shaping; no other has any.
fn shaped(daemon: &Daemon) -> Vec<String> {
    let list: Value = serde_json::from_str(&daemon.run("list --json")).expect("JSON");
    let name = |view: &Value| {
        let effects = view["interfaces"][0]["shaping"]["netem"].as_str()?;
        assert_eq!(effects, "loss 5%", "{view}");
        Some(view["container"]["name"].as_str()?.to_owned())
    };
    list.as_array().expect("a list").iter().filter_map(name).collect()
}

fn eventually_shaped(daemon: &Daemon, expected: &[&str]) {
    eventually(&format!("{expected:?} are shaped"), || (shaped(daemon) == expected).then_some(()));
}

/// Waits until rules have had the time to be carried out, and asserts that nothing has changed.
fn stay_shaped(daemon: &Daemon, expected: &[&str]) {
    std::thread::sleep(ms(1_500));
    assert_eq!(shaped(daemon), expected, "{}", daemon.log());
}

/// The changes of containers' shaping in the logs of all daemons.
fn changes(daemon: &Daemon) -> usize {
    let is_change =
        |line: &&str| ["changes: set container=", "changes: cleared "].iter().any(|one| line.contains(one));
    daemon.log().lines().filter(is_change).count()
}

/// A socket in front of the engine's.
struct Relay<'a> {
    engine: &'a DockerDaemon,
    child: Child,
}

impl<'a> Relay<'a> {
    fn start(engine: &'a DockerDaemon) -> Self {
        let mut command = engine.command(env!("CARGO_BIN_EXE_relay"));
        command.arg(engine.directory().join("front.sock")).arg(engine.socket()).stdin(Stdio::null());
        let this = Self { engine, child: command.spawn().expect("it is built with the tests") };
        eventually("it listens", || this.socket().exists().then_some(()));
        this
    }

    fn socket(&self) -> PathBuf {
        self.engine.directory().join("front.sock")
    }

    /// Has it hold answers back (`held`), or cut them (`cut`).
    fn begin(&self, how: &str) {
        fs::write(self.socket().with_extension(how), "").expect("it can be written");
    }

    fn end(&self, how: &str) {
        fs::remove_file(self.socket().with_extension(how)).expect("it is there");
    }

    /// A daemon that knows of no other socket.
    fn daemon(&self) -> Daemon {
        let socket = self.socket().display().to_string();
        self.engine.watched_by("docker", &["--docker-socket", &socket]).expect("a daemon")
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if let Some(pid) = child_of(self.child.id()).ok().and_then(|pid| pid.try_into().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

#[test]
fn what_was_done_stays_known_while_docker_does_not_answer_a_new_daemon() {
    needs!(Root, Docker);
    let engine = DockerDaemon::start().expect("Docker");
    let relay = Relay::start(&engine);
    let mut daemon = relay.daemon();
    ruled(&daemon, &engine, &[]);
    let before = changes(&daemon);
    for how in ["held", "cut"] {
        relay.begin(how);
        daemon.end(Signal::SIGKILL);
        daemon = relay.daemon();
        stay_shaped(&daemon, &[]);
        assert!(engine.pins().len() == 2, "what no runtime has told of is kept: {:?}", engine.pins());
        relay.end(how);
        eventually_shaped(&daemon, &["web-1"]);
        stay_shaped(&daemon, &["web-1"]);
        assert_eq!(changes(&daemon), before, "nothing is set again or cleared: {}", daemon.log());
    }
    daemon.run("rules remove lossy-web");
    eventually_shaped(&daemon, &[]);
}

#[test]
fn rules_hold_while_docker_breaks_off_its_answers() {
    needs!(Root, Docker);
    let engine = DockerDaemon::start().expect("Docker");
    let relay = Relay::start(&engine);
    let daemon = relay.daemon();
    ruled(&daemon, &engine, &[]);
    relay.begin("cut");
    engine.run("web-3", &[]).expect("a container");
    engine.rm("db").expect("it is there");
    stay_shaped(&daemon, &["web-1"]);
    relay.end("cut");
    eventually_shaped(&daemon, &["web-1", "web-3"]);
    stay_shaped(&daemon, &["web-1", "web-3"]);
}

#[test]
fn labels_that_are_made_to_confuse_neither_hide_a_container_nor_reach_another_rule() {
    needs!(Root, Docker);
    let engine = DockerDaemon::start().expect("Docker");
    let daemon = engine.watched_by("docker", &[]).expect("a daemon");
    daemon.run("set label:app=web+!label:tier --loss 5% --keep lossy-web");
    let long = "x".repeat(60_000);
    for (name, labels) in [
        ("plain", &["app=web"][..]),
        ("newline", &["app=web\n", "app\u{a0}=web"]),
        ("selector", &["app=web,all", "x=label:app=web", "label:app=web=web"]),
        ("escape", &["app=web", "\u{1b}[2J=\u{1b}]0;owned\u{7}", "note=\"}]{\\"]),
        ("long", &["app=web", &format!("note={long}"), &format!("{long}=")]),
        ("right-to-left", &["app=web", "\u{202e}tier=db", "TIER=db"]),
        ("empty", &["app", "tier"]),
    ] {
        let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
        engine.run(name, &labels).expect("a container");
    }
    let expected = ["escape", "long", "plain", "right-to-left"];
    eventually_shaped(&daemon, &expected);
    stay_shaped(&daemon, &expected);
    for line in ["list", "inspect all", "rules", "clear all --dry-run"] {
        let said = daemon.run(line);
        assert!(!said.contains(|one: char| one.is_control() && one != '\n'), "{line}: {said:?}");
    }
}

#[test]
fn rules_hold_across_restarts_of_docker_that_containers_outlive() {
    needs!(Root, Docker);
    let mut engine = DockerDaemon::start().expect("Docker");
    let mut daemon = engine.watched_by("docker", &[]).expect("a daemon");
    ruled(&daemon, &engine, &[]);
    let before = changes(&daemon);
    for signal in ["TERM", "KILL"] {
        engine.restart_after(signal, |_| stay_shaped(&daemon, &["web-1"])).expect("it starts");
        stay_shaped(&daemon, &["web-1"]);
    }
    let end_too = |engine: &DockerDaemon| {
        daemon.end(Signal::SIGKILL);
        daemon = engine.watched_by("docker", &[]).expect("a daemon");
    };
    engine.restart_after("TERM", end_too).expect("it starts");
    eventually_shaped(&daemon, &["web-1"]);
    stay_shaped(&daemon, &["web-1"]);
    assert_eq!(changes(&daemon), before, "nothing is set again or cleared: {}", daemon.log());
    engine.run("web-3", &[]).expect("a container");
    eventually_shaped(&daemon, &["web-1", "web-3"]);
}

#[test]
fn containers_that_end_and_start_with_docker_have_their_rules_again() {
    needs!(Root, Docker);
    let mut engine = DockerDaemon::start_with_mortal_containers().expect("Docker");
    let daemon = engine.watched_by("docker", &[]).expect("a daemon");
    ruled(&daemon, &engine, &["--restart", "always"]);
    for signal in ["TERM", "KILL"] {
        engine.restart_after(signal, |_| {}).expect("it starts");
        eventually_shaped(&daemon, &["web-1", "web-2"]);
        stay_shaped(&daemon, &["web-1", "web-2"]);
        daemon.run("clear web-2");
        stay_shaped(&daemon, &["web-1"]);
    }
}

#[test]
fn a_container_that_was_cleared_by_hand_has_its_rule_again_once_it_restarts() {
    needs!(Root, Docker);
    let engine = DockerDaemon::start().expect("Docker");
    let daemon = engine.watched_by("docker", &[]).expect("a daemon");
    ruled(&daemon, &engine, &[]);
    let number = || fs::metadata(engine.netns("web-2").expect("it runs").path()).map(|file| file.ino());
    let mut reused = 0;
    for _ in 0..8 {
        let before = number().expect("it runs");
        engine.docker(&["restart", "web-2"]).expect("it restarts");
        reused += usize::from(number().expect("it runs") == before);
        eventually_shaped(&daemon, &["web-1", "web-2"]);
        daemon.run("clear web-2");
        assert_eq!(shaped(&daemon), ["web-1"]);
    }
    println!("its namespace had the same number {reused} times of 8");
}
