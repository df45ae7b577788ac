//! Packets to a container, wherever they come from: shaped at its own ingress hook, at the host's end of its veth, or,
//! where they do not pass that end, on a detour in the container.

use std::{fs, net::Ipv4Addr, os::fd::OwnedFd, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually, program},
    ms, needs,
    netns::Netns,
    tcx,
    traffic::{Pings, ping},
    world::{Container, World},
};

/// Two containers whose packets to one another the host forwards.
struct Scene {
    daemon: Daemon,
    web: Container,
    other: Container,
    before: (String, String),
    world: World,
}

impl Scene {
    fn new() -> Self {
        let world = World::new().expect("a world");
        let [web, other] = ["web", "other"].map(|name| world.container(name).expect("a container"));
        world.host().enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("it forwards");
        for container in [&web, &other] {
            let line = format!("ip route add default via {}", container.host_address);
            container.netns.run(&line).expect("a route");
        }
        let before = (web.netns.traces(), world.host().traces());
        let daemon = world.daemon().expect("a daemon");
        daemon.view("web");
        Self { daemon, web, other, before, world }
    }

    /// Twenty pings from the other container.
    fn ping(&self) -> Pings {
        let pings = ping(&self.other.netns, self.web.address, 20, ms(5), &["-W", "1"]);
        pings.expect("ping works")
    }

    fn assert_delayed(&self, by: Duration, case: &str) {
        let pings = self.ping();
        assert_eq!(pings.received, 20, "{case}");
        assert!(pings.mean >= by && pings.mean < by + ms(3), "{case}: {pings:?}");
    }

    /// The device and the hook where `inspect` says that the first interface is shaped.
    fn device(&self) -> String {
        let inspection: Value = serde_json::from_str(&self.daemon.run("inspect web --json")).expect("JSON");
        inspection["details"][0]["device"].as_str().unwrap_or_default().to_owned()
    }

    fn restart(self) -> Self {
        self.daemon.kill(Signal::SIGKILL);
        let daemon = self.world.daemon().expect("another daemon");
        daemon.view("web");
        Self { daemon, ..self }
    }

    fn interfaces(&self) -> Vec<Value> {
        self.daemon.view("web")["interfaces"].as_array().expect("a list").clone()
    }

    fn assert_cleared(&self) {
        self.daemon.run("clear web");
        assert_eq!((self.web.netns.traces(), self.world.host().traces()), self.before);
        assert_eq!(self.world.pins(), ["AYA_LOGS"]);
        assert_eq!(self.web.netns.classifiers("eth0"), [""; 0]);
        assert!(self.ping().mean < ms(3));
    }
}

/// Has packets to the container pass the host's end of its veth, as Cilium's host routing has them, until it is dropped.
fn redirect(scene: &Scene) -> OwnedFd {
    let (from, to) = (&scene.other.host_end, &scene.web.host_end);
    scene.world.host().enter(|| tcx::redirect_to_peer(from, to)).expect("it is attached")
}

#[test]
fn shaping_moves_to_where_a_policy_can_be_carried_out() {
    needs!(Root, Fq);
    for restarts in [false, true] {
        let mut scene = Scene::new();
        let steps = [
            ("--loss 0.00001%", 0, "eth0"),
            ("--latency 30ms", 30, &scene.web.host_end.clone()),
            ("--latency 0ms", 0, &scene.web.host_end.clone()),
            ("--latency 20ms --jitter 1us", 20, &scene.web.host_end.clone()),
        ];
        let mut seen = 0;
        for (effects, delay_ms, device) in steps {
            scene.daemon.run(&format!("set web {effects} --direction ingress"));
            if restarts {
                scene = scene.restart();
            }
            scene.assert_delayed(ms(delay_ms), effects);
            assert_eq!(scene.device(), *device, "{effects}");
            let interfaces = scene.interfaces();
            assert_eq!(interfaces.len(), 1, "{interfaces:?}");
            let counts = ["passed", "delayed"].map(|kind| interfaces[0][kind]["packets"].as_u64());
            let count = counts.into_iter().flatten().sum::<u64>();
            assert_eq!(count, seen + 20, "{effects}: counters go on, and each packet is counted once");
            seen = count;
        }
        scene.assert_cleared();
    }
}

