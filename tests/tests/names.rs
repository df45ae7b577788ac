//! Targets that name containers and hosts: whatever name servers do, nobody waits for them, and no target loses what it had.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shaper_tests::{
    daemon::{Daemon, eventually, program},
    frame::Spec,
    http::Connection,
    needs,
    subject::{Context, Rig, Subject, TC_ACT_STOLEN},
    world::{Container, World},
};

/// The number of names that are looked up for a large target.
const NAMES: usize = 600;

/// The number of times that one policy is replaced by another while names are followed.
const ROUNDS: u32 = 96;

/// A world whose daemon has its own `/etc/hosts` and `/etc/resolv.conf`.
struct Site {
    web: Container,
    world: World,
}

impl Site {
    fn new() -> Self {
        let world = World::new().expect("a world");
        let web = world.container("web").expect("a container");
        let this = Self { web, world };
        this.write_hosts("");
        fs::write(this.file("resolv"), "nameserver 127.0.0.1\n").expect("it can be written");
        this
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.directory().join(name)
    }

    fn write_hosts(&self, text: &str) {
        fs::write(self.file("hosts"), text).expect("it can be written");
    }

    /// A name server that reads nothing and says nothing.
    fn silent_server(&self) -> UdpSocket {
        self.world.host().enter(|| UdpSocket::bind("127.0.0.1:53").expect("nobody else serves names there"))
    }

    fn daemon(&self) -> Daemon {
        let mut command = self.world.host().command("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-c"]);
        command.arg(
            "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"",
        );
        command.arg(self.file("hosts")).arg(self.file("resolv")).arg(program());
        let daemon =
            self.world.spawn(command, self.world.pin_dir(), &["--runtime", "netns"]).expect("it starts");
        daemon.view("web");
        daemon
    }

    fn loses(&self, destination: &str) -> bool {
        is_lost(&Subject::shaped(&self.world, &self.web, "egress"), destination)
    }
}

/// Tells whether a packet to an address is lost.
fn is_lost(subject: &Subject<'_>, destination: &str) -> bool {
    let destination: IpAddr = destination.parse().unwrap_or_else(|error| panic!("{destination}: {error}"));
    let spec = if destination.is_ipv4() { Spec::udp(20) } else { Spec::udp(20).v6() };
    let frame = Spec { destination, ..spec }.build();
    subject.once(&frame.bytes, &Context::new()).verdict == TC_ACT_STOLEN
}

fn partition(daemon: &Daemon, from: &str, to: &str) {
    daemon.words(&["set", from, "--netem", "partition", "--to", to]);
}

#[test]
fn a_target_follows_a_host_name_to_its_addresses() {
    needs!(Root);
    let site = Site::new();
    site.write_hosts("10.88.0.1 peer.example\n");
    let daemon = site.daemon();
    partition(&daemon, "web", "host:peer.example");
    assert!(site.loses("10.88.0.1"));
    assert!(!site.loses("10.88.0.2"));
    site.write_hosts("10.88.0.2 peer.example\nfd88::2 peer.example\n");
    eventually("it is looked up again", || (site.loses("10.88.0.2") && site.loses("fd88::2")).then_some(()));
    eventually("the old address is no target", || (!site.loses("10.88.0.1")).then_some(()));
    let complaint =
        daemon.complaint_about(&["set", "web", "--netem", "partition", "--to", "host:nobody.example"]);
    assert!(complaint.contains("nobody.example"), "{complaint}");
}

