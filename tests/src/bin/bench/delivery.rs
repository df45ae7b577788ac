//! Delivery: every packet arrives or is counted as dropped, beside `netem`.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use shaper_tests::{tcx, world::Container};

use crate::{
    containers::Containers,
    datagrams::{Datagrams, Fate},
    table::Table,
};

const BURST: u32 = 100_000;
const ROUNDS: u32 = 30;
/// 5,000 datagrams per second.
const PACE: Duration = Duration::from_micros(200);

/// Both tables.
pub(crate) fn run() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    let mut changes = changes(&bench)?;
    losses_elsewhere(&Containers::on_clsact()?, "clsact", &mut changes)?;
    // Without TCX, the daemon puts its programs under clsact anyway.
    if tcx::programs("lo").is_some() {
        let lost = losses_elsewhere(&bench, "TCX", &mut changes)?;
        changes.at_most("loss to elsewhere on TCX: neither delivered nor counted", lost, 0.0);
    }
    Ok(vec![burst(&bench)?, changes])
}

/// The fate of the packets that were offered.
struct Account {
    offered: u32,
    fate: Fate,
    /// Dropped, as whoever dropped it says.
    counted: Option<u32>,
}

impl Account {
    fn missing(&self) -> f64 {
        f64::from(self.offered) - f64::from(self.fate.arrived) - f64::from(self.counted.unwrap_or(0))
    }

    fn cells(&self, way: &str) -> Vec<String> {
        let counted = self.counted.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let Self { offered, fate, .. } = self;
        let missing = format!("{:.0}", self.missing());
        vec![
            way.to_owned(),
            offered.to_string(),
            fate.arrived.to_string(),
            fate.again.to_string(),
            counted,
            missing,
        ]
    }
}

const HEADER: [&str; 6] = ["way", "offered", "delivered", "twice", "counted as dropped", "neither"];

fn burst(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "100,000 packets at once into 2 s of delay",
        "Datagrams (UDP, 64 bytes) from one socket in the container to one at the host, as fast as it can.",
        &HEADER,
    );
    for (way, limit) in [("netem, default limit (1,000)", ""), ("netem limit 200000", "limit 200000")] {
        bench.netem.netns.run(&format!("tc qdisc replace dev eth0 root netem delay 2s {limit}"))?;
        let fate = burst_of(bench, &bench.netem)?;
        let counted = Some(netem_dropped(bench)?);
        table.row(Account { offered: BURST, fate, counted }.cells(way));
        bench.netem.netns.run("tc qdisc del dev eth0 root")?;
    }
    bench.daemon.run("set web --latency 2s");
    let fate = burst_of(bench, &bench.web)?;
    let ours = Account { offered: BURST, fate, counted: Some(bench.dropped()?) };
    bench.daemon.run("clear web");
    table.row(ours.cells("shaper"));
    table.at_least("burst into 2 s, delivered", f64::from(fate.arrived), f64::from(BURST));
    table.at_most("burst into 2 s, delivered twice", f64::from(fate.again), 0.0);
    Ok(table)
}

fn changes(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Shaping that comes, changes and goes under load",
        "5,000 datagrams per second (UDP, 64 bytes) from the container to the host, meanwhile 30 rounds. Put on and \
         taken off: fq and clsact as `tc` adds and deletes them, with nothing that delays or drops; what is lost \
         then, the kernel loses while it exchanges a device's qdisc. Set, change, clear: 10 ms, then 20 ms, then \
         nothing; what waits in netem is freed with it. Changes with a loss: 10 ms and 1 %, then 20 ms and 1 %, and \
         the counters read at the end. Prepared: with `--prepare` beforehand, and no latency in place of clearing. Loss to \
         elsewhere: of packets to an address that none goes to, so that all \
         that is lost is lost by attaching and detaching.",
        &HEADER,
    );
    let tc = |line: &str| bench.netem.netns.run(line).map(drop);
    for [add, delete] in [["root fq", "root"], ["clsact", "clsact"]] {
        let bare = under_load(bench, &bench.netem, || {
            tc(&format!("tc qdisc add dev eth0 {add}"))?;
            tc(&format!("tc qdisc del dev eth0 {delete}"))
        })?;
        table.row(account(bare, None).cells(&format!("tc: {add} put on and taken off")));
    }
    let netem = under_load(bench, &bench.netem, || {
        tc("tc qdisc replace dev eth0 root netem delay 10ms limit 1000000")?;
        tc("tc qdisc change dev eth0 root netem delay 20ms limit 1000000")?;
        tc("tc qdisc del dev eth0 root")
    })?;
    table.row(account(netem, None).cells("netem: set, change, clear"));
    let ours = under_load(bench, &bench.web, || {
        bench.daemon.run("set web --latency 10ms");
        bench.daemon.run("set web --latency 20ms");
        bench.daemon.run("clear web");
        Ok(())
    })?;
    let ours = account(ours, Some(0));
    table.row(ours.cells("shaper: set, change, clear"));
    table.at_most("set, change, clear: neither delivered nor counted", ours.missing().abs(), 0.0);
    bench.daemon.run("set web --prepare");
    let prepared = under_load(bench, &bench.web, || {
        bench.daemon.run("set web --latency 10ms");
        bench.daemon.run("set web --latency 20ms");
        bench.daemon.run("set web --latency 0");
        Ok(())
    })?;
    bench.daemon.run("clear web");
    let prepared = account(prepared, Some(0));
    table.row(prepared.cells("shaper, prepared: set, change, none"));
    table.at_most("prepared: neither delivered nor counted", prepared.missing().abs(), 0.0);
    changes_with_loss(bench, &mut table)?;
    Ok(table)
}

