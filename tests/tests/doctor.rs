//! `shaper doctor` on a host that is as it is, and with faults that a test can make.

use std::process::Command;

use serde_json::Value;
use shaper_tests::{daemon::program, needs, scene::Scene, world::World};

/// `shaper doctor --json` on a world's host.
fn doctor(world: &World, words: &[&str]) -> Command {
    let mut command = world.host().command(program());
    command.arg("doctor").arg("--json").arg("--plugin-socket").arg(world.socket());
    command.args(words);
    command
}

/// The exit code, and the findings.
fn findings(world: &World, words: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = doctor(world, words).output().expect("the program runs");
    let findings = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code(), findings)
}

/// The level and the text of a finding.
fn finding<'a>(findings: &'a [Value], check: &str) -> (&'a str, &'a str) {
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {check}: {findings:?}"));
    (found["level"].as_str().expect("a level"), found["finding"].as_str().expect("a text"))
}

#[test]
fn a_daemon_that_works_is_found_well() {
    needs!(Root);
    let scene = Scene::of(&["web"]).expect("a scene");
    let (code, findings) = findings(&scene.world, &[]);
    assert_eq!(code, Some(0), "{findings:?}");
    for check in ["kernel", "BTF", "bpffs", "daemon", "socket", "privileges", "programs"] {
        assert_eq!(finding(&findings, check).0, "ok", "{findings:?}");
    }
    assert!(finding(&findings, "daemon").1.ends_with("1 containers"), "{findings:?}");
}

#[test]
fn nothing_of_ours_is_taken_for_a_program_of_others_and_theirs_are_named() {
    needs!(Root);
    let scene = Scene::of(&["web"]).expect("a scene");
    let host = scene.world.host();
    scene.daemon.run("set web --loss 1% --direction both");
    let (_, without) = findings(&scene.world, &[]);
    assert_eq!(finding(&without, "programs").1, "nobody else's are on the devices that lead to containers");
    let end = &scene.containers[0].host_end;
    host.run(&format!("tc qdisc replace dev {end} clsact")).expect("the kernel has it");
    let words = format!("filter add dev {end} ingress prio 5 protocol all bpf bytecode");
    let added = host.command("tc").args(words.split(' ')).args(["1,6 0 0 0,", "flowid", "1:1"]).status();
    assert!(added.is_ok_and(|status| status.success()), "the kernel has it");
    let (_, with) = findings(&scene.world, &[]);
    let theirs = format!("a bpf classifier of priority 5 on {end}");
    assert!(finding(&with, "programs").1.ends_with(&theirs), "{with:?}");
}

#[test]
fn without_a_daemon_and_without_bpffs_it_says_what_to_do() {
    needs!(Root);
    let world = World::new().expect("a world");
    let pins = world.directory().join("pins");
    let (code, found) = findings(&world, &["--pin-dir", &pins.to_string_lossy()]);
    assert_eq!(code, Some(1));
    assert_eq!(finding(&found, "bpffs").0, "problem");
    let (level, text) = finding(&found, "daemon");
    assert_eq!(level, "warning");
    assert!(text.starts_with("no daemon listens on "), "{text}");
}

#[test]
fn it_looks_at_what_it_may_without_privileges() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(program()).arg("doctor");
    let nobody = directory.path().join("none.sock");
    let Ok(output) = command.arg("--plugin-socket").arg(nobody).output() else {
        return eprintln!("skipped: this machine has no setpriv");
    };
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(told.contains("\nwarning  hook          not known: "), "{told}");
    assert!(told.contains("-> run `shaper doctor` as root"), "{told}");
    assert!(told.lines().all(|line| line.chars().count() <= 80 || line.contains('/')), "{told}");
}
