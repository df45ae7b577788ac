//! Changes of one container: in the order in which they were asked for, to their end once they have begun, and not at all
//! when nobody waits for them any more.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    process::Command,
};

use shaper_tests::{
    daemon::{Daemon, eventually, program},
    needs,
    world::World,
};

const SHAPING: &str = "/api/v1/containers/web/shaping";

fn daemon(world: &World) -> Daemon {
    let command: Command = world.host().command(program());
    world
        .spawn(command, world.pin_dir(), &["--runtime", "netns", "--log-level", "shaper=debug"])
        .expect("a daemon")
}

/// Sends a request, the answer to which is still to be read.
fn send(world: &World, method: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(world.socket()).expect("a connection");
    let length = body.len();
    let head = format!(
        "{method} {SHAPING} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: {length}"
    );
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("it is taken");
    stream
}

fn answer(mut stream: UnixStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A change that takes a while: a target of many addresses, in both directions.
fn slow_change() -> String {
    let mut addresses = String::new();
    for number in 0..65_000_u32 {
        // Odd ones alone, so that no two of them are one network.
        let address = Ipv4Addr::from(0x0a00_0001 + 2 * number);
        write!(addresses, "{address} ").expect("a string takes all");
    }
    format!(r#"{{"to": "{addresses}", "loss": "5%", "direction": "both"}}"#)
}

fn wait_until_it_begins(daemon: &Daemon) {
    eventually("the change begins", || daemon.log().contains("a change begins").then_some(()));
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let daemon = daemon(&world);
    daemon.view("web");
    let slow = send(&world, "PATCH", &slow_change());
    wait_until_it_begins(&daemon);
    for _ in 0..20 {
        drop(send(&world, "PATCH", r#"{"loss": "50%"}"#));
    }
    let cleared = answer(send(&world, "DELETE", ""));
    assert!(cleared.starts_with("HTTP/1.1 200 "), "{cleared}");
    let slow = answer(slow);
    assert!(slow.starts_with("HTTP/1.1 200 "), "it was asked for earlier: {}", &slow[..slow.len().min(500)]);
    // Comes after all that was asked for before.
    let last = answer(send(&world, "PATCH", r#"{"duplicate": "1%"}"#));
    assert!(last.contains(r#""netem":"duplicate 1%""#), "{last}");
    let log = daemon.log();
    assert_eq!(log.matches("a change begins").count(), 3, "{log}");
}

#[test]
fn a_change_that_has_begun_goes_on_with_its_log_when_its_client_has_gone() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let daemon = daemon(&world);
    daemon.view("web");
    drop({
        let slow = send(&world, "PATCH", &slow_change());
        wait_until_it_begins(&daemon);
        slow
    });
    let log = eventually("it is done", || Some(daemon.log()).filter(|log| log.contains(": set ")));
    let set = log.lines().find(|line| line.contains(": set ")).expect("a line");
    let client = format!("request{{uid=0 pid={}}}", std::process::id());
    assert!(set.contains(&client), "{set}");
    for said in [
        "container=\"web\"",
        "egress=\"to 10.0.0.1 ",
        "ingress=\"to 10.0.0.1 ",
        "loss 5%",
        "lasts=\"until cleared\"",
    ] {
        assert!(set.contains(said), "{set}");
    }
    assert_eq!(daemon.view("web")["interfaces"].as_array().map(Vec::len), Some(2));
}
