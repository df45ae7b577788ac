//! The losses of ICMP, UDP and TCP, beside `netem`.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use shaper_tests::{
    capture::{Losses, watch},
    statistics::binomial_bound,
    world::Container,
};

use crate::{
    containers::{Containers, Direction},
    datagrams::{Datagrams, breathe},
    echo::Echo,
    table::Table,
};

const LOSSES: [Loss; 4] = [
    Loss { percent: "0.1", share: 0.001 },
    Loss { percent: "1", share: 0.01 },
    Loss { percent: "10", share: 0.1 },
    Loss { percent: "50", share: 0.5 },
];
const ECHOES: u32 = 20_000;
const DATAGRAMS: u32 = 100_000;
const TCP_BYTES: usize = 150 << 20;
/// Enough for all but 50 %. Time in which nothing happens costs the emulated machine nothing.
const TCP_TIME: Duration = Duration::from_secs(300);

struct Loss {
    percent: &'static str,
    share: f64,
}

/// Both tables.
pub(crate) fn run() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    Ok(vec![datagrams(&bench)?, tcp(&bench)?])
}

fn datagrams(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Loss of ICMP and UDP",
        "20,000 echo requests (ICMP) and 100,000 datagrams (UDP, 64 bytes) from the container to the host, a hundred \
         at a time. What was not answered, or did not arrive, and how many the daemon counted as lost. The interval \
         is the binomial 99.9 % one of the share asked for.",
        &["loss", "traffic", "sent", "netem lost", "shaper lost", "shaper counted", "99.9 % interval"],
    );
    for loss in &LOSSES {
        bench.shape_loss(loss)?;
        let netem = [echoes(&bench.netem)?, udp(bench, &bench.netem)?];
        let before = bench.counted();
        let ours_icmp = echoes(&bench.web)?;
        let between = bench.counted();
        let ours_udp = udp(bench, &bench.web)?;
        let counted = [between - before, bench.counted() - between];
        bench.clear(Direction::Egress)?;
        let traffic = [("ICMP", ECHOES), ("UDP", DATAGRAMS)];
        for (index, (lost, (name, sent))) in [ours_icmp, ours_udp].into_iter().zip(traffic).enumerate() {
            let (expected, slack) = binomial(sent, loss.share);
            table.row(vec![
                format!("{} %", loss.percent),
                name.to_owned(),
                sent.to_string(),
                netem[index].to_string(),
                lost.to_string(),
                counted[index].to_string(),
                format!("{:.0} .. {:.0}", expected - slack, expected + slack),
            ]);
            let what = format!("{name}, {} %", loss.percent);
            table.at_most(
                &format!("{what}, lost, from {expected}"),
                (f64::from(lost) - expected).abs(),
                slack,
            );
            let miscounted = f64::from(lost.abs_diff(counted[index]));
            table.at_most(&format!("{what}, lost but not counted, or the reverse"), miscounted, 0.0);
        }
    }
    Ok(table)
}

fn tcp(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Loss of TCP, and how many packets are lost in a row",
        "One connection from the container to the host sends 150 MB, or for five minutes, most of which it waits at \
         50 %. Linux numbers the packets of a connection in IPv4's header, sent again or not; numbers that are missing \
         at the host's end are packets lost. The daemon also counts what is lost after the last one that arrives. \
         Packets are counted as on a wire: one that is to be cut into 44 segments counts as 44. Shaper has TCP send \
         single ones, but where its limit was lifted by hand (`ip link set eth0 gso_max_segs 65535`). The last columns are \
         shares of the times that something was lost, by how many packets in a row; where losses are independent, \
         with probability p, one packet is lost in a share of 1 - p.",
        &[
            "loss",
            "way",
            "sent",
            "lost",
            "counted",
            "times",
            "1",
            "2",
            "3-9",
            "10-43",
            "44 or more",
            "1 if independent",
        ],
    );
    for loss in &LOSSES {
        bench.shape_loss(loss)?;
        let netem = losses(bench, &bench.netem)?;
        let before = bench.counted();
        let ours = losses(bench, &bench.web)?;
        let between = bench.counted();
        bench.web.netns.run("ip link set eth0 gso_max_segs 65535")?;
        let unlimited = losses(bench, &bench.web)?;
        let counted = [between - before, bench.counted() - between].map(|count| count.to_string());
        bench.clear(Direction::Egress)?;
        table.row(cells(loss, "netem", &netem, "-"));
        table.row(cells(loss, "shaper, gso_max_segs 65535", &unlimited, &counted[1]));
        table.row(cells(loss, "shaper", &ours, &counted[0]));
        bounds(&mut table, loss, &ours);
    }
    Ok(table)
}

