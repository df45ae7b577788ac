//! Jitter that each packet draws for itself: its distribution, at any rate of packets, and its correlation.

use std::time::Duration;

use anyhow::Result;
use shaper_tests::{
    ms,
    statistics::{autocorrelation, deviation, float, mean},
    traffic::Datagrams,
};

use super::{
    distribution::Distribution,
    prober::{Prober, late, steadily},
};
use crate::table::Table;

const SENT: Datagrams = steadily(20_000, ms(1));
const DELAY_MS: f64 = 100.0;
const JITTER_MS: f64 = 20.0;
/// The critical value of Kolmogorov's distribution at 1 %.
const KOLMOGOROV: f64 = 1.628;

/// The table of distributions.
pub(super) fn distributions(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Distribution of independent delays, in ms",
        "20,000 datagrams (UDP, 100 bytes), one each millisecond, through a delay of 100 ms with a jitter of 20 ms, \
         which each packet draws for itself (shaper: `reordering`). Delays are from before a datagram is sent until \
         the host's kernel has it, less what one takes through a bare veth. Theory is what iproute2's tables are made \
         of, cut off as they are. KS is the greatest distance between the distributions (Kolmogorov-Smirnov), beyond \
         0.0115 for one in a hundred true samples.",
        &["jitter", "theory mean", "sd", "netem mean", "sd", "KS", "shaper mean", "sd", "KS"],
    );
    for theory in Distribution::all() {
        let words = format!("delay {DELAY_MS}ms {JITTER_MS}ms{}", shape_of(theory.name));
        let measured = prober.alike(&words, "reordering", |container| {
            Ok(prober.delays_ms(&prober.arrivals(container, SENT)?))
        })?;
        let (asked_mean, asked_sd) = (DELAY_MS + JITTER_MS * theory.mean(), JITTER_MS * theory.deviation());
        let mut row = vec![theory.name.to_owned(), three(asked_mean), three(asked_sd)];
        let mut last = [0.0; 4];
        for delays in measured {
            let (mean, sd, count) = (mean(&delays), deviation(&delays), float(delays.len() as u64));
            let distance = theory.distance(delays.iter().map(|delay| (delay - DELAY_MS) / JITTER_MS));
            row.extend([three(mean), three(sd), format!("{distance:.4}")]);
            last = [mean, sd, distance, count];
        }
        table.row(row);
        let [mean, sd, distance, count] = last;
        let what = theory.name;
        table.at_most(&format!("{what}, error of the mean, %"), percent_off(mean, asked_mean), 1.0);
        table.at_most(&format!("{what}, error of the standard deviation, %"), percent_off(sd, asked_sd), 3.0);
        table.at_most(&format!("{what}, KS distance"), distance, KOLMOGOROV / count.sqrt());
        table.at_least(&format!("{what}, arrived"), count, f64::from(SENT.count));
    }
    Ok(table)
}

/// The table of uniform delays by the rate of packets.
pub(super) fn by_rate(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Independent delays by the rate of packets, in ms",
        "Timed as above, 4,000 datagrams of one socket at each rate, through `delay 100ms 50ms` (shaper: \
         `reordering`). Late is the share of packets that arrive after one that was sent later.",
        &["packets/s", "theory sd", "netem mean", "sd", "KS", "late", "shaper mean", "sd", "KS", "late"],
    );
    let [uniform, ..] = Distribution::all();
    let (jitter_ms, count) = (50.0, 4_000);
    let asked_sd = jitter_ms * uniform.deviation();
    for rate in [5, 20, 50, 200, 1_000] {
        let sent = steadily(count, Duration::from_secs(1) / rate);
        let words = format!("delay {DELAY_MS}ms {jitter_ms}ms");
        let measured = prober.alike(&words, "reordering", |container| {
            let arrivals = prober.arrivals(container, sent)?;
            Ok((prober.delays_ms(&arrivals), late(&arrivals)))
        })?;
        let mut row = vec![rate.to_string(), three(asked_sd)];
        let mut last = [0.0; 2];
        for (delays, late) in measured {
            let mean = mean(&delays);
            row.extend([three(mean), three(deviation(&delays))]);
            let distance = uniform.distance(delays.iter().map(|delay| (delay - DELAY_MS) / jitter_ms));
            row.extend([format!("{distance:.4}"), format!("{:.2} %", late * 100.0)]);
            last = [mean, distance];
        }
        table.row(row);
        let [mean, distance] = last;
        let what = format!("independent delays, {rate} packets/s");
        table.at_most(&format!("{what}, error of the mean, %"), percent_off(mean, DELAY_MS), 2.0);
        let bound = KOLMOGOROV / f64::from(count).sqrt();
        table.at_most(&format!("{what}, KS distance"), distance, bound);
    }
    Ok(table)
}

/// The table of correlations.
pub(super) fn correlations(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Correlation of delays",
        "10,000 datagrams each, timed as above, one each millisecond. The correlation is that between the delay of a \
         packet and of the one sent after it, the standard deviation (sd) in ms.",
        &["jitter", "asked", "theory sd", "netem", "sd", "shaper", "sd"],
    );
    let [uniform, normal, ..] = Distribution::all();
    for theory in [uniform, normal] {
        for percent in [25.0, 50.0, 75.0, 90.0] {
            let words = format!("delay {DELAY_MS}ms {JITTER_MS}ms {percent}%{}", shape_of(theory.name));
            let [netem, ours] = prober.alike(&words, "reordering", |container| {
                let sent = Datagrams { count: 10_000, ..SENT };
                let delays = prober.delays_ms(&prober.arrivals(container, sent)?);
                Ok((autocorrelation(&delays), deviation(&delays)))
            })?;
            let asked_sd = JITTER_MS * theory.deviation();
            let mut row = vec![theory.name.to_owned(), three(percent / 100.0), three(asked_sd)];
            row.extend([netem, ours].iter().flat_map(|(correlation, sd)| [three(*correlation), three(*sd)]));
            table.row(row);
            let what = format!("{}, {percent} %", theory.name);
            table.at_most(
                &format!("{what}, error of the correlation"),
                (ours.0 - percent / 100.0).abs(),
                0.04,
            );
            let sd = format!("{what}, error of the standard deviation, %");
            table.at_most(&sd, percent_off(ours.1, asked_sd), 15.0);
        }
    }
    Ok(table)
}

/// Returns the words for a distribution, of which uniform ones have none in `tc`.
fn shape_of(name: &str) -> String {
    if name == "uniform" { String::new() } else { format!(" distribution {name}") }
}

/// Returns the difference from what was asked, in per cent of that.
pub(super) fn percent_off(measured: f64, asked: f64) -> f64 {
    (measured / asked - 1.0).abs() * 100.0
}

/// Writes a number with three decimals.
pub(super) fn three(number: f64) -> String {
    format!("{number:.3}")
}
