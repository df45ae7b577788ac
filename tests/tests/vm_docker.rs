//! Docker's containers, through Scope's buttons: latency.

use std::time::{Duration, Instant};

use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually},
    docker::DockerWorld,
    documents::{read, words},
    ms, needs,
    traffic::{Pings, ping},
};

/// The largest deviation of a mean from what was asked: 0.1 ms and 0.5 %.
fn tolerance(asked: Duration) -> Duration {
    Duration::from_micros(100) + asked / 200
}

#[test]
fn a_docker_container_is_delayed_until_it_is_cleared_or_gone() {
    needs!(Root, Docker, Fq);
    let begin = Instant::now();
    let world = DockerWorld::start().expect("Docker and a daemon");
    let before = world.host_traces();
    let id = world.run("web", &[]);
    println!("Docker, the daemon and a container are there after {:?}", begin.elapsed());
    let web = world.netns("web").expect("it runs");
    let (_, bridge) = world.addresses("web", "bridge").expect("addresses");
    let ping_bridge = |count, interval| -> Pings {
        let pings = ping(&web, bridge, count, interval, &[]).expect("ping works");
        assert_eq!(pings.received, count, "nothing is lost");
        pings
    };
    // The first one waits for ARP.
    ping_bridge(1, ms(1));
    let inside = web.traces();
    let unshaped = ping_bridge(200, ms(5)).mean;
    println!("| button | answered after | asked | unshaped | mean | deviation |");
    for (button, asked) in [("slow", ms(2000)), ("medium", ms(1000)), ("fast", ms(500))] {
        let pressed = Instant::now();
        let answer = world.press(&id, button);
        let answered = pressed.elapsed();
        assert_eq!(answer.error, None, "{button}");
        let row = format!("{}ms", asked.as_millis());
        let at_once = answer.shortcut_report.expect("Scope is not kept waiting");
        assert_eq!(at_once.node(&id).and_then(|node| node.row("latency")), Some(row.as_str()));
        let pings = ping_bridge(40, ms(50));
        println!(
            "| {button} | {answered:?} | {asked:?} | {unshaped:?} | {:?} | {:?} |",
            pings.mean, pings.deviation
        );
        let error = pings.mean.abs_diff(unshaped + asked);
        assert!(error <= tolerance(asked), "{button}: {error:?} from what was asked");
    }

    assert_eq!(world.press(&id, "clear").error, None);
    eventually("nothing is left inside", || (web.traces() == inside).then_some(()));
    assert_eq!(world.pins(), ["AYA_LOGS"]);
    let cleared = ping_bridge(200, ms(5)).mean;
    println!("cleared: {cleared:?}");
    assert!(cleared <= unshaped + tolerance(ms(500)), "{cleared:?} after, {unshaped:?} before");

    assert_eq!(world.press(&id, "fast").error, None);
    assert_eq!(world.press(&id, "pkt-drop-low").error, None);
    world.node("latency and loss are combined", &id, |node| {
        let node = node?;
        (node.row("latency") == Some("500ms") && node.row("pktloss") == Some("10%")).then_some(())
    });
    // They still wait in the queue when it goes.
    let waiting = ping(&web, bridge, 20, ms(5), &["-W", "0.1"]).expect("ping works");
    println!("{} packets were sent and {} came back before the end", waiting.sent, waiting.received);
    world.engine.rm("web").expect("it can go");
    world.node("its node goes with it", &id, |node| node.is_none().then_some(()));
    eventually("its pins go with it", || (world.pins() == ["AYA_LOGS"]).then_some(()));
    eventually("the bridge is as before", || (world.host_traces() == before).then_some(()));
    println!("all after {:?}", begin.elapsed());
}

/// The effects on what a container sends and receives, targets included.
fn policies(daemon: &Daemon, name: &str) -> Vec<(Value, Value)> {
    let view = daemon.view(name);
    let interfaces = view["interfaces"].as_array().into_iter().flatten();
    interfaces.map(|one| (one["direction"].clone(), one["shaping"]["policy"].clone())).collect()
}

#[test]
fn the_labels_of_the_compose_example_give_its_services_their_networks() {
    needs!(Root, Docker, Fq);
    let world = DockerWorld::start_with(&["--labels"]).expect("Docker and a daemon");
    let example: Value = serde_saphyr::from_str(&read("deployments/labels.yaml")).expect("YAML");
    for (service, described) in example["services"].as_object().expect("services") {
        let labels = described["labels"].as_object().expect("labels").iter();
        let labels: Vec<_> = labels
            .map(|(label, value)| format!("--label={label}={}", value.as_str().expect("text")))
            .collect();
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        world.engine.run(service, &labels).expect("a container");
    }
    world.engine.run("plain", &[]).expect("a container");
    for (service, commands) in [
        ("web", &["set plain --preset 3g"][..]),
        (
            "db",
            &[
                "set plain --netem 'delay 20ms 5ms distribution normal' --to 'all tcp' --for 2h",
                "set plain --netem 'loss 1%' --to 'all tcp' --direction ingress",
            ],
        ),
    ] {
        world.daemon.run("clear plain");
        for command in commands {
            world.daemon.words(&words(command).iter().map(String::as_str).collect::<Vec<_>>());
        }
        let expected = policies(&world.daemon, "plain");
        assert_eq!(expected.len(), 2, "{expected:?}");
        let said = format!("{service} has {expected:?}");
        eventually(&said, || (policies(&world.daemon, service) == expected).then_some(()));
    }
    let mean = |name: &str| {
        let (_, bridge) = world.addresses(name, "bridge").expect("addresses");
        let netns = world.netns(name).expect("it runs");
        ping(&netns, bridge, 10, ms(50), &[]).expect("ping works").mean
    };
    world.daemon.run("clear plain");
    let (web, plain) = (mean("web"), mean("plain"));
    println!("web: {web:?}, not shaped: {plain:?}");
    assert!(web > plain + ms(50), "{web:?}, not shaped: {plain:?}");
}
