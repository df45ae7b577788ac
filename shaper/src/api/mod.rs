//! Speaks our own HTTP API, under `/api/v1`; the commands of [`crate::cli`] use it. Metrics are at `/metrics`.
//!
//! Knows the daemon as a [`Shaper`]; must not know the other adapters, nor containers, networks and BPF.

mod asked;
mod error;
mod events;
mod metrics;
mod query;
mod rules;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    http::{
        HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_TYPE, ETAG},
    },
    response::{IntoResponse as _, Response},
    routing::{get, put},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use self::{asked::Asked, error::ApiError, query::Manner};
use crate::{
    server::{MEDIA_TYPE, ProblemDetails},
    shaping::{
        Author, Changed, Completion, Insistence, Order, PolicyError, PolicyProblem, Preset, Request,
        Selection, Selector, Shaper, Status, Tag, Terms, Whole, short,
    },
};

/// Answers people and scripts for `shaper`, whatever they ask for: paths that nobody knows, too.
pub(crate) fn router<S: Shaper>(shaper: Arc<S>) -> Router {
    let routes = Router::new()
        .route("/version", get(version))
        .route("/status", get(status::<S>))
        .route("/presets", get(presets::<S>))
        .route("/events", get(events::events::<S>))
        .merge(rules::routes())
        .route("/containers", get(list::<S>))
        .route("/containers/{name}", get(inspect::<S>))
        .route(
            "/containers/{name}/shaping",
            get(shaping::<S>).put(replace::<S>).patch(change::<S>).delete(clear::<S>),
        )
        .route("/shaping", put(replace_many::<S>).patch(change_many::<S>).delete(clear_many::<S>))
        .method_not_allowed_fallback(unknown_method)
        .with_state(Arc::clone(&shaper));
    let probes = Router::new()
        .route("/healthz", get(liveness::<S>))
        .route("/readyz", get(readiness::<S>))
        .route("/metrics", get(metrics::get::<S>))
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

/// Answers with all containers, or with those that are selected.
async fn list<S: Shaper>(State(shaper): State<Arc<S>>, uri: Uri) -> LargeAnswer {
    large(match query::to_list(&uri)? {
        Some(selection) => shaper.select(&selection).await?,
        None => shaper.list().await,
    })
    .await
}

async fn inspect<S: Shaper>(State(shaper): State<Arc<S>>, name: Name) -> LargeAnswer {
    let Path(name) = name?;
    let inspection = shaper.inspect(&name).await?;
    tagged(inspection.view.tag(), inspection).await
}

/// Writes an answer that may have a policy of megabytes, off the threads that serve other requests.
async fn large<T: Serialize + Send + 'static>(answer: T) -> LargeAnswer {
    let written = spawn_blocking(move || Json(answer).into_response()).await;
    written.map_err(|error| ApiError::failed(error.to_string()))
}

/// Answers with the whole shaping, as [`replace`] takes it.
async fn shaping<S: Shaper>(State(shaper): State<Arc<S>>, name: Name) -> LargeAnswer {
    let Path(name) = name?;
    let view = shaper.inspect(&name).await?.view;
    tagged(view.tag(), view.whole()).await
}

/// Replaces the whole shaping.
async fn replace<S: Shaper>(
    State(shaper): State<Arc<S>>,
    name: Name,
    uri: Uri,
    asked: Asked,
    body: Bytes,
) -> LargeAnswer {
    let (Path(name), manner) = (name?, query::manner(&uri)?);
    one(shaper, &name, manner, asked, Order::Set(Box::new(read(body, replacement).await?))).await
}

/// Changes what the body says; the rest stays as it is.
async fn change<S: Shaper>(
    State(shaper): State<Arc<S>>,
    name: Name,
    uri: Uri,
    asked: Asked,
    body: Bytes,
) -> LargeAnswer {
    let (Path(name), manner) = (name?, query::manner(&uri)?);
    one(shaper, &name, manner, asked, Order::Set(Box::new(read(body, request).await?))).await
}

/// Carries out an order for one container, or shows what would become of it.
async fn one<S: Shaper>(
    shaper: Arc<S>,
    name: &str,
    Manner { force, dry_run }: Manner,
    Asked { by, if_match }: Asked,
    order: Order,
) -> LargeAnswer {
    if dry_run {
        let selection = Selection { dry_run, force, ..Selection::of(Selector::of_name(name)) };
        return many(shaper, selection, order, by).await;
    }
    let insistence = if force { Insistence::Force } else { Insistence::ById };
    let terms = Terms { by, insistence, if_match };
    match order {
        Order::Set(request) => {
            let view = shaper.set(name, *request, terms).await?;
            tagged(view.tag(), view).await
        }
        Order::Clear => {
            let cleared = shaper.clear(name, terms).await?;
            tagged(cleared.view.tag(), cleared).await
        }
    }
}

