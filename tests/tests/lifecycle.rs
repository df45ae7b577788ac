//! Nothing of ours stays that nobody knows, and nothing ends because somebody could not look: daemons that come and go.

use std::{fs, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually, program},
    needs,
    probe::Probe,
    traffic::ping,
    world::{Container, World},
};

/// Returns the number of 20 pings from the container that are lost.
fn lost(web: &Container) -> u32 {
    let pings = ping(&web.netns, web.host_address, 20, Duration::from_millis(1), &["-W", "0.2"]);
    let pings = pings.expect("ping works");
    pings.sent - pings.received
}

/// Returns the number of classifiers on the container's `eth0`.
fn classifiers(web: &Container) -> usize {
    web.netns.classifiers("eth0").len()
}

fn remove_pins(world: &World) {
    for name in world.pins() {
        let path = world.pin_dir().join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("a pin can be removed");
    }
}

fn wait_for_interfaces(daemon: &Daemon, name: &str, number: usize) -> Vec<Value> {
    eventually(&format!("{name} has {number} shaped interfaces"), || {
        let interfaces = daemon.view(name)["interfaces"].as_array()?.clone();
        (interfaces.len() == number).then_some(interfaces)
    })
}

#[test]
fn shaping_whose_pins_were_removed_is_taken_over_and_can_be_cleared() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let before = (web.netns.traces(), world.host().traces());
    let daemon = world.daemon_on_clsact().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100% --direction both");
    daemon.kill(Signal::SIGKILL);
    remove_pins(&world);
    let daemon = world.daemon().expect("another daemon");
    for interface in wait_for_interfaces(&daemon, "web", 2) {
        assert_eq!(interface["shaping"]["netem"], "loss 100%", "{interface}");
    }
    assert_eq!(lost(&web), 20);
    daemon.run("set web --for 1h");
    assert_eq!(classifiers(&web), 2, "one for each direction");
    daemon.run("clear web");
    assert_eq!(lost(&web), 0);
    assert_eq!((web.netns.traces(), world.host().traces()), before, "{}", daemon.log());
}

#[test]
fn no_second_classifier_of_ours_stays_beside_one_or_after_a_clear() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let before = web.netns.traces();
    let elsewhere = World::new().expect("a directory for other pins");
    let first = world.daemon_pinning_in(elsewhere.pin_dir()).expect("a daemon");
    first.view("web");
    first.run("set web --loss 100%");
    first.kill(Signal::SIGKILL);
    let second = world.daemon().expect("a daemon that pins elsewhere");
    second.view("web");
    assert_eq!(wait_for_interfaces(&second, "web", 0).len(), 0, "another daemon's is left alone");
    assert_eq!(lost(&web), 20);
    second.run("set web --loss 0% --for 1h");
    assert_eq!((lost(&web), classifiers(&web)), (0, 0), "nothing is left to be done");
    second.run("set web --loss 1%");
    second.kill(Signal::SIGKILL);
    let third = world.daemon_pinning_in(elsewhere.pin_dir()).expect("a daemon");
    third.view("web");
    third.run("clear web");
    assert_eq!(web.netns.traces(), before, "{}", third.log());
}

