//! Podman, which answers as Docker does but for some details, and no Docker at all.

use std::{os::unix::net::UnixListener, time::Instant};

use shaper_tests::{
    daemon::{Daemon, eventually, program},
    docker::{DockerDaemon, DockerWorld},
    needs,
    world::World,
};

/// The names, runtimes and states that are listed.
fn listed(world: &DockerWorld) -> Vec<[String; 3]> {
    let list: serde_json::Value = serde_json::from_str(&world.daemon.run("list --json")).expect("it is JSON");
    let of = |view: &serde_json::Value| {
        ["name", "runtime", "state"].map(|field| view["container"][field].as_str().expect("text").to_owned())
    };
    list.as_array().expect("a list").iter().map(of).collect()
}

fn eventually_listed(world: &DockerWorld, state: &str) {
    let expected = [["web", "podman", state].map(str::to_owned)];
    let begin = Instant::now();
    eventually(&format!("{expected:?} is listed, and not {:?}", listed(world)), || {
        (listed(world) == expected).then_some(())
    });
    println!("{state} after {:?}", begin.elapsed());
}

fn interfaces(world: &DockerWorld) -> Vec<String> {
    let view = world.daemon.view("web");
    let interfaces = view["interfaces"].as_array().expect("a list").iter();
    interfaces.map(|view| view["interface"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_container_of_podman_is_listed_once_by_its_runtime_and_seen_to_stop() {
    needs!(Root, Podman);
    let engine = DockerDaemon::podman().expect("Podman");
    let world = DockerWorld::around(engine, "docker,netns").expect("a daemon");
    let docker = |line: &str| world.engine.docker(&line.split(' ').collect::<Vec<_>>()).expect(line);
    docker("network create lan");
    world.engine.run("web", &["--network", "bridge"]).expect("a container");
    eventually_listed(&world, "running");
    world.daemon.run("set web --loss 10%");
    assert_eq!(interfaces(&world), ["eth0"]);
    docker("network connect lan web");
    eventually("a network that is connected later is shaped, too", || {
        (interfaces(&world) == ["eth0", "eth1"]).then_some(())
    });
    docker("stop web");
    eventually_listed(&world, "stopped");
    eventually("its pins are gone", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    docker("start web");
    eventually_listed(&world, "running");
    // Killed behind Podman's back.
    docker("kill web");
    eventually_listed(&world, "stopped");
}

#[test]
fn a_machine_without_a_docker_that_answers_has_one_line_about_it_and_no_warning() {
    needs!(Root);
    let world = World::new().expect("a world");
    let socket = world.directory().join("docker.sock");
    let path = socket.to_str().expect("UTF-8");
    let command = world.host().command(program());
    let daemon = world.spawn(command, world.pin_dir(), &["--docker-socket", path]).expect("a daemon");
    eventually("it says so", || daemon.log().contains("no Docker").then_some(()));
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    let status = daemon.run("status");
    assert!(status.contains("\ndocker: not watched: "), "{status}");
    // A socket that nobody listens on: Docker was there, and does not run.
    drop(UnixListener::bind(&socket).expect("a socket"));
    eventually("it tries again", || daemon.run("status").contains("refused").then_some(()));
    assert_eq!(daemon.log().matches("no Docker").count(), 1, "{}", daemon.log());
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    let dead = socket.to_str().expect("UTF-8");
    let mut named = world.host().command(program());
    named.args(["serve", "--runtime", "docker", "--docker-socket", dead, "--pin-dir"]).arg(world.pin_dir());
    drop(daemon);
    let named = Daemon::listening_on(world.socket(), named).expect("a daemon");
    let warned = || named.log().contains("WARN").then_some(());
    eventually("who asks for Docker by name is warned", warned);
    assert!(named.log().contains("Docker cannot be watched"), "{}", named.log());
}
