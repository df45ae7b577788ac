//! Tests of the two hooks that programs can be put on: TCX, which Linux has from 6.6 on, and clsact.

use std::{
    net::UdpSocket,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use shaper_tests::{
    daemon::{Daemon, eventually},
    needs, tcx,
    traffic::ping,
    world::{Container, World},
};

fn world_of_web() -> (World, Container) {
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    (world, web)
}

/// Returns the number of 20 pings from the container that are lost.
fn lost(web: &Container) -> u32 {
    let pings = ping(&web.netns, web.host_address, 20, Duration::from_millis(1), &["-W", "0.2"]);
    let pings = pings.expect("ping works");
    pings.sent - pings.received
}

/// Returns the hook that `inspect` names.
fn hook(daemon: &Daemon) -> String {
    let inspection = daemon.run("inspect web --json");
    let inspection: serde_json::Value = serde_json::from_str(&inspection).expect("it is JSON");
    inspection["details"][0]["hook"].as_str().expect("it is named").to_owned()
}

#[test]
fn a_loss_is_silent_on_either_hook() {
    needs!(Root);
    for clsact in [false, true] {
        let (world, web) = world_of_web();
        let before = web.netns.traces();
        let daemon = if clsact { world.daemon_on_clsact() } else { world.daemon() }.expect("a daemon");
        daemon.view("web");
        daemon.run("set web --loss 100%");
        let sender = web.netns.enter(|| UdpSocket::bind((web.address, 0))).expect("a socket");
        for _ in 0..100 {
            let sent = sender.send_to(&[0; 100], (web.host_address, 9));
            assert_eq!(sent.expect("the sender is told nothing"), 100);
        }
        daemon.run("set web --loss 100% --corrupt 50%");
        assert_eq!(lost(&web), 20, "by the program for policies, too");
        daemon.run("clear web");
        assert_eq!(web.netns.traces(), before);
        assert_eq!(lost(&web), 0);
    }
}

#[test]
fn what_was_put_under_clsact_is_adopted_as_it_is_and_the_next_shaping_is_on_tcx() {
    needs!(Root, Tcx);
    for line in ["set web --loss 100%", "set web --loss 100% --corrupt 50%"] {
        let (world, web) = world_of_web();
        let before = web.netns.traces();
        let daemon = world.daemon_on_clsact().expect("a daemon");
        daemon.view("web");
        daemon.run(line);
        daemon.kill(Signal::SIGKILL);
        let daemon = world.daemon().expect("another daemon");
        daemon.view("web");
        assert_eq!((hook(&daemon).as_str(), lost(&web)), ("clsact", 20));
        daemon.run("set web --corrupt 10%");
        assert_eq!((hook(&daemon).as_str(), lost(&web)), ("clsact", 20), "another program in its place");
        web.netns.remove_classifiers("eth0");
        daemon.run("set web --for 1h");
        assert_eq!((hook(&daemon).as_str(), lost(&web)), ("clsact", 20), "put back where it was");
        daemon.run("clear web");
        assert_eq!(web.netns.traces(), before);
        daemon.run("set web --loss 100%");
        assert_eq!((hook(&daemon).as_str(), lost(&web)), ("tcx", 20));
        assert_eq!(web.netns.classifiers("eth0").len(), 1);
        daemon.run("clear web");
        assert_eq!(web.netns.traces(), before);
    }
}

#[test]
fn programs_of_others_stay_and_run_after_ours() {
    needs!(Root, Tcx);
    let (world, web) = world_of_web();
    let _theirs = web.netns.enter(|| tcx::pass_everything("eth0")).expect("it is attached");
    let before = web.netns.traces();
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 100%");
    assert_eq!((lost(&web), web.netns.classifiers("eth0").len()), (20, 2));
    daemon.run("clear web");
    assert_eq!((lost(&web), web.netns.traces()), (0, before));
}

#[test]
fn a_queue_whose_program_and_pins_somebody_removed_is_taken_off_by_the_next_clear() {
    needs!(Root, Fq);
    let (world, web) = world_of_web();
    let before = web.netns.traces();
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --latency 10ms");
    let pins = world.pins_of(&web, "egress").expect("its pins");
    daemon.kill(Signal::SIGKILL);
    std::fs::remove_dir_all(pins).expect("anybody may");
    web.netns.remove_classifiers("eth0");
    let daemon = world.daemon().expect("another daemon");
    daemon.view("web");
    let _ = daemon.shaper("clear web").output();
    assert_eq!(web.netns.traces(), before, "{}", daemon.log());
}

#[test]
fn what_the_manual_removes_without_a_daemon_leaves_nothing() {
    needs!(Root, Fq);
    let manual = include_str!("../../docs/operations.md");
    let (_, script) = manual.split_once("```sh\nfor netns in ").expect("it has the script");
    let (script, _) = script.split_once("```").expect("the script ends");
    let (everywhere, script) = script.split_once("; do").expect("a loop");
    assert!(everywhere.contains("lsns") && everywhere.contains("/run/netns"), "{everywhere}");
    for clsact in [false, true] {
        let (world, web) = world_of_web();
        let before = (web.netns.traces(), world.host().traces());
        let daemon = if clsact { world.daemon_on_clsact() } else { world.daemon() }.expect("a daemon");
        daemon.view("web");
        daemon.run("set web --latency 10ms --direction both");
        daemon.run("set web --loss 1% --corrupt 1%");
        daemon.kill(Signal::SIGKILL);
        let (inside, outside) = (web.netns.path().display(), world.host().path().display());
        let script = script.replace("/sys/fs/bpf/shaper", &world.pin_dir().display().to_string());
        let script = format!("for netns in {inside} {outside}; do{script}");
        let done = Command::new("sh").args(["-c", &script]).status().expect("there is a shell");
        assert!(done.success());
        // The kernel ends a link some time after its last pin.
        eventually("nothing is left", || {
            ((web.netns.traces(), world.host().traces()) == before).then_some(())
        });
        assert_eq!(world.pins(), [""; 0]);
    }
}

#[test]
fn no_packet_is_lost_while_programs_come_change_and_go_on_tcx() {
    needs!(Root, Tcx);
    let (world, web) = world_of_web();
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    let receiver = world.host().enter(|| UdpSocket::bind((web.host_address, 0))).expect("a socket");
    nix::sys::socket::setsockopt(&receiver, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20))
        .expect("root may");
    receiver.set_read_timeout(Some(Duration::from_secs(1))).expect("it can be set");
    let to = receiver.local_addr().expect("it is bound");
    let sender = web.netns.enter(|| UdpSocket::bind((web.address, 0))).expect("a socket");
    sender.connect(to).expect("it can be reached");
    let goes_on = AtomicBool::new(true);
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0_u32;
            while goes_on.load(Ordering::Relaxed) {
                sent += u32::from(sender.send(&[0; 64]).is_ok());
                // So many that each change meets some, and so few that they leave the daemon its time.
                if sent.is_multiple_of(16) {
                    thread::sleep(Duration::from_micros(200));
                }
            }
            sent
        });
        let receiving = scope.spawn(|| {
            let mut bytes = [0; 100];
            let mut received = 0;
            loop {
                // A busy machine may keep the sender from sending for longer than that.
                match receiver.recv(&mut bytes) {
                    Ok(_) => received += 1,
                    Err(_) if goes_on.load(Ordering::Relaxed) => {}
                    Err(_) => break received,
                }
            }
        });
        for _ in 0..10 {
            // What goes elsewhere is lost; nothing does.
            daemon.run("set web --loss 100% --to 10.255.0.0/16");
            daemon.run("set web --loss 50% --to 10.255.0.0/16");
            daemon.run("clear web");
        }
        goes_on.store(false, Ordering::Relaxed);
        (sending.join().expect("it does not panic"), receiving.join().expect("it does not panic"))
    });
    println!("{sent} packets in 30 changes");
    assert!(sent > 1_000, "too few to tell: {sent}");
    assert_eq!(received, sent);
}
