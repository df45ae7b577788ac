//! Loss, and what attaching, changing and clearing leave behind; on any kernel with clsact.

use std::{collections::BTreeSet, fs, path::PathBuf, thread, time::Duration};

use nix::sys::signal::Signal;
use shaper_tests::{
    daemon::{Daemon, eventually},
    needs,
    statistics::is_binomial,
    traffic::{ping, tcp},
    world::{Container, World},
};

const MILLISECOND: Duration = Duration::from_millis(1);

fn world() -> World {
    World::new().expect("a world")
}

fn shaped_world(container: &str) -> (World, Container, Daemon) {
    let world = world();
    let container = world.container(container).expect("a container");
    let daemon = world.daemon().expect("a daemon");
    daemon.view(&container.name);
    (world, container, daemon)
}

/// Pings that were lost, of `count` from the container to the host.
fn lost_from(world: &World, container: &Container, count: u32) -> u32 {
    let pings = ping(&container.netns, container.host_address, count, MILLISECOND, &["-W", "0.2"])
        .expect("ping works");
    assert_eq!(pings.sent, count, "{}", world.pin_dir().display());
    pings.sent - pings.received
}

/// The network namespaces that the daemon's threads are in.
fn namespaces(daemon: &Daemon) -> BTreeSet<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").flatten();
    // A thread may end while we look.
    threads.filter_map(|thread| fs::read_link(thread.path().join("ns/net")).ok()).collect()
}

#[test]
fn a_loss_is_seen_by_ping_and_by_tcp() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 10%");
    let lost: Vec<_> = (0..2).map(|_| lost_from(&world, &web, 1000)).collect();
    assert!(lost.iter().any(|&lost| is_binomial(lost.into(), 1000, 0.1)), "{lost:?} of 1000 lost at 10 %");
    let transfer =
        tcp(&web.netns, world.host(), web.host_address.into(), Duration::from_secs(1)).expect("it arrives");
    assert!(transfer.retransmits > 0, "TCP noticed nothing: {transfer:?}");
    let view = daemon.view("web");
    assert!(
        view["interfaces"][0]["lost"]["packets"].as_u64().expect("a count") >= u64::from(lost[0] + lost[1])
    );
}

#[test]
fn what_a_container_receives_is_lost() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 100% --direction ingress");
    let pings = ping(world.host(), web.address, 20, MILLISECOND, &["-W", "0.2"]).expect("ping works");
    assert_eq!(pings.received, 0);
    daemon.run("clear web");
    let pings = ping(world.host(), web.address, 20, MILLISECOND, &[]).expect("ping works");
    assert_eq!(pings.received, 20);
}

#[test]
fn clearing_leaves_no_trace() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 1%");
    daemon.run("clear web");
    let (inside, outside) = (web.netns.traces(), world.host().traces());
    for round in 0..10 {
        daemon.run("set web --loss 100% --direction both");
        assert_eq!(world.pins().len(), 3, "two directions and the log ring");
        daemon.run("set web --loss 0.5% --direction both --for 1h");
        daemon.run("clear web");
        assert_eq!(web.netns.traces(), inside, "round {round}");
        assert_eq!(world.host().traces(), outside, "round {round}");
        assert_eq!(world.pins(), ["AYA_LOGS"]);
    }
    assert_eq!(namespaces(&daemon).len(), 1, "no thread stays in the container");
    daemon.kill(Signal::SIGTERM);
    assert!(!world.pin_dir().exists(), "an idle daemon leaves nothing pinned");
    assert!(!world.socket().exists(), "nor its socket");
}

#[test]
fn containers_whose_interfaces_have_the_same_index_are_not_mixed_up() {
    needs!(Root);
    let world = world();
    let (web, db) = (world.container("web").expect("a container"), world.container("db").expect("another"));
    let index = |container: &Container| {
        let link = container.netns.run("ip -o link show eth0").expect("it has one");
        link.split(':').next().expect("a number").to_owned()
    };
    assert_eq!(index(&web), index(&db), "the case this test is about");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.view("db");
    let host = world.host().traces();
    daemon.run("set web --loss 100%");
    assert_eq!(world.host().traces(), host, "egress touches nothing on the host");
    assert_eq!(lost_from(&world, &web, 20), 20);
    assert_eq!(lost_from(&world, &db, 20), 0);
    daemon.run("set db --loss 100%");
    daemon.run("clear web");
    assert_eq!(lost_from(&world, &web, 20), 0);
    assert_eq!(lost_from(&world, &db, 20), 20);
    assert_eq!(daemon.view("web")["interfaces"].as_array().map(Vec::len), Some(0));
}

