//! Speaks Scope's plugin protocol: `GET /report` and `POST /control`.
//!
//! The probe asks for a report every second, gives up after half a second, and drops the whole plugin for a report that
//! is not perfect. So a report only shows what the daemon knows already and cannot fail. Knows the daemon as a
//! [`Shaper`]; must not know the other adapters, nor containers, networks and BPF.

mod buttons;
mod controls;
mod networks;
mod nodes;
mod recent;
mod report;
mod reports;
mod rows;
mod templates;

use std::{
    io,
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;

pub(crate) use self::buttons::Buttons;
use self::{
    controls::ControlRequest,
    networks::Networks,
    nodes::Nodes,
    report::Report,
    reports::{Reporter, Reports},
};
use crate::shaping::Shaper;

/// The one version of the protocol there is.
const API_VERSION: &str = "1";

/// Answers Scope's probe for `shaper`, which can be told by `buttons`.
pub(crate) fn router<S: Shaper>(shaper: Arc<S>, buttons: Buttons) -> Router {
    let reporter = Arc::new(Reporter::new(buttons, Networks::of(shaper.presets())));
    let reports = Arc::new(Reports::new(Arc::clone(&shaper), Arc::clone(&reporter)));
    let report = get(get_report::<S>).with_state(reports);
    let control = post(post_control::<S>).with_state((shaper, buttons, reporter));
    Router::new().route("/report", report).route("/control", control)
}

/// Who asks.
#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    probe_id: String,
}

impl Probe {
    fn check(&self) -> Result<(), (StatusCode, String)> {
        let version = &self.api_version;
        if version == API_VERSION {
            return Ok(());
        }
        Err((
            StatusCode::BAD_REQUEST,
            format!(
                "api_version {version:?} is not spoken here: ask with ?api_version={API_VERSION}&probe_id=..."
            ),
        ))
    }
}

async fn get_report<S: Shaper>(
    State(reports): State<Arc<Reports<S>>>,
    Query(probe): Query<Probe>,
    headers: HeaderMap,
) -> Result<Response, (StatusCode, String)> {
    let asked = Instant::now();
    probe.check()?;
    let failed = |error: io::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("write the report: {error}"));
    let made = reports.ask(&probe.probe_id).await.map_err(failed)?;
    tokio::time::sleep_until((asked + made.hold).into()).await;
    let json = (CONTENT_TYPE, "application/json");
    if takes_gzip(&headers) {
        return Ok(([json, (CONTENT_ENCODING, "gzip")], made.gzip()).into_response());
    }
    Ok(([json], made.plain().map_err(failed)?).into_response())
}

/// Tells whether the client asks for gzip, as Go's does; no client asks with weights for what has one encoding.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    encodings.flat_map(|value| value.split(',')).any(|encoding| encoding.trim() == "gzip")
}

/// The outcome of a control; Scope shows the error beside the buttons, and the report at once.
#[derive(Serialize)]
#[serde(untagged)]
enum ControlAnswer<'a, 'b> {
    Done {
        // Scope reads this key only, whatever its documents say.
        #[serde(rename = "shortcutReport")]
        shortcut_report: &'a Report<Nodes<'b>>,
    },
    Failed {
        error: String,
    },
}

async fn post_control<S: Shaper>(
    State((shaper, buttons, reporter)): State<(Arc<S>, Buttons, Arc<Reporter>)>,
    Query(probe): Query<Probe>,
    body: Bytes,
) -> Result<Response, (StatusCode, String)> {
    probe.check()?;
    let request: ControlRequest = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is not a control request: {error}")))?;
    // All that is logged in its course says so, also when the probe has given up by then.
    let span = tracing::info_span!("control", id = request.control, node = request.node_id);
    match controls::carry_out(&shaper, buttons, &request).instrument(span).await {
        Ok(views) => {
            let (problem, now) = (shaper.problem(), SystemTime::now());
            Ok(reporter.report(&views, problem.as_ref(), &probe.probe_id, now, |report| {
                Json(ControlAnswer::Done { shortcut_report: report }).into_response()
            }))
        }
        Err(error) => Ok(Json(ControlAnswer::Failed { error }).into_response()),
    }
}

#[cfg(test)]
mod tests;
