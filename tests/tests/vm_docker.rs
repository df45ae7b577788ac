//! Docker's containers, through Scope's buttons: latency.

use std::time::{Duration, Instant};

use shaper_tests::{
    daemon::eventually,
    docker::DockerWorld,
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