#[test]
fn what_passes_the_hosts_end_is_followed() {
    needs!(Root, Fq);
    if tcx::programs("lo").is_none() {
        println!("no packet that is redirected is counted before Linux 6.8");
        return;
    }
    let mut scene = Scene::new();
    scene.daemon.run("set web --latency 30ms --loss 0.00001% --direction ingress");
    scene.assert_delayed(ms(30), "at the host's end");
    let redirected = redirect(&scene);
    eventually("it moves", || (scene.ping().mean >= ms(30)).then_some(()));
    scene.assert_delayed(ms(30), "on a detour");
    assert!(scene.device().starts_with("shaper"), "{}", scene.device());
    let log = scene.daemon.log();
    for said in [
        "shaping broken: packets reach the container past",
        "shaping moved into the container, where its packets pass",
    ] {
        assert!(log.contains(said), "{log}");
    }
    let interfaces = scene.interfaces();
    assert_eq!((interfaces.len(), &interfaces[0]["state"]), (1, &Value::from("intact")), "{interfaces:?}");
    scene = scene.restart();
    scene.daemon.run("set web --latency 50ms --direction ingress");
    scene.assert_delayed(ms(50), "changed after a restart");
    drop(redirected);
    scene.assert_delayed(ms(50), "whatever way packets take");
    scene.assert_cleared();
}

/// A container whose only way out is a macvlan on a veth of the host's, whose other end is a network's.
struct Macvlan {
    bare: Netns,
    outside: Netns,
    before: String,
    world: World,
}

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 2);

impl Macvlan {
    fn new() -> Self {
        let world = World::new().expect("a world");
        let bare = Netns::create(world.netns_dir().join("bare")).expect("a namespace");
        let outside = Netns::create(world.directory().join("outside")).expect("a namespace");
        let (inner, outer) = (bare.path().display(), outside.path().display());
        for line in [
            &format!("ip link add lower type veth peer name far netns {outer}"),
            "ip link set lower up",
            &format!("ip link add link lower name up0 netns {inner} type macvlan mode bridge"),
        ] {
            world.host().run(line).expect(line);
        }
        for (netns, device, address) in
            [(&bare, "up0", INSIDE), (&outside, "far", Ipv4Addr::new(10, 96, 0, 1))]
        {
            for line in [
                format!("ip link set {device} addrgenmode none"),
                format!("ip addr add {address}/24 dev {device}"),
                format!("ip link set {device} up"),
            ] {
                netns.run(&line).expect(&line);
            }
        }
        let before = bare.traces();
        Self { bare, outside, before, world }
    }

    fn daemon(&self) -> Daemon {
        let daemon = self.world.daemon().expect("a daemon");
        daemon.view("bare");
        daemon
    }

    fn ping(&self) -> Pings {
        ping(&self.outside, INSIDE, 20, ms(5), &["-W", "1"]).expect("ping works")
    }

    fn assert_delayed(&self, by: Duration, case: &str) {
        let pings = self.ping();
        assert_eq!(pings.received, 20, "{case}");
        assert!(pings.mean >= by && pings.mean < by + ms(3), "{case}: {pings:?}");
    }

    fn eventually_unshaped(&self) {
        eventually("all is as it was", || (self.bare.traces() == self.before).then_some(()));
        eventually("no pins are left", || (self.world.pins() == ["AYA_LOGS"]).then_some(()));
        assert_eq!(self.bare.classifiers("up0"), [""; 0]);
        self.assert_delayed(ms(0), "afterwards");
    }
}

#[test]
fn a_detour_comes_and_goes_with_its_delay() {
    needs!(Root, Fq);
    let scene = Macvlan::new();
    let daemon = scene.daemon();
    scene.assert_delayed(ms(0), "before, so that the neighbours are known");
    daemon.run("set bare --latency 30ms --loss 0.00001% --direction both");
    scene.assert_delayed(ms(60), "both directions");
    daemon.run("set bare --latency 10ms --jitter 1us --direction ingress");
    scene.assert_delayed(ms(40), "another program");
    daemon.run("clear bare");
    scene.eventually_unshaped();
    // Its deadline, kept without a daemon, and then what is left of it.
    daemon.run("set bare --latency 30ms --direction ingress --for 2s");
    daemon.kill(Signal::SIGKILL);
    eventually("its time is over", || (scene.ping().mean < ms(3)).then_some(()));
    let _daemon = scene.daemon();
    scene.eventually_unshaped();
}

