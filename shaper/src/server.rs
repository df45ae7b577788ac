//! Serves HTTP on the plugin socket so that no client can hold up another, or the daemon's end.
//!
//! Knows nothing of what is served.

mod socket;

use std::{convert::Infallible, future::Future, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody as _},
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{net::UnixStream, time};

pub(crate) use socket::PluginSocket;

/// How long a client may take for a request's head, and again for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests that are under way may take once the daemon ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest request body: a policy with a delivery trace of a million opportunities. Scope's are below 1 KiB.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// Serves `router` on `socket` until `shutdown` is ready, and removes the socket's file.
///
/// Requests under way are answered if they take no longer than 2 s more.
pub(crate) async fn serve(socket: PluginSocket, router: Router, shutdown: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(
        router.layer(DefaultBodyLimit::disable()).layer(middleware::from_fn(read_body)),
    );
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            stream = accept(&socket) => stream,
            () = &mut shutdown => break,
        };
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection ended early");
            }
        });
    }
    // No probe is to find the socket of a daemon that no longer answers.
    drop(socket);
    if time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests under way were cut off: they took longer than {SHUTDOWN_TIMEOUT:?}");
    }
}

/// Waits for a client. An error is this connection's, or a lack of file descriptors that passes.
async fn accept(socket: &PluginSocket) -> UnixStream {
    loop {
        match socket.listener().accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "accept a connection on the plugin socket");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Reads the whole body before the request is handled, which bounds its size and its time.
async fn read_body(request: Request, next: Next) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    let refusal = match time::timeout(READ_TIMEOUT, collect(body)).await {
        Ok(Ok(Some(body))) => return Ok(next.run(Request::from_parts(head, Body::from(body))).await),
        Ok(Ok(None)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("the request's body is larger than {BODY_LIMIT} bytes"))
        }
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("read the request's body: {error}")),
        Err(_) => {
            (StatusCode::REQUEST_TIMEOUT, format!("the request's body took longer than {READ_TIMEOUT:?}"))
        }
    };
    let (status, error) = refusal;
    Ok((status, Json(json!({ "error": error }))).into_response())
}

/// The body, or nothing if it is too large. One that is too large is read to its end all the same: a client that still
/// writes when the connection closes gets `EPIPE` and never sees the answer.
async fn collect(mut body: Body) -> Result<Option<Bytes>, axum::Error> {
    let mut bytes = Vec::new();
    let mut fits = body.size_hint().lower() <= BODY_LIMIT as u64;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        fits &= bytes.len() + data.len() <= BODY_LIMIT;
        if fits {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(fits.then(|| bytes.into()))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use axum::routing::post;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    struct Running {
        path: PathBuf,
        stop: oneshot::Sender<()>,
        server: JoinHandle<()>,
        _directory: tempfile::TempDir,
    }

    fn start() -> Running {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("shaper.sock");
        let socket = PluginSocket::bind(&path).expect("the socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new()
            .route("/", post(|body: String| async move { body.len().to_string() }))
            .route("/never", post(std::future::pending::<()>));
        let server = tokio::spawn(serve(socket, router, async move {
            let _ = stopped.await;
        }));
        Running { path, stop, server, _directory: directory }
    }

    async fn connect(path: &Path) -> UnixStream {
        UnixStream::connect(path).await.expect("a connection")
    }

    async fn post_bytes(path: &Path, length: usize) -> String {
        let mut stream = connect(path).await;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a head");
        stream.write_all(&vec![b'x'; length]).await.expect("a body");
        read_all(stream).await
    }

    async fn read_all(mut stream: UnixStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_in_words() {
        let running = start();
        let answer = post_bytes(&running.path, BODY_LIMIT).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{BODY_LIMIT}")), "{answer}");
        for length in [BODY_LIMIT + 1, 2 * BODY_LIMIT] {
            let answer = post_bytes(&running.path, length).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(
                answer.ends_with(&format!("the request's body is larger than {BODY_LIMIT} bytes\"}}")),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_chunked_body_that_is_too_large_is_refused() {
        let running = start();
        let mut stream = connect(&running.path).await;
        let head =
            "POST / HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("a head");
        let length = BODY_LIMIT / 2 + 1;
        let chunk = format!("{length:x}\r\n{}\r\n", "x".repeat(length));
        stream.write_all(format!("{chunk}{chunk}0\r\n\r\n").as_bytes()).await.expect("a body");
        assert!(read_all(stream).await.starts_with("HTTP/1.1 413 "));
    }

    #[tokio::test]
    async fn a_slow_client_holds_nobody_up() {
        let running = start();
        let mut slow_head = connect(&running.path).await;
        slow_head.write_all(b"POST / HT").await.expect("half a head");
        let mut slow_body = connect(&running.path).await;
        slow_body
            .write_all(b"POST / HTTP/1.1\r\nHost: plugin\r\nContent-Length: 9\r\n\r\nx")
            .await
            .expect("half a body");
        let answer = time::timeout(READ_TIMEOUT / 2, post_bytes(&running.path, 3)).await.expect("in time");
        assert!(answer.ends_with("\r\n\r\n3"), "{answer}");
        time::timeout(READ_TIMEOUT * 2, async {
            assert_eq!(read_all(slow_head).await, "", "cut off");
            assert!(read_all(slow_body).await.starts_with("HTTP/1.1 408 "));
        })
        .await
        .expect("slow clients are cut off");
    }

    #[tokio::test]
    async fn the_daemon_ends_although_a_request_does_not() {
        let running = start();
        let mut stuck = connect(&running.path).await;
        stuck.write_all(b"POST /never HTTP/1.1\r\nHost: plugin\r\n\r\n").await.expect("a request");
        let idle = connect(&running.path).await;
        assert!(post_bytes(&running.path, 1).await.ends_with("\r\n\r\n1"), "both are accepted by now");
        running.stop.send(()).expect("a running server");
        time::timeout(SHUTDOWN_TIMEOUT * 2, running.server).await.expect("in time").expect("no panic");
        assert!(!running.path.exists(), "the socket is removed");
        drop((stuck, idle));
    }
}
