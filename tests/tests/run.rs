//! `shaper run`: the container is shaped while the command runs, and afterwards it is as it was.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use shaper_tests::{daemon::eventually, needs, scene::Scene};

/// The time after which the shaping ends by itself.
const LIFETIME: Duration = Duration::from_secs(10);

fn scene() -> Scene {
    Scene::of(&["web"]).expect("a scene")
}

/// `shaper run web` with these words.
fn command(scene: &Scene, words: &[&str]) -> Command {
    scene.daemon.command(&[&["run", "web"], words].concat())
}

/// A command that is running, and ends at a line of its input or when that is closed.
struct Running(Child);

impl Running {
    fn start(scene: &Scene, words: &[&str], script: &str) -> Self {
        let mut command = command(scene, &[words, &["--", "sh", "-c", script]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("the program runs"))
    }

    /// The first line that the command writes.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let out = self.0.stdout.take().expect("it was not taken before");
        BufReader::new(out).read_line(&mut line).expect("it writes one");
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("it runs");
    }

    /// Lets the command go on, and returns the exit code, what it wrote, and what was complained of.
    fn finish(mut self) -> (Option<i32>, String, String) {
        if let Some(mut input) = self.0.stdin.take() {
            // It may have ended.
            let _ = input.write_all(b"\n");
        }
        let output = self.0.wait_with_output().expect("it ends");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

/// The loss of what the container sends, and the rest of its time in milliseconds.
fn loss(scene: &Scene) -> Option<(String, Option<u64>)> {
    let view = scene.daemon.view("web");
    let interfaces = view["interfaces"].as_array().expect("a list").clone();
    let egress = interfaces.into_iter().find(|interface| interface["direction"] == "egress")?;
    Some((egress["shaping"]["loss"].as_str()?.to_owned(), egress["remaining_ms"].as_u64()))
}

fn until_lossy(scene: &Scene, share: &str) {
    eventually(&format!("{share} are lost"), || loss(scene).filter(|(loss, _)| loss == share));
}

#[test]
fn a_container_is_shaped_while_the_command_runs_and_the_exit_code_is_the_commands() {
    needs!(Root);
    let scene = scene();
    let running = Running::start(&scene, &["--loss", "30%"], "echo begun; read line; echo over; exit 7");
    until_lossy(&scene, "30%");
    // The lifetime becomes longer again while it runs.
    let left = || loss(&scene).and_then(|(_, left)| left).expect("it has a lifetime");
    let mut last = left();
    eventually("the lifetime was renewed", || {
        let now = left();
        let is_renewed = now > last;
        last = now;
        is_renewed.then_some(())
    });
    assert!(last <= 10_000, "{last}");
    assert_eq!(running.finish(), (Some(7), "begun\nover\n".to_owned(), String::new()));
    assert_eq!(loss(&scene), None);
    assert_eq!(scene.world.pins(), ["AYA_LOGS"]);
}

#[test]
fn what_shaped_a_container_before_is_put_back_with_what_is_left_of_its_time() {
    needs!(Root);
    let scene = scene();
    scene.daemon.run("set web --loss 1% --for 1h");
    scene.daemon.run("set web --loss 2% --direction ingress");
    let running = Running::start(&scene, &["--loss", "30%"], "read line; sleep 1");
    until_lossy(&scene, "30%");
    assert_eq!(running.finish().0, Some(0));
    let (egress, left) = loss(&scene).expect("it is shaped");
    assert_eq!(egress, "1%");
    assert!((3_500_000..=3_599_000).contains(&left.expect("a deadline")), "{left:?}");
    let ingress = scene.daemon.view("web")["interfaces"][1].clone();
    assert_eq!((&ingress["direction"], &ingress["shaping"]["loss"]), (&"ingress".into(), &"2%".into()));
    assert_eq!(ingress["remaining_ms"], Value::Null);
}

#[test]
fn a_rule_is_carried_out_again_afterwards() {
    needs!(Root);
    let scene = scene();
    scene.daemon.run("set web --loss 1% --keep lossy");
    let is_ruled = || (scene.daemon.view("web")["rule"] == "lossy").then_some(());
    eventually("the rule is carried out", is_ruled);
    let running = Running::start(&scene, &["--loss", "30%"], "read line");
    until_lossy(&scene, "30%");
    assert_eq!(running.finish().0, Some(0));
    eventually("the rule is carried out again", is_ruled);
    until_lossy(&scene, "1%");
}

#[test]
fn a_signal_reaches_the_command_and_the_shaping_ends() {
    needs!(Root);
    let scene = scene();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let script = "trap 'exit 3' TERM INT HUP; echo ready; while :; do sleep 0.1; done";
        let mut running = Running::start(&scene, &["--loss", "30%"], script);
        assert_eq!(running.line(), "ready\n");
        until_lossy(&scene, "30%");
        running.signal(signal);
        let (code, _, complaints) = running.finish();
        assert_eq!((code, &*complaints), (Some(3), ""), "{signal}");
        assert_eq!(loss(&scene), None, "{signal}");
    }
}

#[test]
fn the_shaping_ends_with_a_command_that_is_killed_or_cannot_be_run() {
    needs!(Root);
    let scene = scene();
    let run = |words: &[&str]| {
        let output = command(&scene, &[&["--loss", "30%", "--"], words].concat()).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]), (Some(137), String::new()));
    assert_eq!(loss(&scene), None);
    let (code, complaints) = run(&["/nowhere/nothing"]);
    assert_eq!(code, Some(127));
    assert!(complaints.starts_with("error: run /nowhere/nothing: No such file"), "{complaints}");
    assert_eq!(run(&["/"]).0, Some(126));
    assert_eq!(loss(&scene), None);
}

