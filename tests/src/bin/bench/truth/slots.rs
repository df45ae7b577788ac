//! Slots: the time from one bunch of packets to the next.

use anyhow::Result;
use shaper_tests::{
    ms,
    statistics::{deviation, float, mean},
    traffic::{Arrival, Datagrams},
};

use super::{
    jitter::{percent_off, three},
    prober::Prober,
};
use crate::table::Table;

/// The number of slots that are looked at.
const SLOTS: u32 = 1_000;
/// The time between two packets beyond which they are in different bunches.
const APART_MS: u64 = 1;

/// Slots of so many packets, the mean time between them and its standard deviation, in ms.
struct Case {
    words: &'static str,
    packets: u32,
    mean: f64,
    deviation: f64,
}

/// The slots that were seen.
struct Seen {
    mean: f64,
    deviation: f64,
    packets: f64,
}

/// The table of gaps between slots.
pub(super) fn gaps(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Time between slots, in ms",
        "Datagrams (UDP, 100 bytes) for 1,000 slots, sent at once. Mean and standard deviation of the time from the \
         first packet of a bunch to that of the next one, and the mean number of packets in one.",
        &["slots", "theory mean", "sd", "netem mean", "sd", "packets", "shaper mean", "sd", "packets"],
    );
    let root = 12.0_f64.sqrt();
    let cases = [
        Case { words: "slot 10ms 10ms packets 5", packets: 5, mean: 10.0, deviation: 0.0 },
        Case { words: "slot 5ms 15ms packets 8", packets: 8, mean: 10.0, deviation: 10.0 / root },
        Case { words: "slot 2ms 30ms packets 1", packets: 1, mean: 16.0, deviation: 28.0 / root },
        Case { words: "slot distribution normal 20ms 2ms packets 2", packets: 2, mean: 20.0, deviation: 2.0 },
    ];
    for Case { words, packets, mean, deviation } in cases {
        let sent = Datagrams::at_once(SLOTS * packets, 100);
        let [netem, ours] =
            prober.alike(words, "", |container| Ok(seen(&prober.arrivals(container, sent)?)))?;
        let mut row = vec![words.to_owned(), three(mean), three(deviation)];
        for seen in [&netem, &ours] {
            row.extend([three(seen.mean), three(seen.deviation), format!("{:.2}", seen.packets)]);
        }
        table.row(row);
        // Of a thousand, three standard errors.
        let chance = 3.0 * deviation / f64::from(SLOTS).sqrt() / mean * 100.0;
        let off = percent_off(ours.mean, mean);
        table.at_most(&format!("{words}, error of the mean, %"), off, 0.5 + chance);
        let off = (ours.deviation - deviation).abs();
        table.at_most(&format!("{words}, error of the standard deviation, ms"), off, 0.05 + 0.1 * deviation);
        table.at_least(&format!("{words}, packets in a slot"), ours.packets, f64::from(packets) * 0.99);
    }
    Ok(table)
}

fn seen(arrivals: &[Arrival]) -> Seen {
    let bunches: Vec<_> =
        arrivals.chunk_by(|one, next| next.at.saturating_sub(one.at) < ms(APART_MS)).collect();
    let gap = |pair: &[&[Arrival]]| (pair[1][0].at - pair[0][0].at).as_secs_f64() * 1e3;
    let gaps: Vec<f64> = bunches.windows(2).map(gap).collect();
    let packets = float(arrivals.len() as u64) / float(bunches.len() as u64);
    Seen { mean: mean(&gaps), deviation: deviation(&gaps), packets }
}
