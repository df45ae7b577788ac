//! Jitter that keeps the order: its mean and spread at any rate of packets.

use std::time::Duration;

use anyhow::Result;
use shaper_tests::{
    statistics::{deviation, float, mean},
    traffic::Datagrams,
    world::Container,
};

use super::{
    jitter::{percent_off, three},
    prober::{Prober, late, steadily},
};
use crate::table::Table;

/// A delay with a jitter, in ms, and the standard deviation that it is to have.
struct Case {
    words: &'static str,
    delay: f64,
    jitter: f64,
    deviation: f64,
}

/// Packets per second, and how many of them are sent.
const RATES: [(u32, u32); 4] = [(5, 2_000), (50, 4_000), (1_000, 20_000), (20_000, 100_000)];
/// Each packet draws for itself where netem delays them, so that fewer will do.
const NETEM_MOST: u32 = 20_000;

/// The findings through one container.
struct Found {
    mean: f64,
    deviation: f64,
    late: f64,
    count: f64,
}

/// The table of ordered jitter.
pub(super) fn kept(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Jitter in order, in ms",
        "2,000 datagrams (UDP, 100 bytes) at 5 packets per second, 4,000 at 50, 20,000 at 1,000 and 100,000 at 20,000 \
         (20,000 through netem). Shaper's default, without `reordering`: a random delay holds for two to four times \
         the jitter. Late is the share of packets that arrive after one that was sent later. The last column is the \
         number of independent delays among shaper's. Bounds of shaper: mean within 2 %, standard deviation within 15 \
         %, and three standard errors of so many; none late.",
        &[
            "words",
            "packets/s",
            "theory sd",
            "netem mean",
            "sd",
            "late",
            "shaper mean",
            "sd",
            "late",
            "draws",
        ],
    );
    let root = 3.0_f64.sqrt();
    let cases = [
        Case { words: "delay 20ms 4ms", delay: 20.0, jitter: 4.0, deviation: 4.0 / root },
        Case { words: "delay 10ms 8ms", delay: 10.0, jitter: 8.0, deviation: 8.0 / root },
        Case { words: "delay 50ms 5ms distribution normal", delay: 50.0, jitter: 5.0, deviation: 5.0 },
    ];
    for case in &cases {
        for (rate, count) in RATES {
            measure(prober, &mut table, case, rate, count)?;
        }
    }
    Ok(table)
}

fn measure(prober: &Prober<'_>, table: &mut Table, case: &Case, rate: u32, count: u32) -> Result<()> {
    let sent = steadily(count, Duration::from_secs(1) / rate);
    let [netem, ours] = prober.alike(case.words, "", |container| {
        let is_netem = container.name == prober.bench.netem.name;
        let count = if is_netem { count.min(NETEM_MOST) } else { count };
        found(prober, container, Datagrams { count, ..sent })
    })?;
    let seconds = f64::from(count) / f64::from(rate);
    let draws = (seconds * 1e3 / (3.0 * case.jitter)).min(f64::from(count));
    let mut row = vec![case.words.to_owned(), rate.to_string(), three(case.deviation)];
    for found in [&netem, &ours] {
        row.extend([three(found.mean), three(found.deviation), format!("{:.2} %", found.late * 100.0)]);
    }
    row.push(format!("{draws:.0}"));
    table.row(row);
    let what = format!("{}, {rate} packets/s", case.words);
    // Three standard errors of the mean, and at most those of a normal distribution's standard deviation.
    let (of_mean, of_deviation) =
        (3.0 * case.deviation / draws.sqrt() / case.delay, 3.0 / (2.0 * draws).sqrt());
    let off = percent_off(ours.mean, case.delay);
    table.at_most(&format!("{what}, error of the mean, %"), off, 2.0 + of_mean * 100.0);
    let off = percent_off(ours.deviation, case.deviation);
    table.at_most(&format!("{what}, error of the standard deviation, %"), off, 15.0 + of_deviation * 100.0);
    table.at_most(&format!("{what}, late"), ours.late, 0.0);
    table.at_least(&format!("{what}, arrived"), ours.count, f64::from(count));
    Ok(())
}

fn found(prober: &Prober<'_>, container: &Container, sent: Datagrams) -> Result<Found> {
    let arrivals = prober.arrivals(container, sent)?;
    let delays = prober.delays_ms(&arrivals);
    let (late, count) = (late(&arrivals), float(arrivals.len() as u64));
    Ok(Found { mean: mean(&delays), deviation: deviation(&delays), late, count })
}