/// Sets, changes and clears a loss of packets to elsewhere, of which there are none; returns how many were lost nonetheless.
fn losses_elsewhere(bench: &Containers, hook: &str, table: &mut Table) -> Result<f64> {
    let ours = under_load(bench, &bench.web, || {
        bench.daemon.run("set web --loss 100% --to 10.255.0.0/16");
        bench.daemon.run("set web --loss 50% --to 10.255.0.0/16");
        bench.daemon.run("clear web");
        Ok(())
    })?;
    let ours = account(ours, Some(0));
    table.row(ours.cells(&format!("shaper on {hook}: loss to elsewhere, set, change, clear")));
    Ok(ours.missing().abs())
}

fn changes_with_loss(bench: &Containers, table: &mut Table) -> Result<()> {
    let tc = |line: &str| bench.netem.netns.run(line).map(drop);
    let netem = under_load(bench, &bench.netem, || {
        tc("tc qdisc replace dev eth0 root netem delay 10ms loss 1% limit 1000000")?;
        tc("tc qdisc change dev eth0 root netem delay 20ms loss 1% limit 1000000")
    })?;
    table.row(account(netem, Some(netem_dropped(bench)?)).cells("netem: changes with a loss"));
    tc("tc qdisc del dev eth0 root")?;
    let ours = under_load(bench, &bench.web, || {
        bench.daemon.run("set web --latency 10ms --loss 1%");
        bench.daemon.run("set web --latency 20ms --loss 1%");
        Ok(())
    })?;
    let ours = account(ours, Some(bench.dropped()?));
    bench.daemon.run("clear web");
    table.row(ours.cells("shaper: changes with a loss"));
    table.at_most("changes with a loss: neither delivered nor counted", ours.missing().abs(), 0.0);
    Ok(())
}

fn account((offered, fate): (u32, Fate), counted: Option<u32>) -> Account {
    Account { offered, fate, counted }
}

fn burst_of(bench: &Containers, container: &Container) -> Result<Fate> {
    let datagrams = Datagrams::new(container, &bench.world)?;
    for number in 0..BURST {
        datagrams.send(number)?;
    }
    datagrams.fate(BURST, Duration::from_secs(4))
}

/// Sends at a steady pace during all rounds, and gives how many were sent and what became of them.
fn under_load(
    bench: &Containers,
    container: &Container,
    round: impl Fn() -> Result<()>,
) -> Result<(u32, Fate)> {
    let datagrams = Datagrams::new(container, &bench.world)?;
    let (over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let copies = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&datagrams, &sent, &over));
        // Meanwhile, as no buffer holds what is sent in all rounds.
        let receiver =
            scope.spawn(|| datagrams.copies_while(|| !over.load(Ordering::Relaxed), Duration::from_secs(1)));
        let rounds: Result<()> = (0..ROUNDS).try_for_each(|_| {
            round()?;
            // So that the next one begins under load, too.
            thread::sleep(Duration::from_millis(5));
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        sender.join().expect("it does not panic")?;
        let copies = receiver.join().expect("it does not panic");
        rounds.and(copies)
    })?;
    Ok((sent.into_inner(), Fate::of(&copies)?))
}

fn send(datagrams: &Datagrams, sent: &AtomicU32, over: &AtomicBool) -> Result<()> {
    let begin = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let due = begin + number * PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        datagrams.send(number)?;
    }
    Ok(())
}

/// Returns the packets that the container's netem says it dropped, by chance or for want of room.
fn netem_dropped(bench: &Containers) -> Result<u32> {
    let statistics = bench.netem.netns.run("tc -s qdisc show dev eth0")?;
    let (_, dropped) = statistics.split_once("(dropped ").context("tc shows what was dropped")?;
    dropped.split(',').next().unwrap_or_default().parse().context("read what was dropped")
}

impl Containers {
    /// Returns the packets that the daemon counts as dropped, by loss or by the queue.
    fn dropped(&self) -> Result<u32> {
        let interface = &self.daemon.view("web")["interfaces"][0];
        let counts = [&interface["lost"]["packets"], &interface["queue"]["dropped"]];
        let counts = counts.map(|count| count.as_u64().context("the daemon counts"));
        let [lost, queue] = counts;
        Ok(u32::try_from(lost? + queue?)?)
    }
}
