//! The accuracy of every effect, beside `netem` and theory.

mod distribution;
mod jitter;
mod losses;
mod order;
mod prober;
mod rate;
mod shares;
mod slots;

use anyhow::Result;

use crate::{
    containers::{Containers, Direction},
    goodput::{Case, case, goodputs},
    table::Table,
    truth::prober::Prober,
};

/// One stream and many.
const STREAMS: [Case; 2] = [case(50, 1, 1_000, 1_000), case(50, 16, 1_200, 400)];

/// All tables.
pub(crate) fn run() -> Result<Vec<Table>> {
    let bench = Containers::new()?;
    let prober = Prober::new(&bench)?;
    let mut tables = vec![
        jitter::distributions(&prober)?,
        jitter::by_rate(&prober)?,
        jitter::correlations(&prober)?,
        losses::models(&bench)?,
        shares::shares(&prober)?,
        shares::overtakers(&prober)?,
        slots::gaps(&prober)?,
        rate::rates(&prober)?,
        rate::waits(&prober)?,
        order::kept(&prober)?,
    ];
    for direction in [Direction::Egress, Direction::Ingress] {
        let method = "What the receivers read in 1 s (one stream) or 0.4 s, once all connections have been sending \
                      for 1 or 1.2 s. Medians of three rounds, interleaved, and the least and the greatest. Sixteen \
                      streams are as many as the emulated processor carries, so that those rows exclude gross errors \
                      only.";
        tables.push(goodputs(&bench, direction, &STREAMS, method)?);
    }
    Ok(tables)
}