/// TCP is to lose as many packets as others do, and not more of them in a row than by chance.
fn bounds(table: &mut Table, loss: &Loss, ours: &Losses) {
    let what = format!("TCP, {} %", loss.percent);
    let (expected, slack) = binomial(ours.lost() + ours.arrived, loss.share);
    let from = format!("{what}, lost, from {expected:.0}");
    table.at_most(&from, (f64::from(ours.lost()) - expected).abs(), slack);
    let (expected, slack) =
        binomial(count(&ours.runs, 1, 1) + count(&ours.runs, 2, u16::MAX), 1.0 - loss.share);
    let from = format!("{what}, times that one was lost, from {expected:.0}");
    table.at_most(&from, (f64::from(count(&ours.runs, 1, 1)) - expected).abs(), slack);
}

impl Containers {
    fn shape_loss(&self, loss: &Loss) -> Result<()> {
        let percent = loss.percent;
        self.shape(Direction::Egress, &format!("loss {percent}%"), &format!("--loss {percent}%"))
    }

    /// Returns the packets that the daemon has counted as lost.
    fn counted(&self) -> u32 {
        let lost = &self.daemon.view("web")["interfaces"][0]["lost"]["packets"];
        lost.as_u64().and_then(|lost| lost.try_into().ok()).unwrap_or(u32::MAX)
    }
}

/// Returns the expected number, and the half width of the binomial 99.9 % interval.
fn binomial(count: u32, share: f64) -> (f64, f64) {
    (f64::from(count) * share, binomial_bound(count.into(), share, 3.29) + 0.5)
}

fn echoes(container: &Container) -> Result<u32> {
    Ok(ECHOES - Echo::new(container)?.answered(ECHOES)?)
}

fn udp(bench: &Containers, container: &Container) -> Result<u32> {
    let datagrams = Datagrams::new(container, &bench.world)?;
    for number in 0..DATAGRAMS {
        breathe(number);
        datagrams.send(number)?;
    }
    Ok(DATAGRAMS - datagrams.fate(DATAGRAMS, Duration::from_millis(500))?.arrived)
}

/// Returns the losses of one connection.
fn losses(bench: &Containers, container: &Container) -> Result<Losses> {
    let host = bench.world.host();
    let listener = host.enter(|| TcpListener::bind((container.host_address, 0)))?;
    let to = listener.local_addr()?;
    let over = AtomicBool::new(false);
    let send_all = || {
        let stream = container.netns.enter(|| TcpStream::connect(to)).context("connect")?;
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&listener, &over));
            let sent = send(&stream);
            over.store(true, Ordering::Relaxed);
            receiver.join().expect("it does not panic")?;
            sent
        })?;
        // What has arrived is still to be read.
        thread::sleep(Duration::from_millis(100));
        anyhow::Ok(stream.local_addr()?.port())
    };
    let (port, packets) = watch(host, container.address, send_all)?;
    Ok(packets.losses(port?))
}

fn send(mut stream: &TcpStream) -> Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let (begin, mut sent) = (Instant::now(), 0);
    let block = vec![0; 1 << 17];
    while sent < TCP_BYTES && begin.elapsed() < TCP_TIME {
        match stream.write(&block) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("send"),
        }
    }
    Ok(())
}

fn receive(listener: &TcpListener, over: &AtomicBool) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut block = vec![0; 1 << 18];
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut block) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error).context("receive"),
            _ => {}
        }
    }
    Ok(())
}

fn cells(loss: &Loss, way: &str, losses: &Losses, counted: &str) -> Vec<String> {
    let sent = losses.arrived + losses.lost();
    let percent = |part: u32, of: u32| match of {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", f64::from(part) / f64::from(of) * 100.0),
    };
    let times = count(&losses.runs, 1, u16::MAX);
    let mut cells = vec![
        format!("{} %", loss.percent),
        way.to_owned(),
        sent.to_string(),
        format!("{:.3} %", f64::from(losses.lost()) / f64::from(sent.max(1)) * 100.0),
        counted.to_owned(),
        times.to_string(),
    ];
    for (from, to) in [(1, 1), (2, 2), (3, 9), (10, 43), (44, u16::MAX)] {
        cells.push(percent(count(&losses.runs, from, to), times));
    }
    cells.push(format!("{:.1} %", (1.0 - loss.share) * 100.0));
    cells
}

/// Counts the runs of a length in a range, with its ends.
fn count(runs: &[u16], from: u16, to: u16) -> u32 {
    runs.iter().map(|run| u32::from((from..=to).contains(run))).sum()
}
