//! The cost of a packet: instructions added to sending it over a bare veth, by us and by `netem`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use shaper_tests::{
    ms,
    world::{Container, World},
};

use crate::{
    clock::Moment,
    containers::{Containers, Direction},
    table::{Table, median},
};

const ROUNDS: usize = 3;
const PACKETS: u32 = 20_000;
const MEGABYTES: u64 = 48;
const TRANSACTIONS: u32 = 1_000;

/// A policy in our words and in `netem`'s, and the time that packets wait.
struct Case {
    title: &'static str,
    shaper: &'static str,
    netem: &'static str,
    delay: Duration,
}

const LOSS: Case = Case { title: "loss 1 %", shaper: "--loss 1%", netem: "loss 1%", delay: ms(0) };
const MS_1: Case = Case { title: "1 ms", shaper: "--latency 1ms", netem: "delay 1ms", delay: ms(1) };
const MS_1_LOSS: Case = Case {
    title: "1 ms + loss 1 %",
    shaper: "--latency 1ms --loss 1%",
    netem: "delay 1ms loss 1%",
    delay: ms(1),
};
const MS_100_LOSS: Case = Case {
    title: "100 ms + loss 1 %",
    shaper: "--latency 100ms --loss 1%",
    netem: "delay 100ms loss 1%",
    delay: ms(100),
};
const MS_50: Case = Case { title: "50 ms", shaper: "--latency 50ms", netem: "delay 50ms", delay: ms(50) };

/// The effects that netem has words for, too, with a delay of 1 ms where packets wait.
const EFFECTS: &[&str] = &[
    "delay 1ms",
    "delay 1ms 100us 25% distribution normal",
    "loss gemodel 1% 10%",
    "loss 1% 25%",
    "duplicate 1%",
    "corrupt 1%",
    "delay 1ms reorder 5%",
    "rate 10gbit",
    "delay 1ms 100us loss 1% duplicate 1% corrupt 1% reorder 1% rate 10gbit",
];

impl Containers {
    /// Median figures of the bare veth, of `netem` and of ours under a policy.
    fn compare(&self, case: &Case, measure: impl Fn(&Container) -> Result<f64>) -> Result<[f64; 3]> {
        self.compare_with(case, &case.shaper.split_whitespace().collect::<Vec<_>>(), measure)
    }

    fn compare_with(
        &self,
        case: &Case,
        shaper: &[&str],
        measure: impl Fn(&Container) -> Result<f64>,
    ) -> Result<[f64; 3]> {
        self.shape_with(Direction::Egress, case.netem, shaper)?;
        let mut figures = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (figures, container) in figures.iter_mut().zip([&self.bare, &self.netem, &self.web]) {
                figures.push(measure(container)?);
            }
        }
        self.clear(Direction::Egress)?;
        Ok(figures.map(median))
    }
}

/// All tables of costs.
pub(crate) fn run() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    Ok(vec![udp(&bench)?, tcp(&bench)?, many(&bench)?])
}

/// All tables of what policies cost.
pub(crate) fn policies() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    Ok(vec![targets(&bench)?, effects(&bench)?])
}

/// Measures the cost of each effect beside `netem`'s, and of all of them.
fn effects(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Instructions added per packet by other effects: UDP, 64 bytes",
        "Measured as the plain delays and losses above. Each policy is in maps, even the constant delay of the first row, as \
         it has a seed: it shows what maps cost beside a plain delay.",
        &["effects", "bare veth", "netem adds", "shaper adds"],
    );
    for words in EFFECTS {
        let case = Case { title: words, shaper: "", netem: words, delay: ms(1) };
        let [bare, netem, ours] =
            bench.compare_with(&case, &["--netem", &format!("{words} seed 1")], |container| {
                udp_stream(container, &bench.world, case.delay)
            })?;
        table.row(vec![(*words).to_owned(), count(bare), added(netem - bare), added(ours - bare)]);
    }
    Ok(table)
}

