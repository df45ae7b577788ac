//! Bottlenecks: their rate, and the longest wait in a queue of bounded length.

use std::time::Duration;

use anyhow::Result;
use shaper_tests::{
    frame::UDP_HEADERS,
    statistics::float,
    traffic::{Arrival, Datagrams},
};

use super::prober::{Prober, WIRE_BYTES};
use crate::{containers::Direction, table::Table};

/// Rates, in kbit/s.
const RATES_KBIT: [u32; 4] = [100, 1_000, 10_000, 100_000];
const SENT: u32 = 1_000;
const LIMITS: [u32; 3] = [10, 100, 1_000];

/// The table of rates.
pub(super) fn rates(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Error of a rate, in %",
        "1,000 datagrams (UDP) of 1,000 bytes on the wire, sent at once. The rate is that of all but the first one \
         from its arrival to the last one's.",
        &["rate", "netem", "shaper"],
    );
    for kbit in RATES_KBIT {
        let sent = Datagrams::at_once(SENT, WIRE_BYTES - UDP_HEADERS);
        let [netem, ours] = prober.alike(&format!("rate {kbit}kbit"), "limit 100000", |container| {
            Ok((kbit_per_second(&prober.arrivals(container, sent)?) / f64::from(kbit) - 1.0) * 100.0)
        })?;
        table.row(vec![format!("{kbit} kbit/s"), format!("{netem:+.4}"), format!("{ours:+.4}")]);
        table.at_most(&format!("{kbit} kbit/s, error, %"), ours.abs(), 0.1);
    }
    Ok(table)
}

fn kbit_per_second(arrivals: &[Arrival]) -> f64 {
    let [first, .., last] = arrivals else { return 0.0 };
    let bits = float((arrivals.len() - 1) as u64 * WIRE_BYTES as u64) * 8.0;
    bits / 1e3 / (last.at - first.at).as_secs_f64()
}

/// The table of waits.
pub(super) fn waits(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Longest wait for a bottleneck of 8 Mbit/s, in ms",
        "Datagrams (UDP) of 1,000 bytes on the wire, each of which the bottleneck carries for 1 ms, one each 0.5 ms, \
         five times as many as may wait. The longest wait is that of a packet that takes the last place. Half of \
         those that come once the queue is full are dropped.",
        &["words", "theory", "netem", "arrived", "shaper", "arrived"],
    );
    for limit in LIMITS {
        let words = format!("rate 8mbit limit {limit}");
        let interval = Duration::from_micros(500);
        let sent = Datagrams { interval, ..Datagrams::at_once(5 * limit, WIRE_BYTES - UDP_HEADERS) };
        prober.bench.netem.qdisc(&format!("netem {words}"));
        prober.bench.daemon.words(&["set", "web", "--netem", &words]);
        let [netem, ours] = [&prober.bench.netem, &prober.bench.web].map(|container| {
            let arrivals = prober.arrivals(container, sent)?;
            let longest = prober.delays_ms(&arrivals).into_iter().fold(0.0, f64::max);
            anyhow::Ok((longest, arrivals.len()))
        });
        let (netem, ours) = (netem?, ours?);
        prober.bench.clear(Direction::Egress)?;
        let mut row = vec![words.clone(), limit.to_string()];
        row.extend(
            [netem, ours].iter().flat_map(|(longest, count)| [format!("{longest:.3}"), count.to_string()]),
        );
        table.row(row);
        let off = (ours.0 - f64::from(limit)).abs();
        // A packet comes up to half a millisecond after a place has become free.
        table.at_most(&format!("{words}, longest wait, from theory, ms"), off, 1.0);
    }
    Ok(table)
}
