//! Pods and containers of a real containerd, by CRI and by its own API, beside real Docker, Podman and named namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use shaper_tests::{
    containerd::{Containerd, Pods},
    daemon::{Daemon, PATIENCE, eventually},
    docker::{DockerDaemon, IMAGE, child_of},
    needs,
    netns::Netns,
    traffic::ping,
};

/// The number of pods that come and go; `SHAPER_PODS` says another.
const PODS: usize = 200;

/// A daemon inside the namespaces of an engine, which watches all that is there.
fn daemon(engine: &DockerDaemon, runtimes: &str) -> Daemon {
    engine.watched_by(runtimes, &[]).expect("a daemon")
}

/// Returns everything that is listed, by name.
fn listed(daemon: &Daemon) -> BTreeMap<String, Value> {
    let list: Value = serde_json::from_str(&daemon.run("list --json")).expect("it is JSON");
    let containers = list.as_array().expect("a list").iter().map(|view| view["container"].clone());
    let by_name: BTreeMap<_, _> =
        containers.map(|one| (one["name"].as_str().expect("text").to_owned(), one)).collect();
    assert_eq!(by_name.len(), list.as_array().map_or(0, Vec::len), "a name twice: {list}");
    by_name
}

/// Waits until these are listed, each with its runtime and state.
fn eventually_listed(daemon: &Daemon, expected: &[[&str; 3]]) {
    let expected: BTreeSet<_> = expected.iter().map(|one| one.map(str::to_owned)).collect();
    let begin = Instant::now();
    loop {
        let text = |one: &Value, field: &str| one[field].as_str().expect("text").to_owned();
        let all = listed(daemon);
        let all = all.iter().map(|(name, one)| [name.clone(), text(one, "runtime"), text(one, "state")]);
        let all: BTreeSet<_> = all.collect();
        if all == expected {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{all:?}\nnot {expected:?}\n{}", daemon.log());
        thread::sleep(Duration::from_millis(5));
    }
    println!("listed after {:?}", begin.elapsed());
}

/// The network namespace of a container that is listed, and the address of its interface.
fn place(engine: &DockerDaemon, one: &Value) -> (Netns, Ipv4Addr) {
    let path = one["netns"]["path"].as_str().expect("it has a network namespace");
    let netns = Netns::at(format!("/proc/{}/root{path}", engine.pid()).into());
    let shown = netns.run("ip -4 -o addr show dev eth0").expect("it has an eth0");
    let address = shown.split("inet ").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    (netns, address.parse().expect("an address"))
}

fn lost(from: &Netns, to: Ipv4Addr) -> u32 {
    let pings = ping(from, to, 10, Duration::from_millis(10), &["-W", "0.2"]).expect("ping works");
    pings.sent - pings.received
}

fn pins(engine: &DockerDaemon) -> Vec<String> {
    engine.pins().into_iter().filter(|name| name.starts_with("netns-")).collect()
}

/// Podman's service beside the engine, where the system's is or a user's.
struct Podman<'a> {
    engine: &'a DockerDaemon,
    socket: String,
    child: Child,
}

impl<'a> Podman<'a> {
    fn start(engine: &'a DockerDaemon, socket: &str) -> Self {
        let place = engine.directory().join(socket.trim_start_matches('/').replace('/', "-"));
        let mut command = engine.command("sh");
        let script = r#"
            mkdir -p "$1/data" "$(dirname "$2")"
            exec podman --root "$1/data" --runroot "$3/run" --tmpdir "$3/tmp" --runtime "$(command -v runc)" \
                --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --network-backend netavark \
                --network-config-dir "$1/networks" system service -t 0 "unix://$2""#;
        // Podman takes short paths only.
        let run = format!("/run/of-{}", socket.len());
        command.args(["-c", script, "podman"]).arg(place).args([socket, &run]);
        let child = command.stdin(Stdio::null()).spawn().expect("a shell");
        let this = Self { engine, socket: socket.to_owned(), child };
        eventually("Podman answers", || this.docker(&["version"]).then_some(()));
        this
    }

