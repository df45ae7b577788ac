//! Containers that come and go in crowds while a rule is in force, and the daemon is killed among them: at the end each
//! is shaped as the rule says, and nothing is left of those that are gone.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shaper_tests::{
    daemon::{Daemon, eventually},
    docker::{DockerDaemon, IMAGE},
    needs,
};

/// The number of containers that come and go; `SHAPER_STORM` says another.
const CONTAINERS: usize = 40;
/// The containers that are started at once.
const AT_ONCE: usize = 4;
/// The containers that stay until the end.
const STAYING: usize = 8;

/// The name of a container: the rule fits three of four.
fn name(number: usize) -> String {
    format!("{}-{number}", if number.is_multiple_of(4) { "calm" } else { "storm" })
}

/// The containers that are listed, each with the effects on what it sends.
fn listed(daemon: &Daemon) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&daemon.run("list --json")).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line =
        |view: &Value| (text(&view["container"]["name"]), text(&view["interfaces"][0]["shaping"]["netem"]));
    list.as_array().expect("a list").iter().map(line).collect()
}

/// The BPF programs and maps that the daemon has open.
fn objects(daemon: &Daemon) -> usize {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs").flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| ["anon_inode:bpf-prog", "anon_inode:bpf-map"].iter().any(|one| link.ends_with(one)))
        .count()
}

/// The number of network namespaces that the daemon remembers on the disk.
fn remembered(engine: &DockerDaemon) -> usize {
    let state = fs::read_to_string(engine.state_dir().join("rules.json")).expect("it has been written");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    state["held"].as_array().expect("a list").len()
}

/// Starts one container, which ends by itself after a while and is removed then, or stays.
fn start(engine: &DockerDaemon, number: usize, stays: bool) {
    let lives = if stays { "1000000".to_owned() } else { format!("{}.{}", number % 3, number % 7) };
    let parent = format!("--cgroup-parent=/{}", engine.cgroup());
    let name = name(number);
    let words =
        ["run", "-d", "--rm", "--network", "bridge", "--stop-signal", "KILL", "--name", &name, &parent];
    engine.docker(&[&words[..], &[IMAGE, "sleep", &lives]].concat()).expect("a container");
}

fn storm(engine: &DockerDaemon, runtime: &str) {
    let count = std::env::var("SHAPER_STORM").map_or(CONTAINERS, |count| count.parse().expect("a number"));
    let mut daemon = engine.watched_by(runtime, &[]).expect("a daemon");
    daemon.run("set storm-* --loss 1% --keep storm");
    // Once something has been shaped, the program and the ring for its log are there to stay.
    start(engine, 1, true);
    eventually("the first is shaped", || (listed(&daemon)[..] == [shaped(1)]).then_some(()));
    engine.rm(&name(1)).expect("it is there");
    eventually("it is gone", || (listed(&daemon).is_empty() && engine.pins() == ["AYA_LOGS"]).then_some(()));
    let (begin, next, started) = (Instant::now(), AtomicUsize::new(0), AtomicUsize::new(0));
    let (mut looks, mut dead) = (0, Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    start(engine, number, number + STAYING >= count);
                    started.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let started = || started.load(Ordering::Relaxed);
        let mut was_killed = false;
        while started() < count {
            for (name, effects) in listed(&daemon) {
                let is_right = effects.is_empty() || effects == "loss 1%" && name.starts_with("storm-");
                assert!(is_right, "{name}: {effects}\n{}", daemon.log());
                looks += 1;
            }
            if !was_killed && started() >= count / 2 {
                was_killed = true;
                daemon.end(Signal::SIGKILL);
                let (begin, until) = (Instant::now(), started() + count / 8);
                eventually("more come while it is dead", || (started() >= until).then_some(()));
                daemon = engine.watched_by(runtime, &[]).expect("a daemon");
                dead = begin.elapsed();
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    println!("{count} containers within {:?}, {looks} looks at one, dead for {dead:?}", begin.elapsed());
    let mut expected: Vec<_> = (count - STAYING..count).map(shaped).collect();
    expected.sort();
    let ended = Instant::now();
    eventually("each is shaped as the rule says, and nothing else is there", || {
        (listed(&daemon) == expected).then_some(())
    });
    println!("all is right {:?} after the last has started", ended.elapsed());
    let of_rule = expected.iter().filter(|(_, effects)| !effects.is_empty()).count();
    eventually("what is gone has no pins", || (engine.pins().len() == of_rule + 1).then_some(()));
    eventually("it is remembered", || (remembered(engine) == of_rule).then_some(()));
    for (name, _) in &expected {
        engine.rm(name).expect("it is there");
    }
    eventually("nothing is listed", || listed(&daemon).is_empty().then_some(()));
    eventually("no pin is left", || (engine.pins() == ["AYA_LOGS"]).then_some(()));
    eventually("nothing is remembered", || (remembered(engine) == 0).then_some(()));
    let rules: Value = serde_json::from_str(&daemon.run("rules --json")).expect("JSON");
    let rule = &rules["rules"][0];
    assert_eq!((&rule["containers"], &rule["problems"]), (&json!([]), &Value::Null), "{rule}");
    for said in ["panic", "a rule cannot be carried out"] {
        assert!(!daemon.log().contains(said), "{}", daemon.log());
    }
    let left = objects(&daemon);
    daemon.end(Signal::SIGKILL);
    let daemon = engine.watched_by(runtime, &[]).expect("a daemon");
    assert!(
        left <= objects(&daemon),
        "{left} programs and maps are open, and {} of a new daemon",
        objects(&daemon)
    );
    let warnings: Vec<_> =
        daemon.log().lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect();
    println!("{} warnings; the last one: {:?}", warnings.len(), warnings.last());
}

/// A container that stays, as the rule has it.
fn shaped(number: usize) -> (String, String) {
    let name = name(number);
    let effects = if name.starts_with("storm-") { "loss 1%" } else { "" };
    (name, effects.to_owned())
}

#[test]
fn a_storm_of_dockers_containers_is_shaped_as_the_rule_says_and_leaves_nothing() {
    needs!(Root, Docker);
    storm(&DockerDaemon::start().expect("Docker"), "docker");
}

#[test]
fn a_storm_of_podmans_containers_is_shaped_as_the_rule_says_and_leaves_nothing() {
    needs!(Root, Podman);
    // It answers at the socket where Docker's would be.
    storm(&DockerDaemon::podman().expect("Podman"), "docker");
}