/// Measures the cost of looking up a packet's target, by the number of prefixes.
fn targets(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Instructions per packet by how many prefixes targets have",
        "Measured as the plain delays and losses above, with a loss of 1 % for one target. The receiver is in one of its \
         prefixes; the others are networks of 24 bits.",
        &["prefixes", "bare veth", "shaper"],
    );
    let mut first = None;
    for prefixes in [1, 100, 65_000] {
        let file = policy_with(prefixes, bench.web.host_address)?;
        bench.daemon.run(&format!("set web --policy {}", file.display()));
        let measure = |container: &Container| -> Result<f64> {
            let rounds = (0..ROUNDS).map(|_| udp_stream(container, &bench.world, ms(0)));
            Ok(median(rounds.collect::<Result<_>>()?))
        };
        let (bare, ours) = (measure(&bench.bare)?, measure(&bench.web)?);
        bench.daemon.run("clear web");
        fs::remove_file(&file)?;
        table.row(vec![prefixes.to_string(), count(bare), count(ours)]);
        let first = *first.get_or_insert(ours);
        table.at_most(&format!("{prefixes} prefixes, of one"), ours / first, 1.1);
    }
    Ok(table)
}

/// A policy file with one target of so many prefixes, in the last of which `address` is.
fn policy_with(prefixes: u32, address: Ipv4Addr) -> Result<PathBuf> {
    let mut to: Vec<_> =
        (1..prefixes).map(|number| format!("{}/24", Ipv4Addr::from((20 << 24) + (number << 8)))).collect();
    to.push(address.to_string());
    let shaping = serde_json::json!({ "target": [{ "to": to, "netem": "loss 1%" }] });
    let path = std::env::temp_dir().join(format!("shaper-bench-{}.json", std::process::id()));
    fs::write(&path, shaping.to_string())?;
    Ok(path)
}

fn udp(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Instructions added per packet: UDP, 64 bytes",
        "One socket with the default send buffer sends to another across a veth as fast as it can; 20,000 packets are \
         counted after as many have begun to arrive as wait at once. Medians of three rounds. A packet's own path, with \
         nothing in its way, is the second column.",
        &["policy", "bare veth", "netem adds", "shaper adds"],
    );
    for (case, limit) in [(LOSS, 300.0), (MS_1, f64::INFINITY), (MS_1_LOSS, 1_700.0), (MS_100_LOSS, 2_400.0)]
    {
        let [bare, netem, ours] =
            bench.compare(&case, |container| udp_stream(container, &bench.world, case.delay))?;
        table.row(vec![case.title.to_owned(), count(bare), added(netem - bare), added(ours - bare)]);
        if limit.is_finite() {
            table.at_most(&format!("UDP, {}, added", case.title), ours - bare, limit);
        }
    }
    Ok(table)
}

fn tcp(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Instructions of TCP, both ends",
        "Bulk: one stream, per MB that arrives after the first 16 MB. Request/response: 200 bytes each way, per \
         transaction. What the container sends is shaped. Time in which the processor is idle is left out. Medians of \
         three rounds.",
        &["traffic", "policy", "bare veth", "netem", "shaper"],
    );
    let bulk = bench.compare(&MS_50, |container| tcp_bulk(container, &bench.world))?;
    let requests = bench.compare(&MS_1, |container| tcp_requests(container, &bench.world))?;
    for (traffic, case, [bare, netem, ours]) in
        [("bulk, per MB", MS_50, bulk), ("request/response", MS_1, requests)]
    {
        table.row(vec![traffic.to_owned(), case.title.to_owned(), count(bare), count(netem), count(ours)]);
        table.at_most(&format!("TCP {traffic}, {}, beside netem", case.title), ours, netem);
    }
    Ok(table)
}

/// Measures the cost of others' shaping to a container that is not shaped, and to one that is.
fn many(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Instructions per packet by how many containers are shaped",
        "As above; the others are shaped alike, and idle. An unshaped container, then one with 1 ms and 1 % loss.",
        &["shaped containers", "a container that is not", "one of them"],
    );
    let mut others = Vec::new();
    let measure = |container: &Container| -> Result<f64> {
        let rounds = (0..ROUNDS).map(|_| udp_stream(container, &bench.world, MS_1_LOSS.delay));
        Ok(median(rounds.collect::<Result<_>>()?))
    };
    let unshaped = measure(&bench.bare)?;
    let mut first = None;
    for shaped in [1, 10, 100] {
        while others.len() + 1 < shaped {
            let name = format!("other{}", others.len());
            others.push(bench.world.container(&name)?);
            bench.daemon.view(&name);
            bench.daemon.run(&format!("set {name} {}", MS_1_LOSS.shaper));
        }
        bench.daemon.run(&format!("set web {}", MS_1_LOSS.shaper));
        let (left_alone, ours) = (measure(&bench.bare)?, measure(&bench.web)?);
        table.row(vec![shaped.to_string(), count(left_alone), count(ours)]);
        table.at_most(
            &format!("an unshaped container beside {shaped}, of none"),
            (left_alone / unshaped - 1.0).abs(),
            0.005,
        );
        let first = *first.get_or_insert(ours);
        table.at_most(&format!("one of {shaped} shaped, of one"), (ours / first - 1.0).abs(), 0.02);
    }
    Ok(table)
}