#[test]
fn every_interface_of_a_container_is_shaped_and_new_ones_join() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 100%");
    let (host, inside) = ("10.98.0.1".parse().expect("an address"), "10.98.0.2".parse().expect("an address"));
    world.add_interface(&web, "lan0", "vlan0", host, inside).expect("another interface");
    daemon.run("set web --for 1h");
    let view = daemon.view("web");
    let names: Vec<_> =
        view["interfaces"].as_array().expect("a list").iter().map(|i| &i["interface"]).collect();
    assert_eq!(names, ["eth0", "lan0"]);
    let pings = ping(&web.netns, host, 20, MILLISECOND, &["-W", "0.2"]).expect("ping works");
    assert_eq!(pings.received, 0);
    web.netns.run("ip link del lan0").expect("it can go");
    daemon.run("set web --for 2h");
    assert_eq!(daemon.view("web")["interfaces"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.pins().len(), 2, "one interface and the log ring");
}

#[test]
fn names_of_one_namespace_share_one_shaping() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    let _sidecar = web.netns.alias(world.netns_dir().join("sidecar")).expect("an alias");
    daemon.view("sidecar");
    daemon.run("set sidecar --loss 100%");
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["loss"], "100%");
    assert_eq!(world.pins().len(), 2, "one shaping and the log ring");
    daemon.run("clear web");
    assert_eq!(daemon.view("sidecar")["interfaces"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_hosts_own_namespace_is_refused() {
    needs!(Root);
    let world = world();
    let _node = world.host().alias(world.netns_dir().join("node")).expect("an alias");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("node");
    let before = world.host().traces();
    for line in ["set node --loss 1%", "set node --latency 10ms --direction both"] {
        let complaint = daemon.complaint(line);
        assert!(complaint.contains("--network host"), "{complaint}");
    }
    assert_eq!(world.host().traces(), before);
}

#[test]
fn a_failure_on_one_interface_leaves_all_as_they_were() {
    needs!(Root);
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let daemon = world.daemon_on_clsact().expect("a daemon");
    daemon.view("web");
    let (host, inside) = ("10.98.1.1".parse().expect("an address"), "10.98.1.2".parse().expect("an address"));
    world.add_interface(&web, "lan0", "vlan0", host, inside).expect("another interface");
    web.netns.run("tc qdisc add dev lan0 ingress").expect("it sits where clsact would");
    let before = web.netns.traces();
    let complaint = daemon.complaint("set web --loss 5%");
    assert!(complaint.contains("lan0") && complaint.contains("tc qdisc del dev lan0 ingress"), "{complaint}");
    assert_eq!(web.netns.traces(), before);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_foreign_root_qdisc_is_kept_and_named() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    web.netns.run("tc qdisc add dev eth0 root handle 7: pfifo limit 77").expect("pfifo is built in");
    let before = web.netns.traces();
    let complaint = daemon.complaint("set web --latency 10ms");
    assert!(complaint.contains("pfifo 7:") && complaint.contains("eth0"), "{complaint}");
    assert_eq!(web.netns.traces(), before);
    daemon.run("set web --loss 100%");
    assert_eq!(lost_from(&world, &web, 20), 20, "loss needs no queue");
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
}

#[test]
fn a_clsact_that_was_there_stays() {
    needs!(Root);
    let (_world, web, daemon) = shaped_world("web");
    web.netns.run("tc qdisc add dev eth0 clsact").expect("clsact is there");
    let before = web.netns.traces();
    daemon.run("set web --loss 1%");
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
}

#[test]
fn a_queue_length_of_nothing_is_given_back() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    // As Docker makes its veths.
    web.netns.run("ip link set eth0 txqueuelen 0").expect("it can be set");
    world.host().run(&format!("ip link set {} txqueuelen 0", web.host_end)).expect("it can be set");
    let (inside, outside) = (web.netns.traces(), world.host().traces());
    daemon.run("set web --loss 1% --direction both");
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), inside);
    assert_eq!(world.host().traces(), outside);
}