#[test]
fn a_silent_name_server_holds_up_nobody_and_targets_keep_their_addresses() {
    needs!(Root);
    let site = Site::new();
    let _other = site.world.container("other").expect("a container");
    let _server = site.silent_server();
    let (mut hosts, mut rule) = (String::new(), String::new());
    for number in 0..NAMES {
        let _ = writeln!(hosts, "10.88.{}.{} n{number}.test", number / 250, number % 250);
        let _ = write!(rule, "host:n{number}.test ");
    }
    site.write_hosts(&hosts);
    let daemon = site.daemon();
    daemon.view("other");
    partition(&daemon, "web", &rule);
    site.write_hosts("");
    let names = eventually("it is noted that no server answers", || {
        let view = daemon.view("web");
        let names = view["interfaces"][0]["names"].as_array()?.clone();
        names.iter().any(|name| name["problem"] == "no name server answered").then_some(names)
    });
    assert_eq!(names.len(), NAMES);
    for name in names {
        assert_eq!(name["addresses"].as_array().map(Vec::len), Some(1), "{name}");
        assert!(name["age_ms"].as_u64() > Some(0), "{name}");
    }
    assert!(site.loses("10.88.0.1") && site.loses("10.88.2.99"), "they keep their addresses");
    let shown = daemon.run("inspect web");
    assert!(shown.contains("(no name server answered; found "), "{shown}");
    let mut client = Connection::to(&site.world.socket()).expect("it listens");
    for _ in 0..20 {
        let begin = Instant::now();
        put(&mut client, "other", r#"{"loss":"1%"}"#);
        assert!(begin.elapsed() < Duration::from_secs(1), "another container waits for names");
    }
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").count();
    assert!(threads < 64, "{threads} threads");
    let begin = Instant::now();
    daemon.kill(Signal::SIGTERM);
    assert!(begin.elapsed() < Duration::from_secs(1), "its end waits for names: {:?}", begin.elapsed());
}

#[test]
fn a_restarted_daemon_keeps_what_targets_name_until_something_better_is_known() {
    needs!(Root);
    let site = Site::new();
    let db = site.world.container("db").expect("a container");
    let _server = site.silent_server();
    site.write_hosts("10.88.0.1 peer.test\n");
    let daemon = site.daemon();
    daemon.view("db");
    partition(&daemon, "web", "host:peer.test container:db");
    let keeps = || site.loses("10.88.0.1") && site.loses(&db.address.to_string());
    assert!(keeps());
    daemon.kill(Signal::SIGKILL);
    site.write_hosts("");
    let daemon = site.daemon();
    assert!(keeps(), "nothing better is known");
    eventually("it has asked the silent server", || {
        assert!(keeps(), "nothing better is known");
        daemon.run("inspect web").contains("no name server answered").then_some(())
    });
    assert!(keeps(), "nothing better is known");
    site.write_hosts("10.88.0.9 peer.test\n");
    eventually("something better is known", || {
        (site.loses("10.88.0.9") && !site.loses("10.88.0.1")).then_some(())
    });
}

#[test]
fn a_target_whose_container_has_gone_is_shown_and_logged() {
    needs!(Root);
    let rig = Rig::new();
    let db = rig.world.container("db").expect("a container");
    let address = db.address.to_string();
    rig.daemon.view("db");
    partition(&rig.daemon, "web", "container:db");
    assert!(is_lost(&rig.shaped("egress"), &address));
    drop(db);
    eventually("it is shown", || {
        rig.daemon
            .run("inspect web")
            .contains("container:db, without addresses: it matches no packet")
            .then_some(())
    });
    eventually("its address is no target", || (!is_lost(&rig.shaped("egress"), &address)).then_some(()));
    let log = rig.daemon.log();
    let lines = log.lines().filter(|line| line.contains("a target has no addresses"));
    assert_eq!(lines.count(), 1, "{log}");
}

#[test]
fn a_policy_never_gets_the_addresses_of_the_one_before_it() {
    needs!(Root);
    let rig = Rig::new();
    let [one, two] = ["one", "two"].map(|name| rig.world.container(name).expect("a container"));
    let [address_of_one, address_of_two] = [&one, &two].map(|container| container.address.to_string());
    for name in ["one", "two"] {
        rig.daemon.view(name);
    }
    let body = |name: &str| {
        format!(r#"{{"policy":{{"target":[{{"to":"container:{name}","netem":"partition"}}]}}}}"#)
    };
    let mut client = Connection::to(&rig.world.socket()).expect("it listens");
    for round in 0..ROUNDS {
        put(&mut client, "web", &body("one"));
        // The daemon looks names up when a container appears, and then has the policy follow them.
        let appears = rig.web.netns.alias(rig.world.netns_dir().join(format!("again-{round}")));
        let _appears = appears.expect("it can be made");
        let begin = Instant::now();
        // So that the next policy meets each part of that.
        while begin.elapsed() < Duration::from_micros(500) * (round % 24) {
            std::hint::spin_loop();
        }
        put(&mut client, "web", &body("two"));
        let subject = rig.shaped("egress");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {
            assert!(is_lost(&subject, &address_of_two), "round {round}");
            assert!(!is_lost(&subject, &address_of_one), "round {round}");
        }
    }
}

#[test]
fn more_interfaces_than_can_be_shaped_are_refused_with_their_number() {
    needs!(Root);
    let rig = Rig::new();
    rig.world.add_links(&rig.web, 128).expect("they can be made");
    let complaint = rig.daemon.complaint("set web --loss 1%");
    assert!(complaint.contains("129") && complaint.contains("at most 128"), "{complaint}");
    assert!(complaint.contains("--interface"), "{complaint}");
    rig.daemon.run("set web --loss 1% --interface eth0");
}

fn put(client: &mut Connection, container: &str, body: &str) {
    let length = body.len();
    let request = format!(
        "PATCH /api/v1/containers/{container}/shaping HTTP/1.1\r\nHost: plugin\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let answer = client.ask(request.as_bytes()).expect("it answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}
