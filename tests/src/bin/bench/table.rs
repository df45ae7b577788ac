//! The findings of a bench.

use serde::Serialize;

/// Figures, and which of them have a bound.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    /// The subject of the measurement.
    title: String,
    /// The method, in a sentence or two.
    method: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    bounds: Vec<Bound>,
}

/// A figure that must not get worse than something.
#[derive(Debug, Serialize)]
struct Bound {
    what: String,
    measured: f64,
    limit: f64,
    held: bool,
}

impl Table {
    pub(crate) fn new(title: &str, method: &str, header: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            method: method.to_owned(),
            header: header.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
            bounds: Vec::new(),
        }
    }

    /// Adds a line, which is also shown at once.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        eprintln!("  {}", cells.join(" | "));
        self.rows.push(cells);
    }

    /// Notes that `measured` is to be at most `limit`.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, limit: f64) {
        self.bound(what, measured, limit, measured <= limit);
    }

    /// Notes that `measured` is to be at least `limit`.
    pub(crate) fn at_least(&mut self, what: &str, measured: f64, limit: f64) {
        self.bound(what, measured, limit, measured >= limit);
    }

    fn bound(&mut self, what: &str, measured: f64, limit: f64, held: bool) {
        if !held {
            eprintln!("  NOT HELD: {what}: {measured:.3}, limit {limit:.3}");
        }
        self.bounds.push(Bound { what: what.to_owned(), measured, limit, held });
    }
}

/// The middle one of some figures.
///
/// # Panics
///
/// When there are none.
pub(crate) fn median(figures: Vec<f64>) -> f64 {
    percentile(figures, 50)
}

/// The figure that `percent` of them are at most.
///
/// # Panics
///
/// When there are none.
pub(crate) fn percentile(mut figures: Vec<f64>, percent: usize) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() * percent / 100).min(figures.len() - 1)]
}
