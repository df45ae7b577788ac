//! Rules: shaping that containers have for as long as they fit.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, eventually},
    documents::{read, words},
    ms, needs,
    traffic::ping,
    world::{Container, World},
};

/// A world with containers of these names, and its daemon.
fn world(names: &[&str]) -> (World, Vec<Container>, Daemon) {
    let world = World::new().expect("a world");
    let containers = names.iter().map(|name| world.container(name).expect("a container")).collect();
    let daemon = world.daemon().expect("a daemon");
    names.iter().for_each(|name| drop(daemon.view(name)));
    (world, containers, daemon)
}

/// The effects on what each shaped container sends, as in `web: loss 5%`.
fn shaped(daemon: &Daemon) -> Vec<String> {
    let list: Value = serde_json::from_str(&daemon.run("list --json")).expect("JSON");
    let line = |view: &Value| {
        let netem = view["interfaces"][0]["shaping"]["netem"].as_str().filter(|words| !words.is_empty())?;
        Some(format!("{}: {netem}", view["container"]["name"].as_str()?))
    };
    list.as_array().expect("a list").iter().filter_map(line).collect()
}

fn eventually_shaped(daemon: &Daemon, expected: &[&str]) {
    eventually(&format!("{expected:?}"), || (shaped(daemon) == expected).then_some(()));
}

/// Has rules had the time to be carried out, and asserts that nothing has changed.
fn stays(daemon: &Daemon, expected: &[&str]) {
    std::thread::sleep(ms(1_500));
    assert_eq!(shaped(daemon), expected);
}

fn run(daemon: &Daemon, line: &str) -> String {
    daemon.words(&words(line).iter().map(String::as_str).collect::<Vec<_>>())
}

fn complaint(daemon: &Daemon, line: &str) -> String {
    daemon.complaint_about(&words(line).iter().map(String::as_str).collect::<Vec<_>>())
}

/// The rules, as in `slow: active, 2 containers`.
fn rules(daemon: &Daemon) -> Vec<String> {
    let all: Value = serde_json::from_str(&daemon.run("rules --json")).expect("JSON");
    let line = |view: &Value| {
        let containers = view["containers"].as_array().expect("a list").len();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        format!("{}: {}, {containers} containers", text(&view["rule"]["name"]), text(&view["state"]))
    };
    all["rules"].as_array().expect("a list").iter().map(line).collect()
}

#[test]
fn a_rule_holds_for_containers_that_come_later_and_ends_with_the_rule() {
    needs!(Root);
    let (world, containers, daemon) = world(&["web-1", "db"]);
    run(&daemon, "set 'web-*' --loss 100% --keep lost-web");
    eventually_shaped(&daemon, &["web-1: loss 100%"]);
    let later = world.container("web-2").expect("a container");
    eventually_shaped(&daemon, &["web-1: loss 100%", "web-2: loss 100%"]);
    let lost = |one: &Container| {
        let pings = ping(&one.netns, one.host_address, 5, Duration::from_millis(5), &["-W", "0.2"]);
        pings.expect("ping works").received == 0
    };
    assert!(lost(&later) && lost(&containers[0]) && !lost(&containers[1]));
    eventually("it is counted", || (rules(&daemon) == ["lost-web: active, 2 containers"]).then_some(()));
    drop(later);
    eventually_shaped(&daemon, &["web-1: loss 100%"]);
    run(&daemon, "rules remove lost-web");
    eventually_shaped(&daemon, &[]);
    assert!(!lost(&containers[0]));
    assert_eq!(rules(&daemon), [""; 0]);
    assert!(complaint(&daemon, "rules remove lost-web").contains("no rule is called"));
}

#[test]
fn rules_and_what_they_did_outlive_the_daemon() {
    needs!(Root);
    let (world, _containers, daemon) = world(&["web-1", "web-2"]);
    run(&daemon, "set 'web-*' --loss 5% --keep slow-web");
    eventually_shaped(&daemon, &["web-1: loss 5%", "web-2: loss 5%"]);
    daemon.run("clear web-2");
    stays(&daemon, &["web-1: loss 5%"]);
    daemon.kill(Signal::SIGKILL);
    let _later = world.container("web-3").expect("a container");
    let daemon = world.daemon().expect("a daemon");
    eventually_shaped(&daemon, &["web-1: loss 5%", "web-3: loss 5%"]);
    stays(&daemon, &["web-1: loss 5%", "web-3: loss 5%"]);
    run(&daemon, "rules remove slow-web");
    eventually_shaped(&daemon, &[]);
}

#[test]
fn what_a_rule_did_is_remembered_whenever_the_daemon_is_killed() {
    needs!(Root);
    let world = World::new().expect("a world");
    let crowd = world.crowd(40).expect("containers");
    let mut daemon = world.daemon().expect("a daemon");
    eventually("all are listed", || (daemon.run("list").lines().count() > crowd.len()).then_some(()));
    let mut cut_short = 0;
    for round in 0..8 {
        run(&daemon, "set all --loss 1% --keep lost");
        std::thread::sleep(ms(round * 8));
        cut_short += usize::from((1..crowd.len()).contains(&world.pins().len()));
        daemon.end(Signal::SIGKILL);
        daemon = world.daemon().expect("a daemon");
        eventually("all are shaped", || (shaped(&daemon).len() == crowd.len()).then_some(()));
        run(&daemon, "rules remove lost");
        eventually("none is taken for one that was shaped by hand", || {
            shaped(&daemon).is_empty().then_some(())
        });
    }
    println!("killed {cut_short} times while some were shaped and others not");
}

