//! Daemons that were started without the host's namespaces, and containers out of sight: not seen is not gone.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use shaper_tests::{
    daemon::{Daemon, eventually, program},
    docker::DockerDaemon,
    needs,
    netns::Netns,
    probe::{Probe, socket_under},
    scene::PROBE_ID,
    traffic::ping,
    world::{Container, World},
};

/// The number of 20 pings from the container that are lost.
fn lost(web: &Container) -> u32 {
    let pings = ping(&web.netns, web.host_address, 20, Duration::from_millis(1), &["-W", "0.2"]);
    let pings = pings.expect("ping works");
    pings.sent - pings.received
}

/// All that can be seen of the devices of the container and of the host, with their classifiers.
fn devices(world: &World, web: &Container) -> String {
    let classifiers = [web.netns.classifiers("eth0"), world.host().classifiers(&web.host_end)].concat();
    [web.netns.traces(), world.host().traces(), classifiers.join("\n")].concat()
}

fn spawn(world: &World, command: Command) -> Daemon {
    world.spawn(command, world.pin_dir(), &["--runtime", "netns"]).expect("it answers nonetheless")
}

/// The daemon, in another pid namespace, whose `/proc` it sees.
fn without_processes(netns: &Netns) -> Command {
    let mut command = netns.command("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(program());
    command
}

fn eventually_intact(daemon: &Daemon, name: &str, number: usize) {
    eventually(&format!("{name} has {number} interfaces that are intact"), || {
        let view = daemon.view(name);
        let interfaces = view["interfaces"].as_array()?;
        let are_intact = interfaces.iter().all(|interface| interface["state"] == "intact");
        (are_intact && interfaces.len() == number).then_some(())
    });
}

#[test]
fn a_daemon_that_does_not_see_the_host_changes_nothing_and_says_how_to_start_it() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let elsewhere = Netns::create(world.directory().join("elsewhere")).expect("a namespace");
    let before = devices(&world, &web);
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100% --direction both");
    daemon.kill(Signal::SIGKILL);
    let shaped = (world.pins(), devices(&world, &web));
    let starts = [
        (without_processes(world.host()), vec!["--pid=host"]),
        (elsewhere.command(program()), vec!["--net=host"]),
        (without_processes(&elsewhere), vec!["--net=host", "--pid=host"]),
    ];
    for (command, missing) in starts {
        let blind = spawn(&world, command);
        blind.view("web");
        let answers = [
            blind.run("list"),
            blind.run("inspect web"),
            blind.complaint("clear web"),
            blind.complaint("set web --loss 1%"),
        ];
        for answer in &answers {
            assert!(answer.contains("not the host of the pins"), "{answer}");
            assert!(missing.iter().all(|option| answer.contains(option)), "{missing:?}: {answer}");
        }
        let report = Probe::new(world.socket(), PROBE_ID).report().expect("a report");
        let rows = report.node("web").expect("it is shown").rows();
        assert!(rows.values().any(|row| row.contains("not the host of the pins")), "{rows:?}");
        blind.kill(Signal::SIGTERM);
        assert_eq!((world.pins(), devices(&world, &web)), shaped, "without {missing:?}");
        assert_eq!(lost(&web), 20);
    }
    let daemon = world.daemon().expect("a daemon");
    eventually_intact(&daemon, "web", 2);
    daemon.run("clear web");
    assert_eq!(devices(&world, &web), before, "{}", daemon.log());
    assert_eq!(lost(&web), 0);
}

#[test]
fn what_a_host_that_has_ended_pinned_is_taken_over() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let before = devices(&world, &web);
    let elsewhere = Netns::create(world.directory().join("elsewhere")).expect("a namespace");
    let first = spawn(&world, elsewhere.command(program()));
    first.view("web");
    first.run("set web --loss 100%");
    first.kill(Signal::SIGKILL);
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    let list = daemon.run("list");
    let record = world.pin_dir().join("host");
    assert!(list.contains(&format!("remove {}", record.display())), "{list}");
    drop(elsewhere);
    eventually_intact(&daemon, "web", 1);
    assert_eq!(lost(&web), 20);
    daemon.run("clear web");
    assert_eq!(devices(&world, &web), before, "{}", daemon.log());
}

/// Has a namespace known by a descriptor only; returns that.
fn hide(netns: &Netns) -> File {
    let descriptor = File::open(netns.path()).expect("it is there");
    umount2(netns.path(), MntFlags::MNT_DETACH).expect("it is mounted");
    // Mount namespaces that others made meanwhile have the mount as well, until its file goes (detach_mounts).
    fs::remove_file(netns.path()).expect("nothing is mounted on it here");
    descriptor
}

