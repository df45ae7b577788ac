//! Asks the daemon, over its socket.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
};
use hyper_util::{client::legacy, rt::TokioExecutor};
use hyperlocal::UnixConnector;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use thiserror::Error;
use tokio::time;

use crate::shaping::{
    self, Changed, Cleared, ContainerView, Entry, Inspection, Preset, RuleDocument, RuleView, RulesView,
    Status, Whole, with_causes,
};

/// Longer than any request takes that the daemon means to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same for requests that are for many containers.
const LONG_TIMEOUT: Duration = Duration::from_secs(120);

/// No body.
const NOTHING: Option<&()> = None;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    /// There is no socket, or nobody behind it.
    #[error("no daemon listens on {}: start it with `shaper serve`, or say where it does with --plugin-socket", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is another user's.
    #[error("no permission to speak to the daemon on {}: run as root", .0.display())]
    Permission(PathBuf),
    /// It is silent.
    #[error("the daemon on {} did not answer within {:?}: see its log", .0.display(), .1)]
    Timeout(PathBuf, Duration),
    /// The conversation broke down.
    #[error("ask the daemon on {} ({what}): {error}", socket.display())]
    Broken { socket: PathBuf, what: String, error: String },
    /// The daemon said no.
    #[error("{text}")]
    Refused { status: StatusCode, text: String },
}

impl ClientError {
    /// Returns the exit code of a command that ends with this error, for scripts to tell them apart.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::NoDaemon(_) | Self::Permission(_) | Self::Timeout(..) | Self::Broken { .. } => 3,
            Self::Refused { status: StatusCode::NOT_FOUND, .. } => 4,
            Self::Refused { status: StatusCode::MULTI_STATUS, .. } => 6,
            Self::Refused { status, .. } if status.as_u16() < 500 => 5,
            Self::Refused { .. } => 1,
        }
    }

    /// Returns true if no daemon can be asked.
    pub(super) const fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }

    /// Returns true if there is no such container.
    pub(super) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

/// The answer to a request for many containers.
#[derive(Debug)]
pub(super) struct Results {
    /// The results.
    pub(super) changed: Changed,
    /// The reason why not all containers have what was asked, if so.
    pub(super) refusal: Option<ClientError>,
}

