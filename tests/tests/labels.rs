//! Labels by which Docker's containers say their own shaping.

use std::time::{Duration, Instant};

use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually},
    docker::{DockerWorld, IMAGE},
    documents::words,
    ms, needs,
    traffic::ping,
};

/// The effects on what a container sends and receives, and the rule that it has.
fn shaping(daemon: &Daemon, name: &str) -> (String, String, Option<String>) {
    let view = daemon.view(name);
    let words = |direction: &str| {
        let interfaces = view["interfaces"].as_array().into_iter().flatten();
        let of = interfaces.filter(|one| one["direction"] == direction);
        let netem = of.filter_map(|one| one["shaping"]["netem"].as_str());
        netem.map(str::to_owned).next().unwrap_or_default()
    };
    (words("egress"), words("ingress"), view["rule"].as_str().map(str::to_owned))
}

fn eventually_shaped(daemon: &Daemon, name: &str, egress: &str, ingress: &str, rule: Option<&str>) {
    let expected = (egress.to_owned(), ingress.to_owned(), rule.map(str::to_owned));
    let mut last = None;
    let said = format!("{name} has {expected:?}");
    eventually(&said, || {
        let now = shaping(daemon, name);
        (now == expected).then_some(()).or_else(|| {
            if last.as_ref() != Some(&now) {
                println!("{name}: {now:?}");
                last = Some(now);
            }
            None
        })
    });
}

fn stays(daemon: &Daemon, name: &str, egress: &str, ingress: &str, rule: Option<&str>) {
    std::thread::sleep(ms(1_500));
    let expected = (egress.to_owned(), ingress.to_owned(), rule.map(str::to_owned));
    assert_eq!(shaping(daemon, name), expected, "{name}");
}

fn run(daemon: &Daemon, line: &str) {
    daemon.words(&words(line).iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn containers_are_shaped_as_their_labels_say_until_a_person_says_otherwise() {
    needs!(Root, Docker);
    let world = DockerWorld::start_with(&["--labels"]).expect("Docker and a daemon");
    let daemon = &world.daemon;
    let label = "--label=shaper.netem=loss 100%";
    let _ = world.run("web", &[label, "--label=shaper.ingress=loss 5%"]);
    eventually_shaped(daemon, "web", "loss 100%", "loss 5%", Some("labels"));
    let (_, bridge) = world.addresses("web", "bridge").expect("addresses");
    let web = world.netns("web").expect("it runs");
    assert_eq!(ping(&web, bridge, 5, ms(5), &["-W", "0.2"]).expect("ping works").received, 0);

    let _ = world.run("plain", &[]);
    let _ = world.run("wrong", &["--label=shaper.netem=loss 101%"]);
    eventually("what is wrong with the label is said", || {
        let all: Value = serde_json::from_str(&daemon.run("rules --json")).expect("JSON");
        let said = all["problems"][0].as_str()?.to_owned();
        said.starts_with("container wrong: shaper.netem: a loss of 101%").then_some(())
    });
    stays(daemon, "wrong", "", "", None);
    stays(daemon, "plain", "", "", None);

    // A person's word counts for more than a rule, and that for more than a label.
    run(daemon, "set web --netem 'loss 2%' --direction both");
    eventually_shaped(daemon, "web", "loss 2%", "loss 2%", None);
    run(daemon, "set all --loss 3% --keep all");
    eventually_shaped(daemon, "plain", "loss 3%", "", Some("all"));
    stays(daemon, "web", "loss 2%", "loss 2%", None);
    daemon.run("clear web");
    eventually_shaped(daemon, "web", "loss 3%", "", Some("all"));
    daemon.run("rules remove all");
    eventually_shaped(daemon, "web", "loss 100%", "loss 5%", Some("labels"));
    daemon.run("clear web");
    stays(daemon, "web", "", "", None);
    world.engine.docker(&["restart", "-t", "0", "web"]).expect("it starts again");
    eventually_shaped(daemon, "web", "loss 100%", "loss 5%", Some("labels"));
}

#[test]
fn a_label_has_a_time_from_the_containers_start_on() {
    needs!(Root, Docker);
    let world = DockerWorld::start_with(&["--labels"]).expect("Docker and a daemon");
    let labels = ["--label=shaper.netem=loss 7%", "--label=shaper.for=6s", "--label=shaper.to=10.0.0.0/8"];
    let begin = Instant::now();
    let _ = world.run("web", &labels);
    let targets = || {
        let view = world.daemon.view("web");
        let targets = view["interfaces"][0]["shaping"]["policy"]["target"].as_array().map_or(0, Vec::len);
        targets > 0
    };
    eventually("it is shaped", || targets().then_some(()));
    eventually("its time ends", || (!targets()).then_some(()));
    let lasted = begin.elapsed();
    assert!(lasted > Duration::from_secs(4), "{lasted:?}");
    stays(&world.daemon, "web", "", "", None);
    world.engine.docker(&["restart", "-t", "0", "web"]).expect("it starts again");
    eventually("it is shaped again", || targets().then_some(()));
}

#[test]
fn labels_do_not_count_unless_the_daemon_was_told_so() {
    needs!(Root, Docker);
    let world = DockerWorld::start().expect("Docker and a daemon");
    let _ = world.run("web", &["--label=shaper.netem=loss 100%"]);
    stays(&world.daemon, "web", "", "", None);
}

/// The longest time in which a container's packets pass before its shaping takes hold; ten times what it takes without load.
const EARLY: Duration = Duration::from_millis(1_000);

#[test]
fn few_packets_pass_before_a_label_takes_hold() {
    needs!(Root, Docker);
    let world = DockerWorld::start_with(&["--labels"]).expect("Docker and a daemon");
    let _ = world.run("other", &[]);
    let (_, bridge) = world.addresses("other", "bridge").expect("addresses");
    let interval = ms(2);
    let script = format!(
        "ping -c 1500 -i {} -W 1 {bridge} | grep -c 'bytes from'; sleep 1000",
        interval.as_secs_f64()
    );
    let parent = format!("--cgroup-parent=/{}", world.engine.cgroup());
    for number in 0..5 {
        let name = format!("early-{number}");
        let run = ["run", "-d", "--name", &name, &parent, "--stop-signal", "KILL"];
        let command = ["--label=shaper.netem=loss 100%", IMAGE, "sh", "-c", &script];
        world.engine.docker(&[&run[..], &command].concat()).expect("it starts");
        let passed: u32 = eventually("its packets are counted", || {
            world.engine.docker(&["logs", &name]).expect("logs").trim().parse().ok()
        });
        println!("{passed} packets passed, in about {:?}", interval * passed);
        assert!(interval * passed < EARLY, "{passed} packets");
        world.engine.rm(&name).expect("it can go");
    }
}