    fn docker(&self, arguments: &[&str]) -> bool {
        let mut command = self.engine.command("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket)).args(arguments);
        command.output().is_ok_and(|output| output.status.success())
    }

    /// Starts a container of the engine's image.
    fn run(&self, name: &str) {
        let image = self.engine.directory().join("image.tar").display().to_string();
        assert!(self.docker(&["import", &image, IMAGE]), "import");
        let parent = format!("--cgroup-parent=/{}", self.engine.cgroup());
        let start = ["run", "-d", "--network", "none", "--stop-signal", "KILL", "--name", name, &parent];
        assert!(self.docker(&[&start[..], &[IMAGE, "sleep", "1000000"]].concat()), "run {name}");
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends what `nsenter` runs, and so `nsenter`.
fn end(child: &mut Child) {
    if let Some(pid) = child_of(child.id()).ok().and_then(|pid| pid.try_into().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// A process with a network of its own that no runtime knows, in a control group.
struct Alone(Child);

impl Alone {
    fn start(engine: &DockerDaemon, group: &str) -> Self {
        let mut command = engine.command("unshare");
        let child = command.args(["--net", "sleep", "1000000"]).spawn().expect("unshare of util-linux");
        let pid = eventually("nsenter has started it", || child_of(child.id()).ok());
        // Each hierarchy of version 1, or the only one of version 2: where the engine's containers have theirs.
        let roots = std::fs::read_dir("/sys/fs/cgroup").expect("control groups").flatten();
        let roots = roots.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
        let mut count = 0;
        for of_engine in roots.map(|root| root.join(engine.cgroup())).filter(|group| group.is_dir()) {
            let own = of_engine.join(group);
            std::fs::create_dir(&own).expect("it is not there");
            // That of cpuset needs settings of its own.
            count += usize::from(std::fs::write(own.join("cgroup.procs"), pid.to_string()).is_ok());
        }
        assert!(count > 0, "no control group of the engine");
        Self(child)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

#[test]
fn all_runtimes_are_listed_together_each_as_itself() {
    needs!(Root, Docker, Podman, Containerd);
    let engine = DockerDaemon::start().expect("Docker");
    let containerd = Containerd::start(&engine).expect("containerd");
    let (system, user) = ("/run/podman/podman.sock", "/run/user/0/podman/podman.sock");
    let (of_system, of_user) = (Podman::start(&engine, system), Podman::start(&engine, user));
    let daemon = daemon(&engine, "docker,podman,cri,netns,process");
    eventually_listed(&daemon, &[]);

    engine.run("web", &[]).expect("a container of Docker");
    of_system.run("cache");
    of_user.run("mine");
    let labels = ["nerdctl/name=proxy", "nerdctl/namespace=default", "tier=edge"];
    let proxy = "9f".repeat(32);
    containerd.run("default", &proxy, &labels).expect("a container of nerdctl");
    containerd.run("other", "plain", &[]).expect("a container of containerd");
    let named = engine.command("ip").args(["netns", "add", "blue"]).status().expect("ip works");
    assert!(named.success());
    let alone = Alone::start(&engine, "lxc.payload.alone");
    let pods = containerd.pods().expect("CRI");
    let pod = pods.run("shop", "db-0", &[("app", "db"), ("part", "pod")], false).expect("a pod");
    let id = pods.start(&pod, "postgres", 0, &[("part", "container")]).expect("a container");
    pods.start(&pod, "exporter", 0, &[]).expect("a container");
    let on_host = pods.run("kube-system", "proxy-x", &[], true).expect("a pod on the host's network");
    pods.start(&on_host, "kube-proxy", 0, &[]).expect("a container");
    eventually_listed(
        &daemon,
        &[
            ["web", "docker", "running"],
            ["cache", "podman", "running"],
            ["mine", "podman", "running"],
            ["proxy", "containerd", "running"],
            ["plain", "containerd", "running"],
            ["shop/db-0/postgres", "containerd", "running"],
            ["shop/db-0/exporter", "containerd", "running"],
            ["kube-system/proxy-x/kube-proxy", "containerd", "running"],
            ["blue", "netns", "running"],
            ["alone", "process", "running"],
        ],
    );
    let all = listed(&daemon);
    let postgres = &all["shop/db-0/postgres"];
    assert_eq!(postgres["id"], *id);
    assert_eq!(postgres["image"], "docker.io/library/busybox:local");
    assert_eq!(postgres["labels"], serde_json::json!({ "app": "db", "part": "container" }));
    let known = serde_json::json!({ "namespace": "shop", "name": "db-0", "uid": "uid-of-db-0" });
    assert_eq!(postgres["pod"], known);
    assert_eq!(postgres["netns"]["id"], all["shop/db-0/exporter"]["netns"]["id"]);
    assert_eq!((&all["proxy"]["id"], &all["proxy"]["labels"]["tier"]), (&proxy.into(), &"edge".into()));
    assert_eq!(all["plain"]["id"], "other:plain");

    let refused = daemon.complaint("set kube-system/proxy-x/kube-proxy --loss 10%");
    assert!(refused.contains("kube-system"), "{refused}");
    let refused = daemon.complaint("set kube-system/proxy-x/kube-proxy --loss 10% --force");
    assert!(refused.contains("the host"), "{refused}");
    let status = daemon.run("status");
    for line in ["docker: 1 containers", "netns: ", "podman at /run/podman/podman.sock: 1 containers"] {
        assert!(status.contains(&format!("\n{line}")), "{status}");
    }
    assert!(status.contains("\ncri-o: not watched: none of its sockets is there"), "{status}");
    assert!(status.contains("\ncontainerd: 7 containers"), "three pods' sandboxes and containers: {status}");

    containerd.ctr("other", &["tasks", "pause", "plain"]).expect("it can be paused");
    let begin = Instant::now();
    let is_paused = || listed(&daemon)["plain"]["state"] == "paused";
    while !is_paused() && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let was_paused = is_paused();
    // What is frozen cannot be killed, and would keep the namespaces.
    containerd.ctr("other", &["tasks", "resume", "plain"]).expect("it can go on");
    assert!(was_paused, "{}", daemon.log());
    drop(alone);
    eventually("its end is seen", || (!listed(&daemon).contains_key("alone")).then_some(()));
    drop(of_user);
    eventually("status says which one does not answer", || {
        daemon.run("status").contains(&format!("\npodman at {user}: not watched: ")).then_some(())
    });
    assert!(listed(&daemon).contains_key("mine"), "what was told stays true");
}

#[test]
fn what_shapes_a_pod_outlives_its_containers_and_containerd_and_ends_with_the_pod() {
    needs!(Root, Docker, Containerd);
    let engine = DockerDaemon::start().expect("Docker");
    let mut containerd = Containerd::start(&engine).expect("containerd");
    let daemon = daemon(&engine, "cri,netns");
    let pods = containerd.pods().expect("CRI");
    let pod = pods.run("shop", "web", &[], false).expect("a pod");
    eventually_listed(&daemon, &[["shop/web", "containerd", "running"]]);
    let first = pods.start(&pod, "nginx", 0, &[]).expect("a container");
    eventually_listed(&daemon, &[["shop/web/nginx", "containerd", "running"]]);
    let host = Netns::at(format!("/proc/{}/ns/net", engine.pid()).into());
    let (netns, _) = place(&engine, &listed(&daemon)["shop/web/nginx"]);
    let gateway = Ipv4Addr::new(10, 77, 0, 1);
    assert_eq!(lost(&netns, gateway), 0);
    daemon.run("set shop/web/nginx --loss 100%");
    assert_eq!(lost(&netns, gateway), 10);

    pods.stop(&first).expect("it runs");
    eventually("its end is seen", || (listed(&daemon)["shop/web/nginx"]["state"] == "stopped").then_some(()));
    assert_eq!(lost(&netns, gateway), 10, "the pod is still there");
    let second = pods.start(&pod, "nginx", 1, &[]).expect("a container");
    eventually("the new one is listed in its place", || {
        (listed(&daemon)["shop/web/nginx"]["id"] == *second).then_some(())
    });
    assert_eq!(lost(&netns, gateway), 10);
    daemon.run("set shop/web --loss 0%");
    assert_eq!(lost(&netns, gateway), 0, "the pod's name is that of the pod");
    daemon.run("set shop/web --loss 100%");

    // The socket is another one afterwards, and what happened meanwhile was not told.
    drop(pods);
    containerd
        .restart(|| {
            eventually("its end is seen", || {
                daemon.run("status").contains("\ncontainerd: not watched: ").then_some(())
            })
        })
        .expect("containerd");
    eventually("it is watched again", || daemon.run("status").contains("\ncontainerd: 2").then_some(()));
    assert_eq!(lost(&netns, gateway), 10, "its restart has changed nothing");
    let pods = containerd.pods().expect("CRI");
    let other = pods.run("shop", "db", &[], false).expect("a pod");
    eventually_listed(
        &daemon,
        &[["shop/web/nginx", "containerd", "running"], ["shop/db", "containerd", "running"]],
    );
    let (_, address) = place(&engine, &listed(&daemon)["shop/db"]);
    assert_eq!(lost(&host, address), 0, "another pod is not shaped");
    assert!(!pins(&engine).is_empty());
    pods.remove(&pod).expect("it is there");
    pods.remove(&other).expect("it is there");
    eventually_listed(&daemon, &[]);
    eventually("its pins are gone", || pins(&engine).is_empty().then_some(()));
}

/// The most packets, 10 ms apart, that may pass before a shaping takes hold: ten times as many as without load.
const EARLY: u32 = 20;

#[test]
fn hardly_a_packet_of_a_pod_passes_before_its_annotations_take_hold() {
    needs!(Root, Docker, Containerd);
    let engine = DockerDaemon::start().expect("Docker");
    let containerd = Containerd::start(&engine).expect("containerd");
    let daemon = engine.watched_by("cri,netns", &["--labels"]).expect("a daemon");
    let pods = containerd.pods().expect("CRI");
    let replies = |netns: &Netns| -> u32 {
        let counters = netns.run("cat /proc/net/snmp").expect("it can be read");
        let lines: Vec<_> = counters.lines().filter(|line| line.starts_with("Icmp:")).collect();
        let [names, values] = lines[..] else { panic!("{counters}") };
        let mut pairs = names.split(' ').zip(values.split(' '));
        let (_, count) = pairs.find(|(name, _)| *name == "InEchoReps").expect("a counter");
        count.parse().expect("a number")
    };
    for (name, annotations, expected) in
        [("lossy", &[("shaper.netem", "loss 100%")][..], 0..=EARLY), ("plain", &[], EARLY + 1..=40)]
    {
        let pod = pods.run_annotated("shop", name, annotations).expect("a pod");
        let line = "ping -c 40 -i 0.01 -W 1 10.77.0.1; sleep 1000000";
        pods.start_running(&pod, "nginx", line).expect("a container");
        let view = daemon.view(&format!("shop/{name}/nginx"));
        let (netns, _) = place(&engine, &view["container"]);
        thread::sleep(Duration::from_secs(2));
        let passed = replies(&netns);
        println!("{name}: {passed} of 40 packets passed");
        assert!(expected.contains(&passed), "{name}: {passed}\n{}", daemon.log());
        pods.remove(&pod).expect("it is there");
    }
}

/// Shapes a network of a pod that has an interface more, and says what then loses all packets.
fn shaped_by_network(engine: &DockerDaemon, daemon: &Daemon, pod: &str, network: &str) -> Vec<String> {
    daemon.run(&format!("set {pod} --loss 100% --network {network}"));
    let view = daemon.view(pod);
    let shaped = view["interfaces"].as_array().expect("a list").iter();
    let names = shaped.map(|view| view["interface"].as_str().expect("text").to_owned()).collect();
    let (netns, _) = place(engine, &view["container"]);
    let is_shaped = lost(&netns, Ipv4Addr::new(10, 77, 0, 1)) == 10;
    assert_eq!(is_shaped, names == ["eth0"], "{names:?}");
    daemon.run(&format!("clear {pod}"));
    names
}

#[test]
fn a_network_that_multus_connects_a_pod_to_can_be_chosen() {
    needs!(Root, Docker, Containerd);
    let engine = DockerDaemon::start().expect("Docker");
    let containerd = Containerd::start(&engine).expect("containerd");
    let daemon = daemon(&engine, "cri,netns");
    let pods = containerd.pods().expect("CRI");
    let status = r#"[
        { "name": "pods", "interface": "eth0", "default": true, "dns": {} },
        { "name": "shop/lan", "interface": "net1", "mac": "02:00:00:00:00:01", "dns": {} }
    ]"#;
    let of_multus = |key: &str| format!("k8s.v1.cni.cncf.io/{key}");
    let host = Netns::at(format!("/proc/{}/ns/net", engine.pid()).into());
    let run = |name: &str, annotations: &[(&str, &str)]| {
        pods.run_annotated("shop", name, annotations).expect("a pod");
        let name = format!("shop/{name}");
        let (netns, _) = place(&engine, &daemon.view(&name)["container"]);
        // In the place of Multus.
        let path = netns.path().display();
        host.run(&format!("ip link add type veth peer name net1 netns {path}")).expect("a veth");
        name
    };
    let asked = run("asked", &[(&of_multus("networks"), "lan")]);
    let done = run("done", &[(&of_multus("networks"), "lan"), (&of_multus("network-status"), status)]);
    let hostile = run("hostile", &[(&of_multus("network-status"), r#"[{"name": "a b"}, 7, {"name":"#)]);

    assert_eq!(shaped_by_network(&engine, &daemon, &asked, "lan"), ["net1"]);
    assert_eq!(shaped_by_network(&engine, &daemon, &done, "shop/l*"), ["net1"]);
    assert_eq!(shaped_by_network(&engine, &daemon, &done, "pods"), ["eth0"]);
    let refused = daemon.complaint(&format!("set {done} --loss 1% --network test/lan"));
    let has =
        "it has no interface of network test/lan: it has eth0 of network pods, net1 of network shop/lan";
    assert!(refused.contains(has), "{refused}");
    let refused = daemon.complaint(&format!("set {hostile} --loss 1% --network lan"));
    assert!(refused.contains("no runtime tells which networks"), "{refused}");
}

#[test]
fn pods_that_come_and_go_in_crowds_are_listed_rightly_and_leave_nothing() {
    needs!(Root, Docker, Containerd);
    let engine = DockerDaemon::start().expect("Docker");
    let containerd = Containerd::start(&engine).expect("containerd");
    let count = std::env::var("SHAPER_PODS").map_or(PODS, |count| count.parse().expect("a number"));
    let mut watching = daemon(&engine, "cri,netns");
    let pods = containerd.pods().expect("CRI");
    let begin = Instant::now();
    let mut alive = Vec::new();
    for number in 0..count {
        let name = format!("pod-{number}");
        let pod = pods.run("crowd", &name, &[], false).expect("a pod");
        pods.start(&pod, "main", 0, &[]).expect("a container");
        alive.push((name, pod));
        // One in ten is shaped. Each lasts until ten more have come.
        if number % 10 == 0 {
            let main = format!("crowd/pod-{number}/main");
            eventually("it is listed", || listed(&watching).contains_key(&main).then_some(()));
            watching.run(&format!("set {main} --loss 100%"));
        }
        if alive.len() > 10 {
            remove(&pods, &mut alive, 0);
        }
        if number == count / 2 {
            watching.kill(Signal::SIGKILL);
            watching = daemon(&engine, "cri,netns");
        }
    }
    println!("{count} pods came and {} went within {:?}", count - alive.len(), begin.elapsed());
    let expected: BTreeSet<_> = alive.iter().map(|(name, _)| format!("crowd/{name}/main")).collect();
    eventually("all that is alive is listed, and nothing else", || {
        (listed(&watching).into_keys().collect::<BTreeSet<_>>() == expected).then_some(())
    });
    let shaped = pins(&engine).len();
    let of_ten = alive.iter().filter(|(name, _)| name.ends_with('0')).count();
    assert_eq!(shaped, of_ten, "each of those that are shaped and alive has its pin, and nothing else");
    while !alive.is_empty() {
        remove(&pods, &mut alive, 0);
    }
    eventually("nothing is listed", || listed(&watching).is_empty().then_some(()));
    eventually("no pin is left", || pins(&engine).is_empty().then_some(()));
    assert!(!watching.log().contains("panic"), "{}", watching.log());
}

fn remove(pods: &Pods, alive: &mut Vec<(String, shaper_tests::containerd::Pod)>, index: usize) {
    let (_, pod) = alive.remove(index);
    pods.remove(&pod).expect("it is there");
}
