//! The throughput of TCP through a delay, beside `netem`.

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use shaper_tests::{ms, netns::Netns, world::Container};

use crate::{
    containers::{Containers, Direction},
    table::{Table, median},
};

const ROUNDS: usize = 3;

/// A delay, and how long transfers through it take: until they are in their stride, and while they are measured.
pub(crate) struct Case {
    delay: Duration,
    streams: usize,
    warm: Duration,
    window: Duration,
}

pub(crate) const fn case(delay_ms: u64, streams: usize, warm_ms: u64, window_ms: u64) -> Case {
    Case { delay: ms(delay_ms), streams, warm: ms(warm_ms), window: ms(window_ms) }
}

const EGRESS: [Case; 6] = [
    case(10, 1, 250, 250),
    case(10, 16, 400, 300),
    case(50, 1, 800, 300),
    case(50, 16, 1_000, 300),
    case(200, 1, 3_000, 1_000),
    case(200, 16, 2_500, 400),
];
const INGRESS: [Case; 2] = [case(50, 1, 800, 300), case(50, 16, 1_000, 300)];

/// Both tables.
pub(crate) fn run() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    let method = "What the receivers read in 0.25 to 1 s, once all connections have been sending for 0.25 s (10 ms) \
                  to 3 s (200 ms). Medians of three rounds, interleaved, and the least and the greatest. The \
                  processor, which does all of it, is the limit in most rows; the default socket buffers are at 200 \
                  ms with one stream.";
    let egress = goodputs(&bench, Direction::Egress, &EGRESS, method)?;
    Ok(vec![egress, goodputs(&bench, Direction::Ingress, &INGRESS, method)?])
}

/// The table of one direction.
pub(crate) fn goodputs(
    bench: &Containers,
    direction: Direction,
    cases: &[Case],
    method: &str,
) -> Result<Table> {
    let mut table = Table::new(
        &format!("TCP goodput through a delayed {}, in Mbit/s", direction.name()),
        method,
        &["delay", "streams", "congestion control", "netem", "shaper", "shaper / netem"],
    );
    for case in cases {
        let delay = format!("{}ms", case.delay.as_millis());
        bench.shape(direction, &format!("delay {delay}"), &format!("--latency {delay}"))?;
        for congestion in ["cubic", "bbr"] {
            let (mut netem, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                netem.push(goodput(bench, &bench.netem, direction, congestion, case)?);
                ours.push(goodput(bench, &bench.web, direction, congestion, case)?);
            }
            let [netem_cell, ours_cell] = [&netem, &ours].map(|rounds| cell(rounds));
            let ratio = median(ours) / median(netem);
            table.row(vec![
                delay.clone(),
                case.streams.to_string(),
                congestion.to_owned(),
                netem_cell,
                ours_cell,
                format!("{ratio:.3}"),
            ]);
            let what = format!("{}, {delay}, {} x {congestion}, of netem's", direction.name(), case.streams);
            table.at_least(&what, ratio, 0.98);
        }
        bench.clear(direction)?;
    }
    Ok(table)
}

fn cell(rounds: &[f64]) -> String {
    let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = rounds.iter().copied().fold(0.0, f64::max);
    format!("{:.1} ({least:.1} .. {greatest:.1})", median(rounds.to_vec()))
}

/// Mbit/s that arrive over all streams together.
fn goodput(
    bench: &Containers,
    container: &Container,
    direction: Direction,
    congestion: &str,
    case: &Case,
) -> Result<f64> {
    let host = bench.world.host();
    let (from, to, address) = match direction {
        Direction::Egress => (&container.netns, host, container.host_address),
        Direction::Ingress => (host, &container.netns, container.address),
    };
    let listener = listen(to, address)?;
    // All of them first: while the last ones connect, the first would send in vain.
    let streams = (0..case.streams).map(|_| connect(from, &listener, congestion));
    let streams = streams.collect::<Result<Vec<_>>>()?;
    let (bytes, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let measured = thread::scope(|scope| {
        // However this ends, so do the streams.
        let _end = End(&over);
        for (sender, receiver) in streams {
            scope.spawn(|| send(sender));
            scope.spawn(|| receive(receiver, &bytes, &over));
        }
        thread::sleep(case.warm);
        let (begin, before) = (Instant::now(), bytes.load(Ordering::Relaxed));
        thread::sleep(case.window);
        let (time, arrived) = (begin.elapsed(), bytes.load(Ordering::Relaxed) - before);
        anyhow::Ok(megabits(arrived) / time.as_secs_f64())
    });
    // Or the next round begins with what still waits of this one.
    thread::sleep(2 * case.delay);
    measured
}

#[expect(clippy::cast_precision_loss, reason = "no transfer has 2^53 bytes")]
fn megabits(bytes: u64) -> f64 {
    bytes as f64 * 8.0 / 1e6
}

/// Tells the streams to end when dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn listen(netns: &Netns, address: Ipv4Addr) -> Result<TcpListener> {
    netns.enter(|| TcpListener::bind((address, 0))).context("listen")
}

/// The two ends of a connection. The sender's congestion control is what counts.
fn connect(from: &Netns, listener: &TcpListener, congestion: &str) -> Result<(TcpStream, TcpStream)> {
    let to: SocketAddr = listener.local_addr()?;
    let sender = from.enter(|| TcpStream::connect(to)).context("connect")?;
    setsockopt(&sender, TcpCongestion, &OsString::from(congestion))
        .with_context(|| format!("have the kernel load {congestion}"))?;
    let (receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok((sender, receiver))
}

/// Sends until the other end is gone.
fn send(mut stream: TcpStream) {
    let block = vec![0; 1 << 17];
    while stream.write_all(&block).is_ok() {}
}

/// Counts what arrives. It leaves without reading the rest, upon which the kernel resets the connection.
fn receive(mut stream: TcpStream, bytes: &AtomicU64, over: &AtomicBool) {
    let mut block = vec![0; 1 << 18];
    while !over.load(Ordering::Relaxed) {
        if let Ok(read) = stream.read(&mut block) {
            bytes.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}
