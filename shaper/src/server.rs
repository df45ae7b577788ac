//! Serves HTTP on the plugin socket, and on TCP where that is asked for, so that no client can hold up another, or the daemon's end.
//!
//! Knows nothing of what is served, and tells only whose a request is: an [`crate::shaping::Author`] among its extensions.

mod access;
mod body;
mod client;
mod problem;
mod socket;
mod stream;
mod tcp;

use std::{
    convert::Infallible,
    future::{self, Future},
    io,
    panic::AssertUnwindSafe,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use self::{body::Budget, client::Client, stream::Stream, tcp::Tls};
pub(crate) use self::{
    problem::{MEDIA_TYPE, ProblemDetails},
    socket::PluginSocket,
    tcp::{TcpOptions, TcpSocket, TlsFiles},
};

/// The longest time that a client may take for a request's head, and again for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time that requests under way may take once the daemon ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves `router` on the plugin socket, and on TCP if there is a socket for it, until `shutdown` is ready, and removes the
/// plugin socket's file.
///
/// A request whose client has gone is dropped: what has to go on then is in a task of its own. Requests under way at the end
/// are answered if they take no longer than 2 s more.
pub(crate) async fn serve(
    socket: PluginSocket,
    tcp: Option<TcpSocket>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    // A client that sends no more still waits for its answer; one that has gone is noticed apart from this.
    http.timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT).half_close(true);
    let router = router.layer(DefaultBodyLimit::disable());
    let server = Server { http, router, budget: Budget::new(), graceful: GracefulShutdown::new() };
    let on_socket = async {
        loop {
            match socket.accept().await {
                Ok(accepted) => server.attend(future::ready(Ok(accepted))),
                Err(error) => pause(&error).await,
            }
        }
    };
    let on_tcp = async {
        let Some(tcp) = &tcp else { return future::pending().await };
        loop {
            match (tcp.accept().await, tcp.tls()) {
                (Ok(accepted), None) => server.attend(future::ready(Ok(accepted))),
                (Ok((stream, client)), Some(tls)) => {
                    server.attend::<Tls>(async move { Ok((tls.accept(stream).await?, client)) });
                }
                (Err(error), _) => pause(&error).await,
            }
        }
    };
    tokio::select! {
        () = on_socket => {}
        () = on_tcp => {}
        () = shutdown => {}
    }
    // No probe is to find the socket of a daemon that no longer answers.
    drop((socket, tcp));
    if time::timeout(SHUTDOWN_TIMEOUT, server.graceful.shutdown()).await.is_err() {
        tracing::warn!("requests under way were cut off: they took longer than {SHUTDOWN_TIMEOUT:?}");
    }
}

/// The way in which all connections are served.
struct Server {
    http: http1::Builder,
    router: Router,
    budget: Budget,
    graceful: GracefulShutdown,
}

impl Server {
    /// Serves a client, in a task of its own, once the connection is made.
    fn attend<S>(&self, connecting: impl Future<Output = io::Result<(S, Client)>> + Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, budget) = (self.router.clone(), self.budget.clone());
        let (http, watcher) = (self.http.clone(), self.graceful.watcher());
        let attend = async move {
            let (stream, client) = time::timeout(READ_TIMEOUT, connecting).await??;
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (router, budget, client) = (router.clone(), budget.clone(), client.clone());
                let request = request.map(Body::new);
                async move { Ok::<_, Infallible>(answer_to(&client, router, &budget, request).await) }
            });
            watcher.watch(http.serve_connection(TokioIo::new(Stream::new(stream)), service)).await?;
            anyhow::Ok(())
        };
        #[expect(clippy::disallowed_methods, reason = "a connection that panics is its client's loss alone")]
        tokio::spawn(async move {
            if let Err(error) = attend.await {
                tracing::debug!(error = format!("{error:#}"), "a client's connection ended early");
            }
        });
    }
}

