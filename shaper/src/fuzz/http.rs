//! The inputs of clients of the plugin socket: bodies, and requests of any bytes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::DefaultBodyLimit,
    http::Request,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tower::ServiceExt as _;

use super::targets::{Take, Target, repeated};
use crate::{
    api,
    scope::{self, Buttons},
    server::{self, PluginSocket},
    shaping::{
        Author, Shaper as _, Terms,
        fake::{FakeShaper, web},
    },
};

/// A client that is not answered for so long never is.
const PATIENCE: Duration = Duration::from_secs(20);
const WEB: &str = "/api/v1/containers/web/shaping";
const PROBE: &str = "api_version=1&probe_id=1f9e";

/// Bodies of changes.
pub(super) const BODY: Target = Target {
    name: "body",
    start: || {
        let mut take = take_bodies(|| Request::put(WEB));
        Box::new(move |input| {
            // On this thread, so that it is measured: the daemon reads large ones on another.
            drop(api::request(input));
            take(input);
        })
    },
    large: |length| {
        let field = |name: &str, value: String| format!("{{\"{name}\": {value}}}");
        let list = |element: &str| vec![element; length / (element.len() + 1)].join(",");
        let long = "x".repeat(length);
        let mut large = repeated(&["[", "{\"policy\":", "\"", "{\"latency\":\"", " "], length);
        large
            .extend(["netem", "to", "for", "preset", "trace"].map(|name| field(name, format!("\"{long}\""))));
        large.push(field(&long, "1".to_owned()));
        large.extend(["seed", "policy"].map(|name| field(name, "1".repeat(length))));
        large.push(field("policy", "[".repeat(length)));
        large.push(field("interface", format!("[{}]", list("\"a*\""))));
        large.extend(
            ["distributions", "traces"].map(|name| field(name, format!("{{\"a\":[{}]}}", list("1")))),
        );
        large
    },
};

/// Bodies of Scope's controls.
pub(super) const CONTROL: Target = Target {
    name: "control",
    start: || take_bodies(|| Request::post(format!("/control?{PROBE}"))),
    large: |length| {
        let long = "x".repeat(length);
        let mut large = repeated(&["[", "{\"a\":", "\"", "{\"NodeID\":\""], length);
        large.push(format!(
            "{{\"NodeID\":\"{long};<container>\",\"Control\":\"traffic-control-table-clear\"}}"
        ));
        large.push(format!("{{\"NodeID\":\"web;<container>\",\"Control\":\"{long}\"}}"));
        large
    },
};

/// Whatever a client may send.
pub(super) const REQUEST: Target = Target {
    name: "request",
    start: || {
        let world = World::new();
        Box::new(move |input| {
            let answer = world.answer(input);
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "it is HTTP");
        })
    },
    large: |length| {
        // Each of them is answered.
        let mut large =
            repeated(&["x", "GET / HTTP/1.1\r\n", "\r\n", "a: b\r\n", "GET /a HTTP/1.1\r\n\r\n"], 1 << 16);
        let body = "x".repeat(length);
        let chunks = "1\r\nx\r\n".repeat(length / 6);
        large.push(format!("PATCH {WEB} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"));
        large.push(format!("PATCH {WEB} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
        large
    },
};

fn routers(shaper: &Arc<FakeShaper>) -> Router {
    let buttons = Buttons::with_presets([("3g", "3G"), ("lte", "LTE")]);
    api::router(Arc::clone(shaper)).merge(scope::router(Arc::clone(shaper), buttons))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Sends bodies, and has all that is in force shown after each.
fn take_bodies(to: fn() -> axum::http::request::Builder) -> Take {
    let (runtime, shaper) = (runtime(), Arc::new(FakeShaper::new([web()])));
    let router = routers(&shaper).layer(DefaultBodyLimit::disable());
    Box::new(move |input| {
        let ask = |request: Request<Body>| async {
            let answer = router.clone().oneshot(request).await.expect("it cannot fail");
            assert!(!answer.status().is_server_error(), "{}", answer.status());
            to_bytes(answer.into_body(), usize::MAX).await.expect("a body")
        };
        runtime.block_on(async {
            ask(to().body(Body::from(Bytes::copy_from_slice(input))).expect("a request")).await;
            let list = Request::get("/api/v1/containers").body(Body::empty()).expect("a request");
            let list = ask(list).await;
            serde_json::from_slice::<serde::de::IgnoredAny>(&list).expect("JSON");
            shaper.clear("web", Terms::of(Author::Shaper)).await.expect("it is there");
        });
    })
}

/// A server on a socket of its own.
struct World {
    runtime: Runtime,
    socket: PathBuf,
    _directory: TempDir,
}

impl World {
    fn new() -> Self {
        let (runtime, directory) = (runtime(), tempfile::tempdir().expect("a directory"));
        let socket = directory.path().join("shaper.sock");
        let shaper = Arc::new(FakeShaper::new([web()]));
        runtime.block_on(async {
            let bound = PluginSocket::bind(&socket, None).expect("the socket");
            tokio::spawn(server::serve(bound, None, routers(&shaper), std::future::pending()));
        });
        Self { runtime, socket, _directory: directory }
    }

    fn answer(&self, input: &[u8]) -> Vec<u8> {
        self.runtime.block_on(async {
            timeout(PATIENCE, ask(&self.socket, input)).await.expect("a client is answered or let go")
        })
    }
}

/// Sends all bytes and no more, and returns the answers.
async fn ask(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.expect("a connection");
    let (mut read, mut write) = stream.split();
    let send = async {
        // A server that refuses what it has seen may close before it has seen all.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(send, read.read_to_end(&mut answer));
    answer
}