#[test]
fn a_missing_fq_is_said_and_leaves_nothing() {
    needs!(Root);
    if shaper_tests::require::met(&[shaper_tests::require::Need::Fq]) {
        eprintln!("skipped: this machine has fq");
        return;
    }
    let (world, web, daemon) = shaped_world("web");
    let before = web.netns.traces();
    let complaint = daemon.complaint("set web --latency 10ms --loss 1%");
    assert!(complaint.contains("modprobe sch_fq"), "{complaint}");
    assert_eq!(web.netns.traces(), before);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
    daemon.run("set web --loss 1%");
    let complaint = daemon.complaint("set web --latency 10ms");
    assert!(complaint.contains("modprobe sch_fq"), "{complaint}");
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["loss"], "1%", "the loss stays");
}

#[test]
fn a_classifier_that_somebody_else_removed_is_attached_again() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 100%");
    web.netns.remove_classifiers("eth0");
    assert_eq!(lost_from(&world, &web, 20), 0);
    daemon.run("set web --loss 100%");
    assert_eq!(lost_from(&world, &web, 20), 20);
}

#[test]
fn shaping_outlives_the_daemon_and_the_next_one_adopts_it() {
    needs!(Root);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let (world, web, daemon) = shaped_world("web");
        let before = web.netns.traces();
        daemon.run("set web --loss 100% --direction both");
        daemon.kill(signal);
        assert_eq!(lost_from(&world, &web, 20), 20, "after {signal}");
        let daemon = world.daemon().expect("another daemon");
        let view = daemon.view("web");
        assert_eq!(view["interfaces"].as_array().map(Vec::len), Some(2), "{}", daemon.log());
        assert!(view["interfaces"][0]["lost"]["packets"].as_u64() >= Some(20), "the counters go on: {view}");
        daemon.run("set web --loss 0% --direction ingress");
        daemon.run("clear web");
        assert_eq!(web.netns.traces(), before);
        assert_eq!(world.pins(), ["AYA_LOGS"]);
        assert_eq!(lost_from(&world, &web, 20), 0);
    }
}

#[test]
fn policies_outlive_the_daemon_too_also_one_that_died_while_it_changed_them() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    let before = web.netns.traces();
    daemon.run("set web --loss 1%");
    let old = world.pins_of(&web, "egress").expect("its pins");
    daemon.words(&["set", "web", "--netem", "loss every 1 seed 7"]);
    daemon.kill(Signal::SIGKILL);
    // Where it was killed when the new program had taken the place of the old one, and its pins not yet.
    let name = old.file_name().and_then(|name| name.to_str()).expect("a name");
    let incomplete = old.with_file_name(format!("new-{name}"));
    fs::rename(&old, &incomplete).expect("it can be renamed");
    fs::create_dir(&old).expect("the old one is there still");
    let daemon = world.daemon().expect("another daemon");
    let view = daemon.view("web");
    assert_eq!(view["interfaces"][0]["shaping"]["netem"], "loss every 1 seed 7", "{}", daemon.log());
    assert!(old.join("program").exists() && !incomplete.exists());
    assert_eq!(lost_from(&world, &web, 20), 20);
    assert!(daemon.view("web")["interfaces"][0]["lost"]["packets"].as_u64() >= Some(20));
    // Where it was killed before that: what was not used is gone.
    daemon.kill(Signal::SIGKILL);
    fs::create_dir(&incomplete).expect("it can be made");
    let daemon = world.daemon().expect("another daemon");
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["netem"], "loss every 1 seed 7");
    assert!(!incomplete.exists());
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_policy_that_cannot_be_had_on_one_interface_leaves_all_as_they_were() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.words(&["set", "web", "--netem", "loss every 1 seed 7", "--direction", "both"]);
    // A foreign root qdisc at the host's end admits no delay there.
    world.host().run(&format!("tc qdisc add dev {} root pfifo", web.host_end)).expect("a qdisc");
    let said = daemon.complaint_about(&["set", "web", "--netem", "delay 10ms 1ms", "--direction", "both"]);
    assert!(said.contains("already has a root qdisc") || said.contains("no fq: modprobe sch_fq"), "{said}");
    let view = daemon.view("web");
    for interface in view["interfaces"].as_array().expect("interfaces") {
        assert_eq!(interface["shaping"]["netem"], "loss every 1 seed 7");
    }
    assert_eq!(lost_from(&world, &web, 20), 20);
    assert!(world.pins().iter().all(|name| !name.starts_with("new-")), "{:?}", world.pins());
}