#[test]
fn what_others_do_to_a_detour_is_said_and_put_right() {
    needs!(Root, Fq);
    let scene = Macvlan::new();
    let mut daemon = scene.daemon();
    let set = "set bare --latency 30ms --direction ingress";
    let first = || {
        let links = scene.bare.run("ip -o link show type veth").expect("ip works");
        let mut names =
            links.split([' ', '@']).filter(|name| name.starts_with("shaper") && name.ends_with('i'));
        names.next().map(str::to_owned)
    };
    let state = |daemon: &Daemon| daemon.view("bare")["interfaces"][0]["state"].clone();

    // No packet is led any more.
    daemon.run(set);
    scene.bare.run("tc filter del dev up0 ingress").expect("it can be removed");
    eventually("it is said", || (state(&daemon) == "broken").then_some(()));
    assert!(daemon.log().contains("packets are no longer led through shaper"), "{}", daemon.log());
    scene.assert_delayed(ms(0), "no packet is lost");
    daemon.run(set);
    scene.assert_delayed(ms(30), "put back");
    assert_eq!(state(&daemon), "intact");

    // Packets are led where nothing is.
    let device = first().expect("there is one");
    scene.bare.run(&format!("ip link del {device}")).expect("it can be removed");
    eventually("packets pass", || (scene.ping().received == 20).then_some(()));
    assert!(daemon.log().contains("somebody removed the device"), "{}", daemon.log());
    scene.eventually_unshaped();

    // The same, and the pins go, while no daemon runs.
    for removes_pins in [false, true] {
        daemon.run(set);
        daemon.kill(Signal::SIGKILL);
        if removes_pins {
            fs::remove_dir_all(scene.world.pin_dir()).expect("they can go");
        } else {
            let device = first().expect("there is one");
            scene.bare.run(&format!("ip link del {device}")).expect("it can be removed");
        }
        daemon = scene.daemon();
        scene.eventually_unshaped();
    }
}

#[test]
fn the_hosts_end_is_what_it_was_whichever_end_leaves() {
    needs!(Root, Fq);
    for (which, is_killed) in [("the host's", false), ("the container's", false), ("the container's", true)] {
        let scene = Scene::new();
        let (host, host_end) = (scene.world.host(), &scene.web.host_end);
        let elsewhere = Netns::create(scene.world.directory().join("elsewhere")).expect("a namespace");
        host.run(&format!("ip link set {host_end} txqueuelen 0")).expect("it can be set");
        scene.daemon.run("set web --latency 1ms --direction ingress");
        let path = elsewhere.path().display().to_string();
        if is_killed {
            scene.daemon.kill(Signal::SIGKILL);
        }
        let (from, name) =
            if which == "the host's" { (host, host_end.as_str()) } else { (&scene.web.netns, "eth0") };
        from.run(&format!("ip link set {name} netns {path} name left")).expect("it can go");
        let _daemon = is_killed.then(|| scene.world.daemon().expect("another daemon"));
        let (now, name) =
            if which == "the host's" { (&elsewhere, "left") } else { (host, host_end.as_str()) };
        eventually("it is what it was", || {
            let link = now.run(&format!("ip link show {name}")).expect("it is there");
            let is_untouched = now.classifiers(name).is_empty() && !link.contains("qdisc fq");
            (is_untouched && !link.contains(" qlen ")).then_some(())
        });
        eventually("no pins are left", || (scene.world.pins() == ["AYA_LOGS"]).then_some(()));
    }
}

#[test]
fn the_hosts_end_that_a_daemon_elsewhere_does_not_see_stays_as_it_is() {
    needs!(Root, Fq);
    let scene = Scene::new();
    scene.daemon.run("set web --latency 30ms --direction ingress");
    scene.daemon.kill(Signal::SIGKILL);
    // As an earlier version would have left it.
    fs::remove_file(scene.world.pin_dir().join("host")).expect("it was recorded");
    let elsewhere = Netns::create(scene.world.directory().join("elsewhere")).expect("a namespace");
    let runtime = ["--runtime", "netns"];
    let blind = scene.world.spawn(elsewhere.command(program()), scene.world.pin_dir(), &runtime);
    let blind = blind.expect("it answers");
    eventually("the host's end is unknown", || {
        blind.run("list").contains("in another network namespace than this daemon").then_some(())
    });
    blind.kill(Signal::SIGTERM);
    let daemon = scene.world.daemon().expect("a daemon of the host");
    eventually("it is adopted", || (daemon.view("web")["interfaces"][0]["state"] == "intact").then_some(()));
    let scene = Scene { daemon, ..scene };
    scene.assert_delayed(ms(30), "adopted");
    scene.assert_cleared();
}