fn count(figure: f64) -> String {
    format!("{figure:.0}")
}

fn added(figure: f64) -> String {
    format!("{figure:+.0}")
}

/// Instructions of sending a datagram from a container to the host and dropping it there, as nobody reads.
fn udp_stream(container: &Container, world: &World, delay: Duration) -> Result<f64> {
    let receiver = world.host().enter(|| UdpSocket::bind((container.host_address, 0)))?;
    let to = receiver.local_addr()?;
    container.netns.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        let begin = Instant::now();
        let mut warm = 0;
        while warm < 1_000 || begin.elapsed() < 2 * delay {
            socket.send(&[0; 64]).context("send")?;
            warm += 1;
        }
        let start = Moment::now()?;
        for _ in 0..PACKETS {
            socket.send(&[0; 64]).context("send")?;
        }
        let busy_ns = start.busy_ns()?;
        let idle = start.idle_share()?;
        ensure!(idle < 0.02, "the sender waited for {:.0} % of the time: its buffer was full", idle * 100.0);
        // Or the next round begins with what still waits of this one.
        thread::sleep(2 * delay);
        Ok(busy_ns / f64::from(PACKETS))
    })
}

/// Instructions per MB that arrives over one TCP connection from a container to the host.
#[expect(clippy::cast_precision_loss, reason = "no transfer has 2^53 bytes")]
fn tcp_bulk(container: &Container, world: &World) -> Result<f64> {
    let listener = world.host().enter(|| TcpListener::bind((container.host_address, 0)))?;
    let to = listener.local_addr()?;
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            container.netns.enter(|| -> Result<()> {
                let mut stream = TcpStream::connect(to)?;
                let block = vec![0; 1 << 17];
                while !enough.load(Ordering::Relaxed) {
                    stream.write_all(&block)?;
                }
                Ok(())
            })
        });
        let (mut stream, _) = listener.accept()?;
        let mut block = vec![0; 1 << 18];
        let (mut bytes, warm) = (0_u64, 16 << 20);
        while bytes < warm {
            bytes += stream.read(&mut block)? as u64;
        }
        let (start, begin) = (Moment::now()?, bytes);
        while bytes < begin + (MEGABYTES << 20) {
            bytes += stream.read(&mut block)? as u64;
        }
        let busy_ns = start.busy_ns()?;
        enough.store(true, Ordering::Relaxed);
        while stream.read(&mut block)? > 0 {}
        sender.join().expect("it does not panic")?;
        Ok(busy_ns / ((bytes - begin) as f64 / 1e6))
    })
}

/// Instructions of a request and its response, of 200 bytes each.
fn tcp_requests(container: &Container, world: &World) -> Result<f64> {
    let listener = world.host().enter(|| TcpListener::bind((container.host_address, 0)))?;
    let to = listener.local_addr()?;
    thread::scope(|scope| {
        let server = scope.spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut message = [0; 200];
            while stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message)?;
            }
            Ok(())
        });
        let busy_ns = container.netns.enter(|| -> Result<f64> {
            let mut stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            let mut transact = |count: u32| -> Result<()> {
                let mut message = [0; 200];
                for _ in 0..count {
                    stream.write_all(&message)?;
                    stream.read_exact(&mut message)?;
                }
                Ok(())
            };
            transact(50)?;
            let start = Moment::now()?;
            transact(TRANSACTIONS)?;
            start.busy_ns()
        })?;
        server.join().expect("it does not panic")?;
        Ok(busy_ns / f64::from(TRANSACTIONS))
    })
}
