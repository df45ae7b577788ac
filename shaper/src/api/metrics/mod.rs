//! Metrics for Prometheus, at `/metrics`.
//!
//! The text is made of what the daemon shows at the moment of the scrape, and nothing is kept from one scrape to the next.

mod family;
mod scrape;
mod series;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::State,
    http::{
        HeaderMap,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse as _,
};
use prometheus_client::{
    encoding::{prometheus_text, text},
    registry::Registry,
};
use tokio::task::spawn_blocking;

use self::scrape::Scrape;
use super::{LargeAnswer, error::ApiError};
use crate::{clock::monotonic_ns, shaping::Shaper};

/// The clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// The time since the Unix epoch.
    unix: Duration,
    /// Nanoseconds of `CLOCK_MONOTONIC`, which deadlines go by.
    monotonic_ns: u64,
}

impl Moment {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { unix, monotonic_ns: monotonic_ns() }
    }

    /// Returns the seconds since the Unix epoch at the moment that the other clock calls `monotonic_ns`, to the nearest.
    fn unix_seconds_at(self, monotonic_ns: u64) -> u64 {
        let ahead = Duration::from_nanos(monotonic_ns.saturating_sub(self.monotonic_ns));
        let behind = Duration::from_nanos(self.monotonic_ns.saturating_sub(monotonic_ns));
        let at = self.unix.saturating_add(ahead).saturating_sub(behind);
        at.saturating_add(Duration::from_millis(500)).as_secs()
    }
}

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own text format, which `promtool` and files for the node exporter have.
    Plain,
}

impl Format {
    /// The format to answer in: OpenMetrics, unless the client takes plain text and does not know OpenMetrics.
    fn asked_for(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let kinds: Vec<_> = accepted.flat_map(|value| value.split(',')).map(media_type).collect();
        let takes = |kind: &str| kinds.iter().any(|one| one.eq_ignore_ascii_case(kind));
        match takes("text/plain") && !takes("application/openmetrics-text") {
            true => Self::Plain,
            false => Self::OpenMetrics,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => prometheus_text::CONTENT_TYPE,
        }
    }

    /// Writes all that is known.
    fn write(self, scrape: Scrape) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(scrape));
        let mut text = String::new();
        match self {
            Self::OpenMetrics => text::encode(&mut text, &registry)?,
            Self::Plain => prometheus_text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

/// `text/plain` of `text/plain;version=0.0.4;q=0.5`.
fn media_type(accepted: &str) -> &str {
    accepted.split(';').next().unwrap_or_default().trim()
}

pub(super) async fn get<S: Shaper>(State(shaper): State<Arc<S>>, headers: HeaderMap) -> LargeAnswer {
    let format = Format::asked_for(&headers);
    let (views, figures, is_ready) = (shaper.list().await, shaper.figures(), shaper.problem().is_none());
    let write = move || format.write(Scrape::new(views, figures, is_ready, Moment::now()));
    let written = spawn_blocking(write).await.map_err(|error| ApiError::failed(error.to_string()))?;
    let text =
        written.map_err(|_| ApiError::failed("write the metrics: a number is too large".to_owned()))?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

#[cfg(test)]
mod tests;