/// Speaks to the daemon on one socket.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    http: legacy::Client<UnixConnector, Full<Bytes>>,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, http: legacy::Client::builder(TokioExecutor::new()).build(UnixConnector) }
    }

    /// The socket that the daemon is asked on.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) async fn list(&self) -> Result<Vec<ContainerView>, ClientError> {
        self.ask(Method::GET, "/containers", NOTHING).await
    }

    pub(super) async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/status", NOTHING).await
    }

    /// Fails when the daemon no longer does its work.
    pub(super) async fn live(&self) -> Result<(), ClientError> {
        self.ask_at(Method::GET, "/healthz", NOTHING).await.map(|_: IgnoredAny| ())
    }

    pub(super) async fn presets(&self) -> Result<BTreeMap<String, Preset>, ClientError> {
        self.ask(Method::GET, "/presets", NOTHING).await
    }

    /// The last events, at most so many, in order.
    pub(super) async fn events(&self, most: usize) -> Result<Vec<Entry>, ClientError> {
        #[derive(Deserialize)]
        struct Events {
            events: Vec<Entry>,
        }
        let Events { events } = self.ask(Method::GET, &format!("/events?limit={most}"), NOTHING).await?;
        Ok(events)
    }

    /// The stream of the events behind the one with this number.
    pub(super) async fn follow_events(&self, after: u64) -> Result<Incoming, ClientError> {
        let path = format!("/api/v1/events?after={after}");
        let broken = |error: String| ClientError::Broken {
            socket: self.socket.clone(),
            what: format!("GET {path}"),
            error,
        };
        let request = Request::builder()
            .uri(hyperlocal::Uri::new(&self.socket, &path))
            .header(hyper::header::ACCEPT, "text/event-stream")
            .body(Full::default())
            .map_err(|error| broken(error.to_string()))?;
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| self.no_connection(&error).unwrap_or_else(|| broken(with_causes(&error))))?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(refusal(head.status, &body));
        }
        Ok(body)
    }

    pub(super) async fn inspect(&self, name: &str) -> Result<Inspection, ClientError> {
        self.ask(Method::GET, &format!("/containers/{}", encoded(name)), NOTHING).await
    }

    pub(super) async fn select(&self, query: &str) -> Result<Vec<ContainerView>, ClientError> {
        self.ask(Method::GET, &format!("/containers?{query}"), NOTHING).await
    }

    pub(super) async fn set(
        &self,
        name: &str,
        request: &shaping::Request,
        force: bool,
    ) -> Result<ContainerView, ClientError> {
        let force = if force { "?force=true" } else { "" };
        let path = format!("/containers/{}/shaping{force}", encoded(name));
        self.ask(Method::PATCH, &path, Some(request)).await
    }

    /// Replaces the whole shaping of a container, by its id.
    pub(super) async fn replace(&self, id: &str, whole: &Whole) -> Result<ContainerView, ClientError> {
        self.ask(Method::PUT, &format!("/containers/{}/shaping", encoded(id)), Some(whole)).await
    }

    pub(super) async fn set_many(
        &self,
        query: &str,
        request: &shaping::Request,
    ) -> Result<Results, ClientError> {
        self.change(Method::PATCH, query, Some(request)).await
    }

    /// Replaces the whole shaping of those that are selected.
    pub(super) async fn replace_many(&self, query: &str, whole: &Whole) -> Result<Results, ClientError> {
        self.change(Method::PUT, query, Some(whole)).await
    }

    pub(super) async fn clear_many(&self, query: &str) -> Result<Results, ClientError> {
        self.change(Method::DELETE, query, NOTHING).await
    }

    /// Changes many containers. An answer may have both results and an error.
    async fn change(
        &self,
        method: Method,
        query: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Results, ClientError> {
        let path = format!("/api/v1/shaping?{query}");
        let (status, body) = self.answer(method, &path, body, LONG_TIMEOUT).await?;
        match serde_json::from_slice::<Changed>(&body) {
            Ok(changed) if status == StatusCode::OK => Ok(Results { changed, refusal: None }),
            Ok(changed) => Ok(Results { changed, refusal: Some(refusal(status, &body)) }),
            Err(_) => Err(refusal(status, &body)),
        }
    }

    pub(super) async fn clear(&self, name: &str) -> Result<Cleared, ClientError> {
        self.ask(Method::DELETE, &format!("/containers/{}/shaping", encoded(name)), NOTHING).await
    }

    pub(super) async fn rules(&self) -> Result<RulesView, ClientError> {
        self.ask(Method::GET, "/rules", NOTHING).await
    }

    pub(super) async fn put_rule(&self, rule: &RuleDocument) -> Result<RuleView, ClientError> {
        self.ask(Method::PUT, &rule_path(&rule.name), Some(rule)).await
    }

    pub(super) async fn suspend_rule(&self, name: &str, suspended: bool) -> Result<RuleView, ClientError> {
        let body = serde_json::json!({ "suspended": suspended });
        self.ask(Method::PATCH, &rule_path(name), Some(&body)).await
    }

    pub(super) async fn remove_rule(&self, name: &str) -> Result<RuleView, ClientError> {
        self.ask(Method::DELETE, &rule_path(name), NOTHING).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.ask_at(method, &format!("/api/v1{path}"), body).await
    }

    async fn ask_at<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let what = format!("{method} {path}");
        let (status, body) = self.answer(method, path, body, TIMEOUT).await?;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| ClientError::Broken {
            socket: self.socket.clone(),
            what,
            error: format!("it answered with something else: {error}"),
        })
    }

    /// The status and the body of an answer, whatever they say.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let what = format!("{method} {path}");
        let broken = |error: String| ClientError::Broken { socket: self.socket.clone(), what, error };
        let body = match body.map(serde_json::to_vec).transpose() {
            Ok(body) => Full::from(body.unwrap_or_default()),
            Err(error) => return Err(broken(error.to_string())),
        };
        let request = Request::builder()
            .method(method)
            .uri(hyperlocal::Uri::new(&self.socket, path))
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(body);
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(broken(error.to_string())),
        };
        match time::timeout(patience, self.exchange(request)).await {
            Err(_) => Err(ClientError::Timeout(self.socket.clone(), patience)),
            Ok(Err(error)) => {
                Err(self.no_connection(&*error).unwrap_or_else(|| broken(with_causes(&*error))))
            }
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let answer = self.http.request(request).await?;
        Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
    }

    /// The daemon is not there, or not for us; nothing if the error is another.
    fn no_connection(&self, error: &(dyn std::error::Error + 'static)) -> Option<ClientError> {
        let mut sources = std::iter::successors(Some(error), |error| error.source());
        let kind = sources.find_map(|error| error.downcast_ref::<io::Error>())?.kind();
        match kind {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Some(ClientError::NoDaemon(self.socket.clone()))
            }
            io::ErrorKind::PermissionDenied => Some(ClientError::Permission(self.socket.clone())),
            _ => None,
        }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    #[derive(Deserialize)]
    struct Refusal {
        detail: String,
    }
    let text = serde_json::from_slice(body).map_or_else(
        |_| format!("the daemon answered {status}: is it another version of shaper?"),
        |Refusal { detail }| detail,
    );
    ClientError::Refused { status, text }
}

/// The characters that need no escape in a path (RFC 3986, 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes what has a meaning in a path.
fn encoded(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, UNRESERVED)
}

fn rule_path(name: &str) -> String {
    format!("/rules/{}", encoded(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(encoded("web-1.a_b~c").to_string(), "web-1.a_b~c");
        assert_eq!(encoded("a/b c?%é").to_string(), "a%2Fb%20c%3F%25%C3%A9");
    }

    #[test]
    fn exit_codes_part_what_scripts_must_part() {
        let refused = |status| ClientError::Refused { status, text: String::new() }.exit_code();
        assert_eq!(ClientError::NoDaemon(PathBuf::new()).exit_code(), 3);
        assert_eq!(ClientError::Timeout(PathBuf::new(), TIMEOUT).exit_code(), 3);
        for (status, code) in [
            (StatusCode::NOT_FOUND, 4),
            (StatusCode::MULTI_STATUS, 6),
            (StatusCode::BAD_REQUEST, 5),
            (StatusCode::CONFLICT, 5),
            (StatusCode::UNPROCESSABLE_ENTITY, 5),
            (StatusCode::INTERNAL_SERVER_ERROR, 1),
            (StatusCode::SERVICE_UNAVAILABLE, 1),
        ] {
            assert_eq!(refused(status), code, "{status}");
        }
    }

    #[test]
    fn a_socket_of_another_user_asks_for_root() {
        let client = Client::new(PathBuf::from("/run/a.sock"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = client.no_connection(&denied).expect("a known kind").to_string();
        assert_eq!(error, "no permission to speak to the daemon on /run/a.sock: run as root");
        assert!(client.no_connection(&io::Error::from(io::ErrorKind::BrokenPipe)).is_none());
    }
}