#[test]
fn a_lack_of_descriptors_at_a_restart_ends_no_shaping() {
    needs!(Root);
    const CONTAINERS: usize = 40;
    let world = World::new().expect("a world");
    let crowd = world.crowd(CONTAINERS).expect("containers");
    let daemon = world.daemon().expect("a daemon");
    for number in 0..CONTAINERS {
        daemon.view(&format!("c{number}"));
        daemon.run(&format!("set c{number} --loss 100% --direction both"));
    }
    daemon.kill(Signal::SIGKILL);
    let pins = world.pins();
    let mut command = world.host().command("prlimit");
    command.arg("--nofile=64:64").arg(program());
    let scarce = world.spawn(command, world.pin_dir(), &["--runtime", "netns"]);
    let scarce = scarce.expect("it answers nonetheless");
    assert_eq!(world.pins(), pins);
    let states = |daemon: &Daemon| -> Vec<String> {
        let of = |number| wait_for_interfaces(daemon, &format!("c{number}"), 2);
        let interfaces = (0..CONTAINERS).flat_map(of);
        interfaces.map(|interface| interface["state"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert!(states(&scarce).iter().any(|state| state == "unknown"), "{}", scarce.log());
    assert!(scarce.run("list").contains("Too many open files"), "{}", scarce.run("list"));
    scarce.kill(Signal::SIGKILL);
    let daemon = world.daemon().expect("a daemon");
    assert!(states(&daemon).iter().all(|state| state == "intact"), "{}", daemon.log());
    assert_eq!(world.pins(), pins);
    drop(crowd);
}

#[test]
fn a_daemon_before_its_bpffs_knows_nothing_of_what_is_pinned_and_says_so() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let before = web.netns.traces();
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100%");
    daemon.kill(Signal::SIGKILL);
    let mut command = world.host().command("unshare");
    let hide = "mount -t tmpfs tmpfs /sys/fs/bpf && exec \"$@\"";
    command.args(["--mount", "--propagation", "slave", "sh", "-c", hide, "sh"]).arg(program());
    let early = world.spawn(command, world.pin_dir(), &["--runtime", "netns"]);
    let early = early.expect("it answers nonetheless");
    let unknown = wait_for_interfaces(&early, "web", 1).remove(0);
    assert_eq!(unknown["state"], "unknown");
    for line in ["list", "inspect web"] {
        assert!(early.run(line).contains("unknown: no bpffs is mounted at"), "{}", early.run(line));
    }
    assert!(!early.shaper("status").output().expect("it runs").status.success());
    let pid = early.pid().to_string();
    let shown = Command::new("nsenter").args(["-t", &pid, "--mount", "umount", "/sys/fs/bpf"]).status();
    assert!(shown.expect("nsenter runs").success());
    eventually("it takes over", || (early.view("web")["interfaces"][0]["state"] == "intact").then_some(()));
    assert_eq!(lost(&web), 20);
    early.run("clear web");
    assert_eq!(web.netns.traces(), before, "{}", early.log());
}

#[test]
fn a_daemon_that_could_not_begin_says_so_and_begins_by_itself() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let first = world.daemon().expect("a daemon");
    first.view("web");
    first.run("set web --loss 100%");
    let own = World::new().expect("a directory for another socket");
    let mut command = world.host().command(program());
    command.arg("serve").arg("--pin-dir").arg(world.pin_dir()).arg("--netns-dir").arg(world.netns_dir());
    command.args(["--runtime", "netns"]);
    let second = Daemon::listening_on(own.socket(), command).expect("it answers nonetheless");
    let unknown = wait_for_interfaces(&second, "web", 1).remove(0);
    assert_eq!(unknown["state"], "unknown");
    for line in ["list", "inspect web"] {
        assert!(second.run(line).contains("unknown: another shaper daemon pins in"), "{}", second.run(line));
    }
    let report = Probe::new(own.socket(), "1f9e").report().expect("Scope takes it");
    let described = &report.plugins[0].description;
    assert!(described.contains("Z: another shaper daemon pins in"), "{described}");
    let status = second.shaper("status").output().expect("it runs");
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert_eq!(status.status.code(), Some(1), "a readiness probe fails");
    assert!(said.starts_with("error: nothing can be shaped since "), "{said}");
    assert!(said.contains("Z: another shaper daemon pins in"), "{said}");
    second.run("status --live");
    first.kill(Signal::SIGKILL);
    eventually("it takes over", || (second.view("web")["interfaces"][0]["state"] == "intact").then_some(()));
    let status = second.run("status");
    assert!(
        status.contains(": 1 containers, 1 shaped, 0 broken, 0 unknown\nnetns: 1 containers\n"),
        "{status}"
    );
    assert_eq!(lost(&web), 20);
    second.run("clear web");
    assert_eq!(lost(&web), 0);
}
