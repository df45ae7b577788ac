//! Speaks Scope's plugin protocol: `GET /report` and `POST /control`.
//!
//! The probe asks for a report every second, gives up after half a second, and drops the whole plugin for a report that
//! is not perfect. So a report only shows what the daemon knows already and cannot fail. Knows the daemon as a
//! [`Shaper`]; must not know the other adapters, nor containers, networks and BPF.

mod controls;
mod nodes;
mod pieces;
mod report;

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};

pub(crate) use self::controls::Buttons;
use self::{controls::ControlRequest, report::Report};
use crate::shaping::Shaper;

/// The one version of the protocol there is.
const API_VERSION: &str = "1";

/// Whom the probe speaks to, with what it may press.
type Served<S> = (Arc<S>, Buttons);

/// Answers Scope's probe for `shaper`, which can be told by `buttons`.
pub(crate) fn router<S: Shaper>(shaper: Arc<S>, buttons: Buttons) -> Router {
    Router::new()
        .route("/report", get(get_report::<S>))
        .route("/control", post(post_control::<S>))
        .with_state((shaper, buttons))
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
    State((shaper, buttons)): State<Served<S>>,
    Query(probe): Query<Probe>,
) -> Result<Response, (StatusCode, String)> {
    probe.check()?;
    let pieces = pieces::pieces(shaper.list().await, buttons, probe.probe_id, SystemTime::now())
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("write the report: {error}")))?;
    let body = Body::from_stream(stream::iter(pieces));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// What became of a control; Scope shows the error beside the buttons, and the report at once.
#[derive(Serialize)]
#[serde(untagged)]
enum ControlAnswer {
    Done {
        // Scope reads this key only, whatever its documents say.
        #[serde(rename = "shortcutReport")]
        shortcut_report: Box<Report>,
    },
    Failed {
        error: String,
    },
}

async fn post_control<S: Shaper>(
    State((shaper, buttons)): State<Served<S>>,
    Query(probe): Query<Probe>,
    body: Bytes,
) -> Result<Response, (StatusCode, String)> {
    probe.check()?;
    let request: ControlRequest = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is no control request: {error}")))?;
    let answer = match controls::carry_out(&*shaper, buttons, &request).await {
        Ok(views) => {
            tracing::info!(node = request.node_id, control = request.control, "a control was carried out");
            let report = nodes::report(&views, buttons, &probe.probe_id, SystemTime::now());
            ControlAnswer::Done { shortcut_report: Box::new(report) }
        }
        Err(error) => {
            tracing::warn!(node = request.node_id, control = request.control, error, "a control failed");
            ControlAnswer::Failed { error }
        }
    };
    Ok(Json(answer).into_response())
}

#[cfg(test)]
mod tests;
