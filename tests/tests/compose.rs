//! A project of Compose under a rule, with traffic: scaled, restarted, made anew, stopped and started.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually},
    docker::{DockerDaemon, IMAGE},
    ms, needs,
    netns::Netns,
    senders::Senders,
    traffic::ping,
};

/// The longest time from a container's first packet to the last one that passes.
const LONGEST: Duration = Duration::from_secs(2);
/// The time between two packets of each container.
const INTERVAL: Duration = ms(5);
/// The address that all of them send to.
const SINK: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 250);
const NETWORK: &str = "shop";

/// A project of three services that send echo requests from their first moment on.
struct Project<'a> {
    engine: &'a DockerDaemon,
    file: PathBuf,
}

impl<'a> Project<'a> {
    fn new(engine: &'a DockerDaemon) -> Self {
        let service = |name: &str| {
            format!(
                "  {name}:\n    image: {IMAGE}\n    command: ping -q -i {} {SINK}\n    stop_signal: SIGKILL\n    \
                 cgroup_parent: /{}\n",
                INTERVAL.as_secs_f64(),
                engine.cgroup()
            )
        };
        let services = ["web", "api", "db"].map(service).concat();
        let network = format!("networks:\n  default:\n    external: true\n    name: {NETWORK}\n");
        let file = engine.directory().join("shop.yaml");
        fs::write(&file, format!("version: \"3.5\"\nservices:\n{services}{network}"))
            .expect("it can be written");
        Self { engine, file }
    }

    /// Runs Compose with the words of `line`.
    fn compose(&self, line: &str) {
        let mut command = self.engine.command("docker-compose");
        command.arg("--file").arg(&self.file).args(["--project-name", "shop"]).args(line.split(' '));
        let output = command.output().expect("it can be run");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The addresses of a service's running containers.
    fn addresses(&self, service: &str) -> Vec<Ipv4Addr> {
        let filter = format!("label=com.docker.compose.service={service}");
        let ours = "label=com.docker.compose.project=shop";
        let ids =
            self.engine.docker(&["ps", "-q", "--filter", &filter, "--filter", ours]).expect("it answers");
        ids.lines().map(|id| self.engine.addresses(id, NETWORK).expect("it runs").0).collect()
    }
}

/// The containers that are shaped, by name.
fn shaped(daemon: &Daemon) -> Vec<String> {
    let list: Value = serde_json::from_str(&daemon.run("list --json")).expect("JSON");
    let name = |view: &Value| {
        view["interfaces"].get(0)?;
        Some(view["container"]["name"].as_str()?.to_owned())
    };
    list.as_array().expect("a list").iter().filter_map(name).collect()
}

#[test]
fn the_containers_of_a_service_have_their_rule_soon_after_each_start_and_no_others_have_it() {
    needs!(Root, Docker, Compose);
    let engine = DockerDaemon::start().expect("Docker");
    let daemon = engine.watched_by("docker", &[]).expect("a daemon");
    engine.docker(&["network", "create", "--subnet", "10.66.0.0/24", NETWORK]).expect("a network");
    engine.run("sink", &["--network", NETWORK, "--ip", &SINK.to_string()]).expect("a container");
    // It is called so by a label, and is of no project.
    let label = ["--network", NETWORK, "--label", "com.docker.compose.service=web"];
    engine.run("stranger", &label).expect("a container");
    let sink = engine.netns("sink").expect("it runs");
    let senders = Senders::watch(&sink).expect("a packet socket");
    let project = Project::new(&engine);
    daemon.run("set project:shop+service:web --loss 100% --keep slow-web");
    let mut longest = (Duration::ZERO, 0);
    for (line, webs) in [
        ("up -d", 1),
        ("up -d --scale web=3", 3),
        ("up -d --scale web=1", 1),
        ("restart web", 1),
        ("up -d --force-recreate", 1),
        ("stop", 0),
        ("start", 1),
        ("restart", 1),
        ("kill web", 0),
        ("up -d --scale web=2", 2),
    ] {
        senders.forget();
        project.compose(line);
        let of_web = project.addresses("web");
        assert_eq!(of_web.len(), webs, "{line}");
        eventually("each is shaped, and no other", || {
            let shaped = shaped(&daemon);
            let is_web = |name: &String| name.contains("shop_web_") || name.contains("shop-web-");
            assert!(shaped.iter().all(is_web), "{line}: {shaped:?}");
            (shaped.len() == webs).then_some(())
        });
        thread::sleep(ms(100));
        let before: Vec<_> =
            of_web.iter().map(|web| senders.of(*web).map(|requests| requests.count)).collect();
        thread::sleep(20 * INTERVAL);
        for (web, before) in of_web.iter().zip(before) {
            assert_eq!(received(&sink, *web), 0, "{line}: {web} answers");
            let requests = senders.of(*web);
            assert_eq!(requests.map(|requests| requests.count), before, "{line}: {web} still sends");
            let Some(requests) = requests else { continue };
            println!("{line}: {} packets of {web} passed within {:?}", requests.count, requests.span());
            longest = longest.max((requests.span(), requests.count));
        }
        for service in ["api", "db"] {
            for address in project.addresses(service) {
                let count = || senders.of(address).map_or(0, |requests| requests.count);
                let before = count();
                assert_eq!(received(&sink, address), 10, "{line}: {service} answers");
                eventually(&format!("{line}: {service} sends"), || (count() > before).then_some(()));
            }
        }
    }
    println!("at most {} packets passed, within {:?}", longest.1, longest.0);
    assert!(longest.0 < LONGEST, "{longest:?}\n{}", daemon.log());
    daemon.run("rules remove slow-web");
    let begin = Instant::now();
    eventually("none is shaped any more", || shaped(&daemon).is_empty().then_some(()));
    println!("cleared after {:?}", begin.elapsed());
    for web in project.addresses("web") {
        assert_eq!(received(&sink, web), 10);
    }
}

/// The replies to ten echo requests.
fn received(from: &Netns, to: Ipv4Addr) -> u32 {
    ping(from, to, 10, ms(5), &["-W", "0.3"]).expect("ping works").received
}