/// Waits a while after an error in accepting, which is one connection's, or a lack of file descriptors that passes.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "accept a connection");
    time::sleep(Duration::from_millis(100)).await;
}

/// The answer to a request that is admitted, as long as there is a client that may read it.
async fn answer_to(client: &Client, router: Router, budget: &Budget, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let span = match client.admit(&head) {
        Ok((author, span)) => {
            author.and_then(|author| head.extensions.insert(author));
            span
        }
        Err(denied) => {
            let mut answer = refusal(denied.status(), &denied.to_string());
            if denied.status() == StatusCode::UNAUTHORIZED {
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            return answer;
        }
    };
    let answer = handle(router, budget, Request::from_parts(head, body)).instrument(span);
    let answer = tokio::select! {
        // First, so that nothing is begun for a client that has gone already.
        biased;
        Ok(()) = client.gone() => {
            tracing::debug!("a client has gone before it was answered");
            return StatusCode::REQUEST_TIMEOUT.into_response();
        }
        answer = AssertUnwindSafe(answer).catch_unwind() => answer,
    };
    // The log has the panic.
    answer.unwrap_or_else(|_| {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "the daemon has a bug here: see its log")
    })
}

/// Reads the whole body, and only then has the request handled.
async fn handle(router: Router, budget: &Budget, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let whole = match budget.read(body).await {
        Ok(whole) => whole,
        Err((status, error)) => return refusal(status, &error),
    };
    let request = Request::from_parts(head, Body::from(whole.bytes.clone()));
    let Ok(answer) = router.oneshot(request).await;
    in_our_form(answer).await
}

/// An error as all errors are given; those of axum itself are plain text.
async fn in_our_form(answer: Response) -> Response {
    let status = answer.status();
    let is_ours = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let text = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match String::from_utf8_lossy(&text) {
        empty if empty.is_empty() => refusal(status, status.canonical_reason().unwrap_or("refused")),
        text => refusal(status, &text),
    }
}