fn show(descriptor: &File, path: &Path) {
    File::create_new(path).expect("a file to mount on");
    let source = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("it can be");
}

#[test]
fn a_namespace_that_nothing_shows_is_kept_until_its_veth_has_gone() {
    needs!(Root);
    for ends in [false, true] {
        let world = World::new().expect("a world");
        let web = world.container("web").expect("a container");
        let before = devices(&world, &web);
        let inode = fs::metadata(web.netns.path()).expect("it is there").ino();
        let daemon = world.daemon().expect("a daemon");
        daemon.view("web");
        daemon.run("set web --loss 100% --direction both");
        daemon.kill(Signal::SIGKILL);
        let (pins, shaped) = (world.pins(), devices(&world, &web));
        let descriptor = hide(&web.netns);
        let daemon = world.daemon().expect("a daemon");
        let name = format!("netns-{inode}");
        let unknown = daemon.view(&name);
        assert_eq!(unknown["interfaces"].as_array().expect("a list").len(), 2, "{unknown}");
        for answer in [
            daemon.run("list"),
            daemon.run(&format!("inspect {name}")),
            daemon.complaint(&format!("clear {name}")),
            daemon.complaint("clear --all"),
        ] {
            assert!(answer.contains(&format!("other end of its veth, {}", web.host_end)), "{answer}");
        }
        assert_eq!(world.pins(), pins);
        if ends {
            drop(descriptor);
            eventually("no pins are left", || (world.pins() == ["AYA_LOGS"]).then_some(()));
            assert!(!daemon.run("list").contains(&name));
            continue;
        }
        show(&descriptor, web.netns.path());
        eventually_intact(&daemon, "web", 2);
        assert_eq!(devices(&world, &web), shaped);
        daemon.run("clear web");
        assert_eq!(devices(&world, &web), before, "{}", daemon.log());
    }
}

/// The daemon, on the host of an engine, but in another network namespace.
fn without_network(engine: &DockerDaemon, arguments: &[&str]) -> Daemon {
    let mut command = engine.command("unshare");
    command.arg("--net").arg(program()).args(["serve", "--pin-dir", "/sys/fs/bpf/shaper"]).args(arguments);
    let socket = socket_under(&engine.directory().join("plugins"));
    Daemon::listening_on(socket, command).expect("it answers nonetheless")
}

#[test]
fn another_network_than_the_containers_hosts_is_said_and_neither_is_shaped() {
    needs!(Root, Docker);
    let engine = DockerDaemon::start().expect("dockerd");
    engine.run("web", &[]).expect("a container");
    engine.run("node", &["--network", "host"]).expect("a container");
    let daemon = without_network(&engine, &["--runtime", "docker"]);
    let complaint = eventually("it is listed", || {
        daemon.run("list").contains("web").then(|| daemon.complaint("set web --loss 1%"))
    });
    assert!(
        complaint.contains("cannot see the host's network") && complaint.contains("--net=host"),
        "{complaint}"
    );
    daemon.kill(Signal::SIGTERM);
    // Names alone tell of no engine.
    let daemon = without_network(&engine, &["--runtime", "netns", "--netns-dir", "/run/docker/netns"]);
    let names = eventually("the host and the container are listed", || {
        let listed: serde_json::Value = serde_json::from_str(&daemon.run("list --json")).expect("it is JSON");
        let views = listed.as_array().expect("a list").iter();
        let names: Vec<_> = views.map(|view| view["container"]["name"].clone()).collect();
        (names.len() == 2).then_some(names)
    });
    for name in names {
        let name = name.as_str().expect("text");
        let complaint = daemon.complaint(&format!("set {name} --loss 1%"));
        let reason =
            if name == "default" { "it shares the host's network" } else { "not its host's network" };
        assert!(complaint.contains(reason), "{name}: {complaint}");
    }
}

#[test]
fn a_process_with_the_number_of_a_containers_in_another_namespace_is_not_taken_for_it() {
    needs!(Root, Docker);
    let world = World::new().expect("a world");
    let engine = DockerDaemon::start().expect("dockerd");
    engine.run("web", &[]).expect("a container");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", engine.pid())).arg(program());
    let socket = engine.socket().to_string_lossy().into_owned();
    let runtime = ["--runtime", "docker", "--docker-socket", &socket];
    let daemon = world.spawn(command, world.pin_dir(), &runtime).expect("it answers");
    let view = daemon.view("web");
    assert_eq!(view["interfaces"][0]["state"], "unknown", "{view}");
    let complaint = daemon.complaint("set web --loss 1%");
    assert!(complaint.contains("its processes cannot be seen from here"), "{complaint}");
}