#[test]
fn the_kernel_ends_the_shaping_when_shaper_is_killed() {
    needs!(Root);
    let scene = scene();
    let running = Running::start(&scene, &["--loss", "30%"], "read line");
    until_lossy(&scene, "30%");
    running.signal(Signal::SIGKILL);
    let begin = Instant::now();
    eventually("it is over", || loss(&scene).is_none().then_some(()));
    // The daemon looks once a second for what is over.
    assert!(begin.elapsed() < LIFETIME + Duration::from_secs(3), "{:?}", begin.elapsed());
    running.finish();
}

#[test]
fn a_container_that_loses_its_shaping_meanwhile_is_told_once_and_the_command_goes_on() {
    needs!(Root);
    let scene = scene();
    let mut running = Running::start(&scene, &["--loss", "30%"], "read line; exit 7");
    until_lossy(&scene, "30%");
    scene.daemon.run("clear web");
    let mut told = String::new();
    let complaints = running.0.stderr.take().expect("it was not taken before");
    BufReader::new(complaints).read_line(&mut told).expect("it is told");
    assert_eq!(told, "warning: web (web) is no longer shaped: it has restarted, or was cleared\n");
    assert_eq!(running.finish().0, Some(7));
    assert_eq!(loss(&scene), None);
}

#[test]
fn without_the_daemon_the_command_goes_on_and_what_cannot_be_put_back_is_told() {
    needs!(Root);
    let mut scene = scene();
    scene.daemon.run("set web --loss 1%");
    let run = |share: &str, script: &str| {
        let running = Running::start(&scene, &["--loss", share], script);
        until_lossy(&scene, share);
        running
    };
    let (succeeds, fails) = (run("30%", "read line"), run("40%", "read line; exit 7"));
    scene.daemon.end(Signal::SIGKILL);
    let (code, _, complaints) = succeeds.finish();
    assert_eq!(code, Some(3));
    assert!(
        complaints.contains("error: put back what shaped web (web): no daemon listens on "),
        "{complaints}"
    );
    assert_eq!(fails.finish().0, Some(7));
    let daemon = scene.world.daemon().expect("another daemon");
    eventually("the kernel has ended it", || {
        (daemon.view("web")["interfaces"] == Value::Array(Vec::new())).then_some(())
    });
}

#[test]
fn a_command_is_not_run_where_nothing_can_be_shaped() {
    needs!(Root);
    let scene = scene();
    let output = scene.daemon.shaper("run nosuch --loss 1% -- echo run").output().expect("it runs");
    assert_eq!((output.status.code(), &*output.stdout), (Some(4), &b""[..]));
}