fn refusal(status: StatusCode, error: &str) -> Response {
    ProblemDetails::new(status, error).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        path::{Path, PathBuf},
        sync::Arc,
    };

    use axum::routing::post;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
        net::UnixStream,
        sync::{Notify, oneshot},
        task::JoinHandle,
    };

    use super::{body::LIMIT, *};

    struct Running {
        path: PathBuf,
        stop: oneshot::Sender<()>,
        server: JoinHandle<()>,
        /// Rung when `/later` is being handled.
        handled: Arc<Notify>,
        /// The signal that `/later` waits for.
        go_on: Arc<Notify>,
        _directory: tempfile::TempDir,
    }

    async fn panics() -> String {
        panic!("on purpose")
    }

    fn start() -> Running {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("shaper.sock");
        let socket = PluginSocket::bind(&path, None).expect("the socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let (handled, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let later = {
            let (handled, go_on) = (Arc::clone(&handled), Arc::clone(&go_on));
            move || {
                let go_on = Arc::clone(&go_on);
                async move {
                    handled.notify_one();
                    go_on.notified().await;
                    "later"
                }
            }
        };
        let router = Router::new()
            .route("/later", post(later))
            .route("/", post(|body: String| async move { body.len().to_string() }))
            .route("/large", post(|| async { "x".repeat(LIMIT) }))
            .route("/panics", post(panics))
            .route("/never", post(std::future::pending::<()>));
        let server = tokio::spawn(serve(socket, None, router, async move {
            let _ = stopped.await;
        }));
        Running { path, stop, server, handled, go_on, _directory: directory }
    }

    async fn connect(path: &Path) -> UnixStream {
        UnixStream::connect(path).await.expect("a connection")
    }

    async fn ask(path: &Path, request: &str) -> String {
        let mut stream = connect(path).await;
        stream.write_all(request.as_bytes()).await.expect("a request");
        read_all(stream).await
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
        let answer = post_bytes(&running.path, LIMIT).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{LIMIT}")), "{answer}");
        for length in [LIMIT + 1, 2 * LIMIT] {
            let answer = post_bytes(&running.path, length).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(
                answer.ends_with(&format!("the request's body is larger than {LIMIT} bytes\"}}")),
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
        let length = LIMIT / 2 + 1;
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
    async fn a_client_that_sends_no_more_gets_its_answer() {
        let running = start();
        let mut stream = connect(&running.path).await;
        stream
            .write_all(b"POST /later HTTP/1.1\r\nHost: plugin\r\nContent-Length: 3\r\n\r\nabc")
            .await
            .expect("a request");
        stream.shutdown().await.expect("half closed");
        running.handled.notified().await;
        running.go_on.notify_one();
        assert!(read_all(stream).await.ends_with("\r\n\r\nlater"));
    }

    #[tokio::test]
    async fn a_request_whose_client_has_gone_is_dropped() {
        let running = start();
        let mut stream = connect(&running.path).await;
        stream.write_all(b"POST /later HTTP/1.1\r\nHost: plugin\r\n\r\n").await.expect("a request");
        running.handled.notified().await;
        assert_eq!(Arc::strong_count(&running.go_on), 3, "the test's, the router's and the request's");
        drop(stream);
        time::timeout(READ_TIMEOUT, async {
            while Arc::strong_count(&running.go_on) > 2 {
                time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it is dropped");
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_let_go() {
        let running = start();
        let mut stream = connect(&running.path).await;
        stream.write_all(b"POST /large HTTP/1.1\r\nHost: plugin\r\n\r\n").await.expect("a request");
        let let_go = async {
            while !stream.ready(Interest::WRITABLE).await.expect("a state").is_write_closed() {
                let _ = stream.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
        };
        time::timeout(Duration::from_secs(10), let_go).await.expect("it is let go");
    }

    #[tokio::test]
    async fn a_body_in_too_many_chunks_is_refused_before_its_end() {
        let running = start();
        let stream = connect(&running.path).await;
        let (mut read, mut write) = stream.into_split();
        let send = async {
            let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            write.write_all(head).await.expect("a request");
            // It is refused meanwhile.
            let _ = write.write_all("1\r\nx\r\n".repeat(1 << 20).as_bytes()).await;
        };
        let mut answer = Vec::new();
        let (_, _) = tokio::join!(send, read.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("chunks"), "{answer}");
    }

    #[tokio::test]
    async fn all_errors_have_the_same_form() {
        let running = start();
        let fields = "x: y\r\n".repeat(100_000);
        let target = "x".repeat(100_000);
        for (request, status, error) in [
            ("GET\r\n\r\n", 400, "the request is not HTTP/1.1"),
            ("\x16\x03\x01 hello over TLS\r\n\r\n", 400, "the request is not HTTP/1.1"),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "the request is not HTTP/1.1"),
            (&format!("POST / HTTP/1.1\r\n{fields}\r\n"), 431, "the request's head has more than 100 fields"),
            (&format!("POST /{target} HTTP/1.1\r\n\r\n"), 414, "the request's target is longer than"),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 405, "Method Not Allowed"),
            ("POST /panics HTTP/1.1\r\nConnection: close\r\n\r\n", 500, "the daemon has a bug here"),
            // A good one before it, whose answer is sent as well.
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET\r\n\r\n", 400, "the request is not HTTP/1.1"),
        ] {
            let name = &request[..request.len().min(40)];
            let answer = ask(&running.path, request).await;
            let (head, body) =
                answer.rsplit_once("\r\n\r\n").unwrap_or_else(|| panic!("{name:?}: {answer:?}"));
            assert!(head.contains(&format!("HTTP/1.1 {status} ")), "{name:?}: {answer}");
            assert!(head.contains("content-type: application/problem+json"), "{name:?}: {answer}");
            assert!(body.contains(&format!("\"status\":{status}")), "{name:?}: {answer}");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert!(body["detail"].as_str().is_some_and(|said| said.contains(error)), "{name:?}: {body}");
        }
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