#[test]
fn shaping_ends_on_time_without_a_daemon() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    let before = web.netns.traces();
    daemon.run("set web --loss 100% --for 3s");
    let begin = std::time::Instant::now();
    daemon.kill(Signal::SIGKILL);
    assert_eq!(lost_from(&world, &web, 20), 20);
    thread::sleep(Duration::from_secs(3).saturating_sub(begin.elapsed()));
    assert_eq!(lost_from(&world, &web, 20), 0);
    let daemon = world.daemon().expect("another daemon");
    eventually("what is over is taken away", || (web.netns.traces() == before).then_some(()));
    assert_eq!(daemon.view("web")["interfaces"].as_array().map(Vec::len), Some(0));
}

#[test]
fn pins_of_a_container_that_went_are_removed() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 1% --direction both");
    drop(web);
    eventually("its pins are gone", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    let gone = world.container("gone").expect("another container");
    daemon.view("gone");
    daemon.run("set gone --loss 1%");
    daemon.kill(Signal::SIGKILL);
    drop(gone);
    let _daemon = world.daemon().expect("another daemon");
    assert_eq!(world.pins(), ["AYA_LOGS"], "it went while nobody looked");
}

#[test]
fn a_directory_outside_bpffs_is_refused_with_advice() {
    needs!(Root);
    let world = world();
    let _web = world.container("web").expect("a container");
    let daemon = world.daemon_pinning_in(&world.netns_dir().join("pins")).expect("it serves nonetheless");
    daemon.view("web");
    let complaint = daemon.complaint("set web --loss 1%");
    assert!(complaint.contains("mount -t bpf -o mode=0700 bpf /sys/fs/bpf"), "{complaint}");
}

#[test]
fn a_daemon_without_permission_says_which_it_needs() {
    needs!(Root);
    let world = world();
    let web = world.container("web").expect("a container");
    let mut command = world.host().command("setpriv");
    command.args([
        "--bounding-set",
        "-bpf,-net_admin,-sys_admin",
        "--inh-caps",
        "-bpf,-net_admin,-sys_admin",
    ]);
    command.arg(shaper_tests::daemon::program());
    let daemon =
        world.spawn(command, world.pin_dir(), &["--runtime", "netns"]).expect("it serves nonetheless");
    daemon.view("web");
    let complaint = daemon.complaint("set web --loss 1%");
    assert!(complaint.contains("permission") && complaint.contains("CAP_"), "{complaint}");
    assert_eq!(lost_from(&world, &web, 20), 0);
}

#[test]
fn two_daemons_do_not_share_pins() {
    needs!(Root);
    let (world, web, daemon) = shaped_world("web");
    daemon.run("set web --loss 100%");
    let other_world = World::new().expect("another world");
    let _db = other_world.container("db").expect("a container");
    let other = other_world.daemon_pinning_in(world.pin_dir()).expect("it serves nonetheless");
    other.view("db");
    let complaint = other.complaint("set db --loss 1%");
    assert!(complaint.contains("another shaper daemon pins in"), "{complaint}");
    other.kill(Signal::SIGTERM);
    assert_eq!(lost_from(&world, &web, 20), 20, "the first one's shaping is untouched");
    assert_eq!(world.pins().first().map(String::as_str), Some("AYA_LOGS"), "and so is its log ring");
    assert_eq!(daemon.view("web")["interfaces"].as_array().map(Vec::len), Some(1));
}
