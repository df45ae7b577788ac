//! The daemon whose log cannot be written: it does all of its work, and ends when it is told to.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shaper_tests::{
    daemon::{Daemon, program},
    needs,
    probe::Probe,
    scene::PROBE_ID,
    world::World,
};

/// Starts a daemon in a shell that has done `redirection` with its standard error.
fn daemon(world: &World, redirection: &str) -> Daemon {
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{redirection}; exec \"$0\" \"$@\"")).arg(program());
    command.current_dir(world.directory());
    world
        .spawn(command, world.pin_dir(), &["--runtime", "netns", "--log-level", "shaper=trace"])
        .expect("a daemon")
}

/// Has a daemon do all that it logs: requests, bad ones, containers that come, and its end.
fn check_works(redirection: &str) {
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let daemon = daemon(&world, redirection);
    daemon.view("web");
    let probe = Probe::new(world.socket(), PROBE_ID);
    for round in 0..3 {
        let name = format!("later{round}");
        let _later = world.container(&name).expect("a container");
        daemon.view(&name);
        daemon.run(&format!("set {name} --loss 10%"));
        daemon.run("set web --loss 10%");
        let answer = probe.press("web;<container>", "traffic-control-table-explode").expect("an answer");
        assert!(answer.error.is_some(), "that is logged, too");
        daemon.run("clear web");
        assert!(probe.report().expect("a report").node("web").is_some());
    }
    let begin = Instant::now();
    daemon.kill(Signal::SIGTERM);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(!world.socket().exists(), "it came to its end");
}

#[test]
fn a_full_disk_for_the_log_touches_no_work() {
    needs!(Root);
    check_works("exec 2>/dev/full");
}

#[test]
fn a_log_whose_reader_has_gone_touches_no_work() {
    needs!(Root);
    check_works("exec 2> >(:); wait $!");
}

#[test]
fn a_log_that_nobody_reads_touches_no_work() {
    needs!(Root);
    // A pipe takes 64 KiB (pipe(7)).
    check_works("mkfifo log; exec 2<>log; head -c 65536 /dev/zero >&2");
}