#[test]
fn what_is_done_by_hand_counts_for_more() {
    needs!(Root);
    let (_world, _containers, daemon) = world(&["web-1", "web-2"]);
    daemon.run("set web-1 --loss 1%");
    run(&daemon, "set 'web-*' --loss 5% --keep slow-web");
    eventually_shaped(&daemon, &["web-1: loss 1%", "web-2: loss 5%"]);
    daemon.run("set web-2 --loss 2% --for 2s");
    stays(&daemon, &["web-1: loss 1%", "web-2: loss 2%"]);
    eventually_shaped(&daemon, &["web-1: loss 1%", "web-2: loss 5%"]);
    run(&daemon, "rules remove slow-web");
    eventually_shaped(&daemon, &["web-1: loss 1%"]);
}

#[test]
fn the_highest_priority_is_in_force_and_rules_can_be_suspended_and_end() {
    needs!(Root);
    let (_world, _containers, daemon) = world(&["web"]);
    run(&daemon, "set web --loss 1% --keep a");
    eventually_shaped(&daemon, &["web: loss 1%"]);
    run(&daemon, "set all --loss 2% --keep b --priority 1");
    eventually_shaped(&daemon, &["web: loss 2%"]);
    run(&daemon, "rules suspend b");
    eventually_shaped(&daemon, &["web: loss 1%"]);
    assert_eq!(rules(&daemon), ["a: active, 1 containers", "b: suspended, 0 containers"]);
    run(&daemon, "rules resume b");
    eventually_shaped(&daemon, &["web: loss 2%"]);
    run(&daemon, "rules remove a b");
    eventually_shaped(&daemon, &[]);
    run(&daemon, "set web --loss 3% --for 2s --keep short");
    eventually_shaped(&daemon, &["web: loss 3%"]);
    eventually_shaped(&daemon, &[]);
    eventually("it is over", || (rules(&daemon) == ["short: over, 0 containers"]).then_some(()));
    stays(&daemon, &[]);
}

#[test]
fn rule_files_are_in_force_as_long_as_they_say_so() {
    needs!(Root);
    let (world, _containers, daemon) = world(&["web", "db"]);
    let file = world.rules_dir().join("shop.toml");
    let write = |loss: &str| {
        fs::create_dir_all(world.rules_dir()).expect("it can be made");
        let text = format!("[[rule]]\nname = \"shop\"\nselect = \"db\"\nset.loss = \"{loss}\"\n");
        fs::write(&file, text).expect("it can be written");
    };
    write("10%");
    eventually_shaped(&daemon, &["db: loss 10%"]);
    write("20.5%");
    eventually_shaped(&daemon, &["db: loss 20.5%"]);
    write("120%");
    let said = format!("{}, line 4: rule \"shop\": set: ", file.display());
    eventually("what is wrong is said", || daemon.log().contains(&said).then_some(()));
    stays(&daemon, &["db: loss 20.5%"]);
    let all: Value = serde_json::from_str(&daemon.run("rules --json")).expect("JSON");
    assert!(all["problems"][0].as_str().is_some_and(|problem| problem.starts_with(&said)), "{all}");
    for line in ["set web --loss 1% --keep shop", "rules suspend shop", "rules remove shop"] {
        assert!(complaint(&daemon, line).contains("shop.toml: change it there"), "{line}");
    }
    fs::remove_file(&file).expect("it is there");
    eventually_shaped(&daemon, &[]);
}

#[test]
fn the_documents_rule_file_is_in_force() {
    needs!(Root);
    let (world, _containers, daemon) = world(&["web"]);
    let page = read("docs/rules.md");
    let text = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a rule file");
    fs::create_dir_all(world.rules_dir()).expect("it can be made");
    fs::write(world.rules_dir().join("shop.toml"), text).expect("it can be written");
    let expected = ["commute: suspended, 0 containers", "slow-db: active, 0 containers"];
    eventually("they are read", || (rules(&daemon) == expected).then_some(()));
}

#[test]
fn a_state_that_cannot_be_read_is_set_aside_and_shaping_stays() {
    needs!(Root);
    let (world, _containers, daemon) = world(&["web"]);
    run(&daemon, "set web --loss 5% --keep slow-web");
    eventually_shaped(&daemon, &["web: loss 5%"]);
    daemon.kill(Signal::SIGKILL);
    let state = world.state_dir().join("rules.json");
    for broken in ["{", "{\"version\": 99, \"rules\": []}"] {
        fs::write(&state, broken).expect("it can be written");
        let daemon = world.daemon().expect("a daemon");
        assert!(daemon.log().contains("the rules that were kept cannot be read"), "{}", daemon.log());
        assert_eq!(fs::read_to_string(state.with_extension("broken")).expect("it is aside"), broken);
        stays(&daemon, &["web: loss 5%"]);
        assert_eq!(rules(&daemon), [""; 0]);
        daemon.kill(Signal::SIGKILL);
    }
}
