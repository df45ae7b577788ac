//! Reads whole request bodies, which bounds the size and the time of each and the memory of all.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use http_body_util::BodyExt as _;
use hyper::{StatusCode, body::SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::READ_TIMEOUT;

/// The largest request body: a policy with a delivery trace of a million opportunities, of ten digits each. Scope's are below
/// 1 KiB.
pub(super) const LIMIT: usize = 12 * 1024 * 1024;
/// The bodies in flight, altogether.
const BUDGET: usize = 4 * LIMIT;
/// The largest body that may be in flight besides. It is as large as the buffer that each connection has anyway, and
/// Scope's do not wait for others.
const SMALL: usize = 8 * 1024;

/// The most chunks that a body may be sent in: each takes a microsecond or two, however small it is.
const MOST_CHUNKS: usize = 1 << 16;

/// The memory for the bodies of requests in flight.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// A body, and its share of the budget for as long as it is in flight.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// The answer where there is no body.
pub(super) type Refusal = (StatusCode, String);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }

    /// Reads a body to its end.
    ///
    /// One that is refused is read to its end all the same: a client that still writes when the connection closes gets
    /// `EPIPE` and never sees the answer.
    ///
    /// # Errors
    ///
    /// When it is too large or too late, when too much else is in flight for too long, or when the client sends no more.
    pub(super) async fn read(&self, body: Body) -> Result<Whole, Refusal> {
        let share = match self.share(&body.size_hint()).await {
            Ok(share) => share,
            Err(refusal) => {
                let _ = timeout(READ_TIMEOUT, collect(body, 0)).await;
                return Err(refusal);
            }
        };
        let read = timeout(READ_TIMEOUT, collect(body, LIMIT)).await.unwrap_or_else(|_| {
            let error = format!("the request's body took longer than {READ_TIMEOUT:?}");
            Err((StatusCode::REQUEST_TIMEOUT, error))
        });
        read.map(|bytes| Whole { bytes, _share: share })
    }

    /// Takes from the budget, in the order of asking, what a body may need.
    async fn share(&self, size: &SizeHint) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if size.lower() > LIMIT as u64 {
            return Err(too_large());
        }
        // One in chunks says nothing of its size.
        let most = size.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(LIMIT);
        if most <= SMALL {
            return Ok(None);
        }
        let share = Arc::clone(&self.0).acquire_many_owned(u32::try_from(most).unwrap_or(u32::MAX));
        match timeout(READ_TIMEOUT, share).await {
            Ok(Ok(share)) => Ok(Some(share)),
            Ok(Err(_)) | Err(_) => Err((
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "requests under way take all of the {BUDGET} bytes that there are for them: try again"
                ),
            )),
        }
    }
}

fn too_large() -> Refusal {
    (StatusCode::PAYLOAD_TOO_LARGE, format!("the request's body is larger than {LIMIT} bytes"))
}

/// A whole body of at most `limit` bytes.
///
/// # Errors
///
/// When it is larger, which is known at its end, or when it is in too many chunks, and when the client sends no more.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let (mut bytes, mut chunks) = (Vec::new(), 0);
    let mut fits = body.size_hint().lower() <= limit as u64;
    if fits {
        bytes.reserve_exact(usize::try_from(body.size_hint().lower()).unwrap_or_default());
    }
    while let Some(frame) = body.frame().await {
        chunks += 1;
        if chunks > MOST_CHUNKS {
            let error = format!("the request's body is in more than {MOST_CHUNKS} chunks");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        let frame =
            frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("read the request's body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        fits &= bytes.len() + data.len() <= limit;
        if fits {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
    }
    if fits { Ok(bytes.into()) } else { Err(too_large()) }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn large_bodies_wait_for_their_share_and_small_ones_do_not() {
        let budget = Budget::new();
        let body = |length: usize| Body::from(vec![b'x'; length]);
        let mut held = Vec::new();
        for _ in 0..BUDGET / LIMIT {
            held.push(budget.read(body(LIMIT)).await.expect("there is room"));
        }
        let mut waiting = Box::pin(budget.read(body(SMALL + 1)));
        assert!((&mut waiting).now_or_never().is_none(), "there is no room");
        let small = budget.read(body(SMALL)).now_or_never().expect("at once").expect("it is small");
        assert_eq!(small.bytes.len(), SMALL);
        drop(held.pop());
        assert_eq!(waiting.await.expect("there is room").bytes.len(), SMALL + 1);
    }

    #[tokio::test]
    async fn a_body_that_gets_no_share_is_refused() {
        let budget = Budget::new();
        let _held = Arc::clone(&budget.0).acquire_many_owned(u32::try_from(BUDGET).expect("it fits")).await;
        let (status, error) = budget.read(Body::from(vec![b'x'; LIMIT])).await.expect_err("no room");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.ends_with("try again"), "{error}");
    }
}
