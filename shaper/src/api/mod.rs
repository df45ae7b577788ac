//! Speaks our own HTTP API, under `/api/v1`; the commands of [`crate::cli`] use it.
//!
//! Knows the daemon as a [`Shaper`]; must not know the other adapters, nor containers, networks and BPF.

mod error;
mod input;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    http::Method,
    response::{IntoResponse as _, Response},
    routing::{get, put},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use self::{error::ApiError, input::ShapingInput};
use crate::shaping::{Preset, Request, Shaper, Status, short};

/// Answers people and scripts for `shaper`, whatever they ask for: paths that nobody knows, too.
pub(crate) fn router<S: Shaper>(shaper: Arc<S>) -> Router {
    let routes = Router::new()
        .route("/version", get(version))
        .route("/status", get(status::<S>))
        .route("/presets", get(presets::<S>))
        .route("/containers", get(list::<S>))
        .route("/containers/{name}", get(inspect::<S>))
        .route("/containers/{name}/shaping", put(set::<S>).delete(clear::<S>))
        .method_not_allowed_fallback(unknown_method)
        .with_state(Arc::clone(&shaper));
    let probes = Router::new()
        .route("/healthz", get(liveness::<S>))
        .route("/readyz", get(readiness::<S>))
        .method_not_allowed_fallback(unknown_method)
        .with_state(shaper);
    probes.nest("/api/v1", routes).fallback(unknown_route)
}

type Answer<T> = Result<Json<T>, ApiError>;
/// An answer of any size.
type LargeAnswer = Result<Response, ApiError>;
type Name = Result<Path<String>, PathRejection>;

async fn version() -> Json<Value> {
    Json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}

async fn status<S: Shaper>(State(shaper): State<Arc<S>>) -> Json<Status> {
    // The reason is found anew, so that it is that of this moment.
    let _ = shaper.ready().await;
    Json(shaper.status().await)
}

/// Answers with an error once the daemon no longer does its work.
async fn liveness<S: Shaper>(State(shaper): State<Arc<S>>) -> Answer<Value> {
    shaper.alive().map_err(|error| ApiError::unavailable(error.to_string()))?;
    Ok(version().await)
}

/// Answers with an error while nothing can be shaped.
async fn readiness<S: Shaper>(State(shaper): State<Arc<S>>) -> Answer<Value> {
    shaper.ready().await.map_err(|error| ApiError::unavailable(error.to_string()))?;
    Ok(Json(json!({ "ready": true })))
}

/// The largest body that is read in a fraction of a millisecond; others must not hold up the requests on this thread.
const QUICKLY_READ: usize = 16 << 10;

/// The longest error that is passed on whole.
const LONGEST_ERROR: usize = 1 << 10;

async fn presets<S: Shaper>(State(shaper): State<Arc<S>>) -> Json<BTreeMap<String, Preset>> {
    Json(shaper.presets().iter().map(|(name, preset)| (name.to_owned(), preset.clone())).collect())
}

async fn list<S: Shaper>(State(shaper): State<Arc<S>>) -> LargeAnswer {
    large(shaper.list().await).await
}

async fn inspect<S: Shaper>(State(shaper): State<Arc<S>>, name: Name) -> LargeAnswer {
    let Path(name) = name?;
    large(shaper.inspect(&name).await?).await
}

/// Writes an answer that may have a policy of megabytes, off the threads that serve other requests.
async fn large<T: Serialize + Send + 'static>(answer: T) -> LargeAnswer {
    let written = spawn_blocking(move || Json(answer).into_response()).await;
    written.map_err(|error| ApiError::failed(error.to_string()))
}

async fn set<S: Shaper>(State(shaper): State<Arc<S>>, name: Name, body: Bytes) -> LargeAnswer {
    let Path(name) = name?;
    let request = match body.len() {
        ..=QUICKLY_READ => request(&body)?,
        _ => spawn_blocking(move || request(&body))
            .await
            .map_err(|error| ApiError::failed(error.to_string()))??,
    };
    large(shaper.set(&name, request).await?).await
}

/// Parses the body of a change.
pub(crate) fn request(body: &[u8]) -> Result<Request, ApiError> {
    let input: ShapingInput = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not a shaping: {}", bounded(&error))))?;
    input.try_into().map_err(ApiError::bad_request)
}

/// An error of a bounded length: it may quote what a client wrote.
fn bounded(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.len() > LONGEST_ERROR { short(&text) } else { text }
}

async fn clear<S: Shaper>(State(shaper): State<Arc<S>>, name: Name) -> LargeAnswer {
    let Path(name) = name?;
    large(shaper.clear(&name).await?).await
}

async fn unknown_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(format!("there is no {} here", uri.path()))
}

async fn unknown_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::method_not_allowed(format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests;
