//! Losses that depend on one another: their share, and how many there are in a row.

use anyhow::Result;
use shaper_tests::{
    ms,
    statistics::{Chain, all_runs, autocorrelation, count, deviation, float, mean, numbers},
    world::Container,
};

use crate::{
    containers::{Containers, Direction},
    datagrams::{Datagrams, breathe},
    table::Table,
};

const SENT: u32 = 100_000;
/// The number of standard deviations within which 99.9 % of a normal distribution lie.
const DEVIATIONS: f64 = 3.29;

/// A way to lose packets, and its theory.
struct Model {
    words: String,
    share: f64,
    /// The standard deviation of the share among [`SENT`].
    share_deviation: f64,
    /// The mean number in a row.
    burst: f64,
}

impl Model {
    fn new<const N: usize>(words: String, chain: &Chain<N>) -> Self {
        let (share, share_deviation) = chain.rate(SENT as usize);
        Self { words, share, share_deviation, burst: chain.mean_burst() }
    }

    /// Losses of that share, each of which is as the one before with the probability `correlation`.
    fn correlated(share: f64, correlation: f64) -> Self {
        let (again, anew) = (share + correlation * (1.0 - share), share * (1.0 - correlation));
        let chain = Chain { steps: [[1.0 - anew, anew], [1.0 - again, again]], loses: [0.0, 1.0] };
        Self::new(format!("loss {}% {}%", share * 100.0, correlation * 100.0), &chain)
    }

    fn gilbert_elliott([p, r, bad, good]: [f64; 4]) -> Self {
        let chain = Chain { steps: [[1.0 - p, p], [r, 1.0 - r]], loses: [good, bad] };
        let [p, r, bad, good] = [p, r, bad, good].map(percent);
        Self::new(format!("loss gemodel {p} {r} {bad} {good}"), &chain)
    }

    /// The four states are: nothing is lost; nothing is lost, in a burst; lost in a burst; lost alone.
    fn four_states([p13, p31, p32, p23, p14]: [f64; 5]) -> Self {
        let steps = [
            [1.0 - p13 - p14, 0.0, p13, p14],
            [0.0, 1.0 - p23, p23, 0.0],
            [p31, p32, 1.0 - p31 - p32, 0.0],
            [1.0, 0.0, 0.0, 0.0],
        ];
        let [p13, p31, p32, p23, p14] = [p13, p31, p32, p23, p14].map(percent);
        let words = format!("loss state {p13} {p31} {p32} {p23} {p14}");
        Self::new(words, &Chain { steps, loses: [0.0, 0.0, 1.0, 1.0] })
    }

    /// Returns the correlation of a loss and the next one, which share and mean run tell.
    fn correlation(&self) -> f64 {
        (1.0 - 1.0 / self.burst - self.share) / (1.0 - self.share)
    }
}

/// The table of all models.
pub(super) fn models(bench: &Containers) -> Result<Table> {
    let mut table = Table::new(
        "Losses that depend on one another",
        "100,000 datagrams (UDP, 64 bytes), as fast as they can be sent. The share that did not arrive; the mean \
         number lost in a row (burst); and the correlation (corr) of a loss and the next one. Bounds allow for \
         chance: 99.9 % of true samples keep each.",
        &[
            "model",
            "theory lost",
            "burst",
            "corr",
            "netem lost",
            "burst",
            "corr",
            "shaper lost",
            "burst",
            "corr",
        ],
    );
    let models = [
        Model::correlated(0.1, 0.25),
        Model::correlated(0.1, 0.5),
        Model::correlated(0.1, 0.75),
        Model::correlated(0.5, 0.9),
        Model::gilbert_elliott([0.01, 0.1, 1.0, 0.0]),
        Model::gilbert_elliott([0.05, 0.3, 0.7, 0.01]),
        Model::four_states([0.03, 0.1, 0.3, 0.4, 0.02]),
        Model::four_states([0.01, 0.25, 0.05, 0.2, 0.005]),
    ];
    for model in &models {
        bench.shape_alike(&model.words, "")?;
        let measured = [losses(bench, &bench.netem)?, losses(bench, &bench.web)?];
        bench.clear(Direction::Egress)?;
        let mut row = vec![model.words.clone()];
        row.extend(cells(model.share, model.burst, model.correlation()));
        for lost in &measured {
            row.extend(match count(lost) {
                0 => ["0".to_owned(), "-".to_owned(), "-".to_owned()],
                _ => cells(share(lost), mean(&all_runs(lost)), autocorrelation(&numbers(lost))),
            });
        }
        table.row(row);
        bounds(&mut table, model, &measured[1]);
    }
    Ok(table)
}

fn bounds(table: &mut Table, model: &Model, lost: &[bool]) {
    let (words, bursts) = (&model.words, all_runs(lost));
    let off = (share(lost) - model.share).abs();
    table.at_most(&format!("{words}, share lost, from theory"), off, DEVIATIONS * model.share_deviation);
    let slack = DEVIATIONS * deviation(&bursts) / float(bursts.len() as u64).sqrt();
    table.at_most(&format!("{words}, mean burst, from theory"), (mean(&bursts) - model.burst).abs(), slack);
}

/// Returns for each datagram whether it was lost.
fn losses(bench: &Containers, container: &Container) -> Result<Vec<bool>> {
    let datagrams = Datagrams::new(container, &bench.world)?;
    for number in 0..SENT {
        breathe(number);
        datagrams.send(number)?;
    }
    Ok(datagrams.copies(SENT, ms(500))?.into_iter().map(|copies| copies == 0).collect())
}

fn share(lost: &[bool]) -> f64 {
    float(count(lost) as u64) / float(lost.len() as u64)
}

fn cells(share: f64, burst: f64, correlation: f64) -> [String; 3] {
    [format!("{:.3} %", share * 100.0), format!("{burst:.3}"), format!("{correlation:.3}")]
}

fn percent(share: f64) -> String {
    format!("{}%", share * 100.0)
}
