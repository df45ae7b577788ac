//! Events, under `/api/v1/events`: the last ones in JSON, or all from now on as a stream of server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, Uri, header::ACCEPT},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{LargeAnswer, error::ApiError, large, query};
use crate::shaping::{Entry, KEPT, Shaper};

/// The number of events in an answer unless another is asked for.
const USUAL: usize = 1_000;
/// The time after which a stream shows that it still lives.
const ALIVE: Duration = Duration::from_secs(15);

/// The body of an answer.
#[derive(Serialize)]
struct Events {
    events: Vec<Arc<Entry>>,
}

/// Answers with the last events, or those behind one; with a stream where the client accepts one.
pub(super) async fn events<S: Shaper>(
    State(shaper): State<Arc<S>>,
    headers: HeaderMap,
    uri: Uri,
) -> LargeAnswer {
    let asked = query::events(&uri)?;
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/event-stream") {
        return stream(shaper, asked.after, &headers);
    }
    let most = asked.limit.unwrap_or(USUAL).min(KEPT);
    let events = shaper.events(asked.after, most);
    large(Events { events }).await
}

/// Streams the events behind the one that the client names (`Last-Event-ID`, or `after`), else those from now on.
fn stream<S: Shaper>(shaper: Arc<S>, after: Option<u64>, headers: &HeaderMap) -> LargeAnswer {
    let seen = headers.get("last-event-id").map(|id| {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        id.ok_or_else(|| ApiError::bad_request("Last-Event-ID: expected the id of an event".to_owned()))
    });
    let newest = || shaper.events(None, 1).last().map_or(0, |entry| entry.id);
    let after = seen.transpose()?.or(after).unwrap_or_else(newest);
    let batches = stream::unfold((shaper, after), |(shaper, after)| async move {
        let batch = shaper.next_events(after).await?;
        let last = batch.last().map_or(after, |entry| entry.id);
        Some((stream::iter(batch), (shaper, last)))
    });
    let events = batches.flatten().map(|entry| Ok::<_, Infallible>(event(&entry)));
    let mut answer: Response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    // A proxy is not to keep it until it is full.
    answer.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(answer)
}

fn event(entry: &Entry) -> Event {
    let event = Event::default().id(entry.id.to_string()).event("shaping");
    // A line of JSON has no line breaks.
    event.data(serde_json::to_string(entry).unwrap_or_default())
}
