//! The list of system calls that the daemon may make is enough, and each call on it is made.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, process::Command};

use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{
    containerd::Containerd,
    daemon::{Daemon, program},
    docker::DockerDaemon,
    documents::{docker_run, option, read},
    needs,
    probe::{Probe, socket_under},
    scene::PROBE_ID,
    world::World,
};

/// Calls that this run does not make, and the reason why they may be made elsewhere.
const ELSEWHERE: &[(&str, &str)] = &[
    ("chmod", "the socket of a group"),
    ("clock_gettime", "clocks that the vDSO cannot read, as in some virtual machines"),
    ("epoll_pwait", "the container runtime, by its timing"),
    ("fstatfs", "the container runtime"),
    ("getpeername", "connections to a resolver over TCP"),
    ("getpid", "the end by an abort; the container runtime"),
    ("madvise", "the allocator, by what was freed"),
    ("mremap", "the allocator, by what grew"),
    ("nanosleep", "the container runtime, by its timing"),
    ("recvmsg", "the resolver"),
    ("restart_syscall", "waits that a stop interrupted"),
    ("sched_yield", "threads that contend"),
    ("sendmmsg", "the resolver"),
    ("tgkill", "the end by an abort; the container runtime"),
    ("writev", "answers, by how they are divided"),
];

fn listed() -> BTreeSet<String> {
    let profile: Value = serde_json::from_str(&read("deployments/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let [rule] = profile["syscalls"].as_array().expect("rules").as_slice() else {
        panic!("more than one rule")
    };
    assert_eq!(rule["action"], "SCMP_ACT_ALLOW");
    let names = rule["names"].as_array().expect("names");
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// The names in a log of `strace -f`: `PID name(...`, but not those that are resumed.
fn made(log: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| name.to_owned())
    };
    log.lines().filter_map(name).collect()
}

fn traced(program: &std::path::Path, log: &std::path::Path) -> Vec<String> {
    ["-f", "-qq", "-A", "-s", "0", "-o", &log.to_string_lossy(), &program.to_string_lossy()]
        .map(str::to_owned)
        .to_vec()
}

/// Uses all that the daemon can do without a container runtime.
fn exercise(world: &World, daemon: &Daemon) {
    for command in [
        "set web --loss 10% --for 1h",
        "set web --loss 5% --direction both",
        "set web --netem loss\u{a0}gemodel\u{a0}1%\u{a0}10%",
        "set web --to container:db --loss 3%",
        "set web --to host:localhost --loss 3%",
        "list",
        "inspect web",
        "clear web",
        "set web --loss 1%",
        "set db --loss 1% --keep slow-db",
        "rules remove slow-db",
    ] {
        let words: Vec<_> = command.split(' ').map(|word| word.replace('\u{a0}', " ")).collect();
        daemon.words(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // So large that it is taken apart by a thread of its own.
    let prefixes =
        (0..20_000u32).map(|number| format!("\"{}/28\"", Ipv4Addr::from(0x0a00_0000 + (number << 4))));
    let prefixes = prefixes.collect::<Vec<_>>().join(",");
    let file = world.directory().join("large.json");
    fs::write(&file, format!(r#"{{"target": [{{"to": [{prefixes}], "loss": "1%"}}]}}"#))
        .expect("there is room");
    daemon.words(&["set", "web", "--policy", file.to_str().expect("UTF-8")]);
    daemon.words(&["set", "web", "--netem", "loss 1%"]);
    Probe::new(world.socket(), PROBE_ID).report().expect("a report");
}

#[test]
fn the_daemon_makes_the_system_calls_that_are_listed_and_no_others() {
    needs!(Root, Strace);
    let world = World::new().expect("a world");
    let _containers = ["web", "db"].map(|name| world.container(name).expect("a container"));
    let log = world.directory().join("strace");
    let start = |hook: &[&str]| {
        let mut command = world.host().command("strace");
        command.args(traced(&program(), &log));
        let arguments = [&["--runtime", "netns"], hook].concat();
        let daemon = world.spawn(command, world.pin_dir(), &arguments).expect("it answers");
        daemon.view("web");
        daemon.view("db");
        daemon
    };
    let daemon = start(&[]);
    exercise(&world, &daemon);
    // The commands run beside the daemon, with the same list.
    let status = Command::new("strace")
        .args(traced(&program(), &log))
        .args(["list", "--plugin-socket"])
        .arg(world.socket())
        .status();
    assert!(status.expect("strace runs").success());
    daemon.kill(Signal::SIGTERM);
    let daemon = start(&["--hook", "clsact"]);
    for command in ["clear --all", "set web --loss 1%", "set web --corrupt 1%", "clear web"] {
        daemon.run(command);
    }
    daemon.kill(Signal::SIGTERM);

    let (made, listed) = (made(&fs::read_to_string(&log).expect("a log")), listed());
    let beyond: Vec<_> = made.difference(&listed).collect();
    assert!(beyond.is_empty(), "made, but not on the list: {beyond:?}");
    let elsewhere: BTreeSet<_> = ELSEWHERE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unused: Vec<_> = listed.difference(&made).filter(|name| !elsewhere.contains(*name)).collect();
    assert!(unused.is_empty(), "on the list, but never made: {unused:?}");
}

#[test]
fn watching_runtimes_makes_no_other_system_call() {
    needs!(Root, Strace, Docker, Containerd);
    let engine = DockerDaemon::start().expect("Docker");
    let containerd = Containerd::start(&engine).expect("containerd");
    let log = engine.directory().join("strace");
    let mut command = engine.command("strace");
    command.args(traced(&program(), &log));
    command.args([
        "serve",
        "--runtime",
        "docker,podman,cri,netns,process",
        "--pin-dir",
        "/sys/fs/bpf/shaper",
    ]);
    let socket = socket_under(&engine.directory().join("plugins"));
    let daemon = Daemon::listening_on(socket, command).expect("a daemon");
    let pods = containerd.pods().expect("CRI");
    let pod = pods.run("shop", "db", &[], false).expect("a pod");
    pods.start(&pod, "main", 0, &[]).expect("a container");
    engine.run("web", &[]).expect("a container");
    daemon.view("shop/db/main");
    daemon.view("web");
    daemon.run("set shop/db --loss 1%");
    pods.remove(&pod).expect("it is there");
    drop(daemon);
    let made = made(&fs::read_to_string(&log).expect("a log"));
    assert!(made.contains("connect"), "it has been traced");
    let listed = listed();
    let beyond: Vec<_> = made.difference(&listed).collect();
    assert!(beyond.is_empty(), "made, but not on the list: {beyond:?}");
}

#[test]
fn the_unit_admits_the_same_system_calls_and_capabilities() {
    let unit = read("deployments/shaper.service");
    let all = |key: &str| -> BTreeSet<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    assert_eq!(all("SystemCallFilter"), listed());
    let capabilities = option(&docker_run(), "--cap-add");
    let capabilities = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    assert_eq!(all("CapabilityBoundingSet"), capabilities);
    for (key, value) in
        [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("ReadWritePaths", "/sys/fs/bpf")]
    {
        assert_eq!(all(key), BTreeSet::from([value.to_owned()]), "{key}");
    }
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let help = Command::new(program()).args(start.split(' ').skip(1)).arg("--help").output();
    let help = String::from_utf8(help.expect("the program runs").stdout).expect("text");
    let directory = all("RuntimeDirectory").into_iter().next().expect("a directory");
    assert!(help.contains(&format!("/run/{directory}/traffic-control.sock")), "it listens in its directory");
}
