//! Shapes of random times: netem's own, tables in netem's format, and files of measured samples.

use std::sync::Arc;

/// The shape of a random time about a mean, in units of its spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// `uniform`: any time within the spread of the mean, as netem draws without a table.
    Uniform,
    /// `normal`.
    Normal,
    /// `pareto`.
    Pareto,
    /// `paretonormal`: a quarter normal, three quarters pareto.
    ParetoNormal,
    /// A table of its own.
    Table {
        /// What it is called.
        name: String,
        /// Its entries, in which [`shaper_common::plan::DISTRIBUTION_SCALE`] stands for one standard deviation.
        entries: Arc<[i32]>,
    },
}
