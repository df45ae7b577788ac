//! The main job on real input: presses each of Scope's buttons as Scope does, and measures what became of the network.

use std::{
    fs,
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use shaper_tests::{
    daemon::eventually,
    ms,
    probe::Probe,
    traffic::{Pings, Transfer, ping, tcp_bytes_for},
    world::{Container, World},
};

/// One press of a button.
struct Press {
    control: &'static str,
    human: &'static str,
    asked: &'static str,
    /// The number of pings that tell what became of it, and their interval.
    pings: (u32, Duration),
}

/// The five buttons. Setting one effect keeps the other, so the cut comes on top of the last hourglass.
const PRESSES: [Press; 5] = [
    Press { control: "slow", human: "Traffic speed: slow", asked: "2000 ms", pings: (20, ms(50)) },
    Press { control: "medium", human: "Traffic speed: medium", asked: "1000 ms", pings: (20, ms(50)) },
    Press { control: "fast", human: "Traffic speed: fast", asked: "500 ms", pings: (20, ms(50)) },
    Press {
        control: "pkt-drop-low",
        human: "Packet drop: low",
        asked: "500 ms, 10 % lost",
        pings: (500, ms(10)),
    },
    Press {
        control: "clear",
        human: "Clear traffic control settings",
        asked: "nothing",
        pings: (100, ms(10)),
    },
];

/// The least that is sent to measure a throughput, and the least time.
const TCP: (u64, Duration) = (128 << 10, ms(250));

/// The stage: `web` is shaped and sends to `db`; `cache` is left alone.
struct Stage {
    web: Container,
    db: Container,
    cache: Container,
    // Dropped last, as it holds the others' files.
    world: World,
}

/// The measurements after a press.
struct Measured {
    pings: Pings,
    transfer: Transfer,
    neighbour: Pings,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    say("making a host and three containers: network namespaces of their own, joined by veths");
    let stage = Stage::new()?;
    say("starting `shaper serve`");
    let daemon = stage.world.daemon()?;
    let probe = Probe::new(stage.world.socket(), "de30");
    eventually("Scope's probe sees the containers", || {
        probe.report().ok()?.node(&stage.web.name).map(|_| ())
    });
    let before = stage.web.netns.traces();
    let mut table = table();
    say("measuring the network as it is");
    add_row(&mut table, ["(before)", "nothing", "", "- / -"], &stage.measure((100, ms(10)))?);
    for press in &PRESSES {
        say(&format!("pressing \"{}\" on web", press.human));
        let control = format!("traffic-control-table-{}", press.control);
        let begin = Instant::now();
        let answer = probe.press(&stage.web.node_id(), &control)?;
        let took = format!("{:.1} ms", begin.elapsed().as_secs_f64() * 1000.0);
        ensure!(answer.error.is_none(), "the control failed: {:?}", answer.error);
        let report = answer.shortcut_report.context("the answer has a report")?;
        let node = report.node(&stage.web.name).context("web is in the report")?;
        let row = |label| node.row(label).unwrap_or("?").to_owned();
        let shown = format!("{} / {}", row("latency"), row("pktloss"));
        let measured = stage.measure(press.pings)?;
        add_row(&mut table, [press.human, press.asked, &took, &shown], &measured);
    }
    println!("\n{table}\n");
    println!(
        "ping and TCP go from web to db; \"neighbour\" is the ping of cache to db, which nobody shaped."
    );
    println!(
        "TCP sends {} KiB over one connection, or more, until {} ms have passed. The rows are what Scope's table shows \
         after the press.",
        TCP.0 >> 10,
        TCP.1.as_millis()
    );
    daemon.run("clear web");
    ensure!(stage.web.netns.traces() == before, "web is not what it was: {}", stage.web.netns.traces());
    ensure!(stage.world.pins() == ["AYA_LOGS"], "something is left: {:?}", stage.world.pins());
    println!("Cleared: web has the qdisc it had, and nothing of it is pinned any more.");
    Ok(())
}

/// Says what happens now, for whoever waits.
fn say(what: &str) {
    println!("· {what}");
    let _ = std::io::stdout().flush();
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header([
        "button",
        "asked",
        "answered in",
        "Scope shows\nlatency / loss",
        "ping mean",
        "lost",
        "TCP",
        "TCP sent\nagain",
        "neighbour",
    ]);
    table
}

fn add_row(table: &mut Table, told: [&str; 4], measured: &Measured) {
    let Measured { pings, transfer, neighbour } = measured;
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    let lost = f64::from(pings.sent - pings.received) / f64::from(pings.sent) * 100.0;
    let numbers = [
        ms(pings.mean),
        format!("{lost:.1} %"),
        format!("{:.2} Mbit/s", transfer.mbit_per_second()),
        format!("{} segments", transfer.retransmits),
        ms(neighbour.mean),
    ];
    let told = told.map(Cell::new);
    let numbers = numbers.map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
    table.add_row(told.into_iter().chain(numbers));
}

impl Stage {
    fn new() -> Result<Self> {
        let world = World::new()?;
        let containers = (world.container("web")?, world.container("db")?, world.container("cache")?);
        // /proc/sys/net is that of the thread which opens it.
        world
            .host()
            .enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
            .context("let the host forward")?;
        let (web, db, cache) = containers;
        for container in [&web, &db, &cache] {
            container.netns.run(&format!("ip route add default via {}", container.host_address))?;
        }
        Ok(Self { web, db, cache, world })
    }

    fn measure(&self, (count, interval): (u32, Duration)) -> Result<Measured> {
        Ok(Measured {
            neighbour: ping(&self.cache.netns, self.db.address, 20, ms(10), &[])?,
            pings: ping(&self.web.netns, self.db.address, count, interval, &[])?,
            transfer: tcp_bytes_for(&self.web.netns, &self.db.netns, self.db.address.into(), TCP.0, TCP.1)?,
        })
    }
}
