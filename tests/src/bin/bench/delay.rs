//! The accuracy of a delay, beside `netem`'s.

use std::time::Duration;

use anyhow::Result;
use shaper_tests::world::Container;

use crate::{
    containers::{Containers, Direction},
    echo::Echo,
    table::{Table, median},
};

const ROUNDS: usize = 5;
const DELAYS_MS: [u32; 6] = [1, 10, 50, 100, 500, 2000];
const REQUESTS: u32 = 1_000;
/// No delay is a multiple: else each answer would come just when a request is sent.
const INTERVAL: Duration = Duration::from_micros(9_700);
/// The clock counts instructions, of which reading it takes some dozens, once for each end of a round trip.
const CLOCK_NS: f64 = 100.0;

/// The deviations of the round trips of one round from what was asked, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Errors {
    mean: f64,
    deviation: f64,
    farthest: f64,
}

/// The table of delays.
pub(crate) fn run() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    let mut table = Table::new(
        "Error of a delay, in µs",
        "1,000 echo requests (ICMP) from a raw socket in the container, one each 9.7 ms whether or not there were \
         answers; the host's kernel answers at once. A round trip is timed to the nanosecond from before the request \
         is sent until the answer is received, so that waking up the prober is part of it, through netem as through \
         shaper. Its error is what it took longer than the mean of 1,000 unshaped ones in the same round, and than \
         what was asked. Five rounds, interleaved: medians, and the least and the greatest error of the mean. The \
         bound of the mean allows for 0.1 µs that reading the clock takes.",
        &["delay", "unshaped RTT", "netem mean", "sd", "max", "shaper mean", "sd", "max"],
    );
    for delay_ms in DELAYS_MS {
        measure(&bench, &mut table, delay_ms)?;
    }
    Ok(vec![table])
}

fn measure(bench: &Containers, table: &mut Table, delay_ms: u32) -> Result<()> {
    let delay = format!("{delay_ms}ms");
    bench.shape(Direction::Egress, &format!("delay {delay}"), &format!("--latency {delay}"))?;
    let (mut unshaped, mut netem, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let base = mean(&round_trips(&bench.bare)?);
        unshaped.push(base);
        let asked = base + f64::from(delay_ms) * 1e6;
        netem.push(errors(&round_trips(&bench.netem)?, asked));
        ours.push(errors(&round_trips(&bench.web)?, asked));
    }
    bench.clear(Direction::Egress)?;
    let mut row = vec![format!("{delay_ms} ms"), micros(median(unshaped))];
    row.extend(cells(&netem).into_iter().chain(cells(&ours)));
    table.row(row);
    let [netem, ours] = [netem, ours].map(|rounds| middle(&rounds));
    table.at_most(&format!("{delay}, error of the mean, ns"), ours.mean.abs(), netem.mean.abs() + CLOCK_NS);
    table.at_most(&format!("{delay}, standard deviation, ns"), ours.deviation, netem.deviation);
    table.at_most(&format!("{delay}, greatest error, ns"), ours.farthest, netem.farthest);
    Ok(())
}

fn round_trips(container: &Container) -> Result<Vec<f64>> {
    Echo::new(container)?.round_trips(REQUESTS, INTERVAL)
}

#[expect(clippy::cast_precision_loss, reason = "there are a thousand")]
fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

fn errors(round_trips: &[f64], asked: f64) -> Errors {
    let all = mean(round_trips);
    let squares: Vec<_> = round_trips.iter().map(|time| (time - all).powi(2)).collect();
    Errors {
        mean: all - asked,
        deviation: mean(&squares).sqrt(),
        farthest: round_trips.iter().map(|time| (time - asked).abs()).fold(0.0, f64::max),
    }
}

fn middle(rounds: &[Errors]) -> Errors {
    let of = |figure: fn(&Errors) -> f64| median(rounds.iter().map(figure).collect());
    Errors {
        mean: of(|round| round.mean),
        deviation: of(|round| round.deviation),
        farthest: of(|round| round.farthest),
    }
}

fn cells(rounds: &[Errors]) -> [String; 3] {
    let least = rounds.iter().map(|round| round.mean).fold(f64::INFINITY, f64::min);
    let greatest = rounds.iter().map(|round| round.mean).fold(f64::NEG_INFINITY, f64::max);
    let Errors { mean, deviation, farthest } = middle(rounds);
    [
        format!("{:+.2} ({:+.2} .. {:+.2})", mean / 1e3, least / 1e3, greatest / 1e3),
        micros(deviation),
        micros(farthest),
    ]
}

fn micros(nanoseconds: f64) -> String {
    format!("{:.2}", nanoseconds / 1e3)
}