/// Writes an answer with the tag of the shaping that it tells of.
async fn tagged<T: Serialize + Send + 'static>(Tag(tag): Tag, answer: T) -> LargeAnswer {
    let mut answer = large(answer).await?;
    let tag =
        HeaderValue::try_from(format!("\"{tag}\"")).map_err(|error| ApiError::failed(error.to_string()))?;
    answer.headers_mut().insert(ETAG, tag);
    Ok(answer)
}

/// Replaces the whole shaping of all containers that are selected.
async fn replace_many<S: Shaper>(
    State(shaper): State<Arc<S>>,
    uri: Uri,
    Asked { by, .. }: Asked,
    body: Bytes,
) -> LargeAnswer {
    let (selection, request) = (query::to_change(&uri)?, read(body, replacement).await?);
    many(shaper, selection, Order::Set(Box::new(request)), by).await
}

/// Changes what the body says, of all containers that are selected.
async fn change_many<S: Shaper>(
    State(shaper): State<Arc<S>>,
    uri: Uri,
    Asked { by, .. }: Asked,
    body: Bytes,
) -> LargeAnswer {
    let (selection, request) = (query::to_change(&uri)?, read(body, request).await?);
    many(shaper, selection, Order::Set(Box::new(request)), by).await
}

async fn clear_many<S: Shaper>(
    State(shaper): State<Arc<S>>,
    uri: Uri,
    Asked { by, .. }: Asked,
) -> LargeAnswer {
    many(shaper, query::to_change(&uri)?, Order::Clear, by).await
}

/// Answers with what became of each container; with an error as well, if not all have what was asked.
async fn many<S: Shaper>(shaper: Arc<S>, selection: Selection, order: Order, author: Author) -> LargeAnswer {
    #[derive(Serialize)]
    struct Answer {
        #[serde(flatten)]
        problem: Option<ProblemDetails>,
        #[serde(flatten)]
        changed: Changed,
    }
    let partial = selection.partial;
    let changed = shaper.change(selection, order, author).await?;
    let (error, is_done) = (changed.failure(), changed.count(Completion::is_done) > 0);
    let status = match &error {
        None => StatusCode::OK,
        Some(_) if partial && is_done => StatusCode::MULTI_STATUS,
        Some(_) if changed.has_been_tried() => StatusCode::INTERNAL_SERVER_ERROR,
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let problem = error.map(|error| ProblemDetails::new(status, error));
    let mut answer = large(Answer { problem, changed }).await?;
    *answer.status_mut() = status;
    if status.is_client_error() || status.is_server_error() {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    }
    Ok(answer)
}

/// Parses a body, where it is large off the threads that serve other requests.
async fn read(body: Bytes, parse: fn(&[u8]) -> Result<Request, ApiError>) -> Result<Request, ApiError> {
    match body.len() {
        ..=QUICKLY_READ => parse(&body),
        _ => {
            let read = spawn_blocking(move || parse(&body)).await;
            read.map_err(|error| ApiError::failed(error.to_string()))?
        }
    }
}

/// Parses the body of a change.
pub(crate) fn request(body: &[u8]) -> Result<Request, ApiError> {
    Request::parse(body).map_err(|error| bad_body(&error))
}

/// Parses the body of a replacement.
fn replacement(body: &[u8]) -> Result<Request, ApiError> {
    Whole::parse(body).map(Request::of_whole).map_err(|error| bad_body(&error))
}

/// The answer to a body, of a bounded length: the error may quote what a client wrote.
fn bad_body(error: &PolicyError) -> ApiError {
    let text = match error.problem() {
        PolicyProblem::Malformed { .. } => format!("the body is not a shaping: {error}"),
        _ => error.to_string(),
    };
    ApiError::bad_request(if text.len() > LONGEST_ERROR { short(&text) } else { text }).at(error.path())
}

async fn clear<S: Shaper>(State(shaper): State<Arc<S>>, name: Name, uri: Uri, asked: Asked) -> LargeAnswer {
    let (Path(name), manner) = (name?, query::manner(&uri)?);
    one(shaper, &name, manner, asked, Order::Clear).await
}

async fn unknown_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(format!("there is no {} here", uri.path()))
}

async fn unknown_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::method_not_allowed(format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests;
