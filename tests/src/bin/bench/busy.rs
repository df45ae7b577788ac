//! The time of one container's controls while the daemon is busy with another one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use shaper_tests::{
    http::{Answer, Connection},
    require::{Need, met},
    world::World,
};

use crate::table::{Table, percentile};

/// The time that each kind of work goes on, one change after the other.
const BUSY: Duration = Duration::from_secs(8);
/// The longest time that another container's controls may take, at the 99th percentile.
const LIMIT_MS: f64 = 50.0;
/// The most interfaces that a container may have.
const INTERFACES: usize = 128;
/// The most prefixes of a policy.
const PREFIXES: u32 = 262_143;
/// The most opportunities of a trace.
const OPPORTUNITIES: u32 = 1_000_000;

/// The work that the daemon is busy with: bodies of requests for the container `big`, in turn.
struct Work {
    what: &'static str,
    bodies: Vec<String>,
    /// True if the kernel must have `fq`; without it this is not measured.
    needs_fq: bool,
}

fn works() -> Vec<Work> {
    let prefix = |number: u32| {
        format!("\"10.{}.{}.{}/28\"", number >> 12 & 255, number >> 4 & 255, (number & 15) << 4)
    };
    let prefixes: Vec<String> = (0..PREFIXES / 4)
        .flat_map(|number| {
            (0..4).map(move |net| prefix(number).replacen("10.", &format!("{}.", 10 + net), 1))
        })
        .collect();
    let prefixes = prefixes.join(",");
    let times: Vec<String> = (1..=OPPORTUNITIES).map(|time| time.to_string()).collect();
    let times = times.join(",");
    vec![
        Work { what: "nothing", bodies: Vec::new(), needs_fq: false },
        Work {
            what: "128 interfaces",
            bodies: ["2%", "3%"].map(|loss| format!(r#"{{"netem":"loss {loss} 25%"}}"#)).into(),
            needs_fq: false,
        },
        Work {
            what: "262,140 prefixes",
            bodies: ["2%", "3%"]
                .map(|loss| {
                    format!(r#"{{"policy":{{"target":[{{"to":[{prefixes}],"netem":"loss {loss}"}}]}}}}"#)
                })
                .into(),
            needs_fq: false,
        },
        Work {
            what: "a trace of 1,000,000 opportunities",
            bodies: ["2%", "3%"]
                .map(|loss| format!(r#"{{"trace":"t","traces":{{"t":[{times}]}},"loss":"{loss}"}}"#))
                .into(),
            needs_fq: true,
        },
    ]
}

/// Controls of one container while another one is changed.
pub(crate) fn run() -> Result<Table> {
    let mut table = Table::new(
        "Time of a container's controls while another one is changed, in milliseconds",
        "One client changes a container's policy over and over, and awaits each answer. Another client meanwhile sets, \
         changes and clears a loss of another container with one interface.",
        &["the other container has", "each change of it", "set p50", "set p99", "change p50", "change p99"],
    );
    let has_fq = met(&[Need::Fq]);
    for work in works().into_iter().filter(|work| has_fq || !work.needs_fq) {
        let world = World::new()?;
        let [_web, big] = [world.container("web")?, world.container("big")?];
        if work.what.ends_with("interfaces") {
            world.add_links(&big, INTERFACES - 1)?;
        }
        let daemon = world.daemon()?;
        daemon.view("web");
        daemon.view("big");
        measure(&mut table, &world, &work)?;
    }
    Ok(table)
}

fn measure(table: &mut Table, world: &World, work: &Work) -> Result<()> {
    let over = AtomicBool::new(false);
    let (big, other) = thread::scope(|scope| {
        let big = scope.spawn(|| {
            let done = change(world, &work.bodies);
            over.store(true, Ordering::Relaxed);
            done
        });
        let other = control(world, &over);
        (big.join(), other)
    });
    let big = big.map_err(|_| anyhow::anyhow!("the client of {} panicked", work.what))??;
    let (set, changed) = other?;
    let at = |times: &[f64], percent| percentile(times.to_vec(), percent);
    let cells = [(&set, 50), (&set, 99), (&changed, 50), (&changed, 99)];
    let cells = cells.map(|(times, percent)| format!("{:.2}", at(times, percent)));
    let big = if big.is_empty() { "-".to_owned() } else { format!("{:.0}", at(&big, 50)) };
    table.row([vec![work.what.to_owned(), big], cells.to_vec()].concat());
    for (what, times) in [("set", &set), ("change", &changed)] {
        table.at_most(&format!("{what} beside {}, p99 in ms", work.what), at(times, 99), LIMIT_MS);
    }
    Ok(())
}

/// Changes the container `big` for as long as is measured; gives how long each change took.
fn change(world: &World, bodies: &[String]) -> Result<Vec<f64>> {
    let mut client = Connection::to(&world.socket())?;
    let begin = Instant::now();
    let mut times_ms = Vec::new();
    while begin.elapsed() < BUSY {
        if bodies.is_empty() {
            thread::sleep(BUSY);
        }
        for body in bodies {
            times_ms.push(ask(&mut client, "PATCH", "big", body)?);
        }
    }
    Ok(times_ms)
}

/// Sets, changes and clears the container `web` until it is over; gives how long setting and changing took.
fn control(world: &World, over: &AtomicBool) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut client = Connection::to(&world.socket())?;
    let (mut set, mut changed) = (Vec::new(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        set.push(ask(&mut client, "PATCH", "web", r#"{"loss":"1%"}"#)?);
        changed.push(ask(&mut client, "PATCH", "web", r#"{"loss":"2%"}"#)?);
        ask(&mut client, "DELETE", "web", "")?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok((set, changed))
}

/// Asks, and gives how long the answer took in milliseconds.
fn ask(client: &mut Connection, method: &str, container: &str, body: &str) -> Result<f64> {
    let length = body.len();
    let head = format!(
        "{method} /api/v1/containers/{container}/shaping HTTP/1.1\r\nHost: plugin\r\nContent-Length: {length}\r\n\r\n"
    );
    let begin = Instant::now();
    let answer: Answer = client.ask(&[head.as_bytes(), body.as_bytes()].concat())?;
    let took_ms = begin.elapsed().as_secs_f64() * 1e3;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "{method} {container}: {}: {text}", answer.status);
    Ok(took_ms)
}
