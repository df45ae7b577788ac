//! Admits requests that come over TCP: by bearer tokens (RFC 6750), or by a certificate of the client's; and none that
//! a page of another site has a browser send.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use axum::http::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, HOST, HeaderName, ORIGIN},
    request::Parts,
    uri::Authority,
};
use parking_lot::Mutex;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::files;

/// The shortest token, in bytes: too long to be guessed if it was drawn by chance.
const SHORTEST_TOKEN: usize = 16;

/// The conditions under which a request over TCP is admitted.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Option<Tokens>,
    /// The names by which clients may call this machine, besides its addresses and `localhost`.
    hosts: Vec<String>,
    /// True if whoever can connect may read.
    anyone_reads: bool,
}

/// The reason why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Denied {
    #[error(
        "the request is for another host: call this one by its address or localhost, or start the daemon with --listen-host"
    )]
    Host,
    #[error("the request was sent by a page of another site")]
    Origin,
    #[error(
        "a token is needed: send `Authorization: Bearer TOKEN`, with one of the file that --tokens names"
    )]
    NoToken,
    #[error("there is no such token in the file that --tokens names")]
    UnknownToken,
    #[error("this token only admits to read: use one with `access = \"full\"`")]
    ReadOnly,
    #[error(
        "over TCP, changes need a token: start the daemon with --tokens, or use the socket that --plugin-socket names"
    )]
    NoTokens,
}

impl Denied {
    /// The status of the answer.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::NoToken | Self::UnknownToken => StatusCode::UNAUTHORIZED,
            Self::Origin | Self::ReadOnly | Self::NoTokens => StatusCode::FORBIDDEN,
        }
    }
}

impl Access {
    /// Admits whoever has a token of a file, if there is one. Without one `anyone_reads`, or nobody.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub(crate) fn new(tokens: Option<&Path>, hosts: Vec<String>, anyone_reads: bool) -> Result<Self> {
        let tokens = tokens.map(Tokens::read).transpose()?;
        Ok(Self { tokens, hosts, anyone_reads })
    }

    /// Admits a request, and names whose it is, if that is known.
    ///
    /// # Errors
    ///
    /// The reason why it is not admitted.
    pub(super) fn admit(&self, head: &Parts, has_certificate: bool) -> Result<Option<Arc<str>>, Denied> {
        self.refuse_other_sites(head)?;
        if has_certificate {
            return Ok(Some("certificate".into()));
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let Some(tokens) = &self.tokens else {
            return if reads && self.anyone_reads { Ok(None) } else { Err(Denied::NoTokens) };
        };
        match bearer(&head.headers) {
            Some(sent) => match tokens.find(sent.as_bytes()).ok_or(Denied::UnknownToken)? {
                Token { access: Allowed::Read, .. } if !reads => Err(Denied::ReadOnly),
                Token { name, .. } => Ok(Some(name)),
            },
            None if reads && self.anyone_reads => Ok(None),
            None => Err(Denied::NoToken),
        }
    }

    /// Refuses what a browser sends for a page of another site: a name that an attacker had lead here (DNS rebinding),
    /// or his own page as its origin.
    fn refuse_other_sites(&self, head: &Parts) -> Result<(), Denied> {
        let text = |name: HeaderName| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = text(HOST).or_else(|| head.uri.authority().map(Authority::as_str)).unwrap_or_default();
        let authority: Authority = host.parse().map_err(|_| Denied::Host)?;
        let name = authority.host();
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_ours = |own: &str| own.eq_ignore_ascii_case(name);
        if !is_address && !is_ours("localhost") && !self.hosts.iter().any(|own| is_ours(own)) {
            return Err(Denied::Host);
        }
        match text(ORIGIN) {
            Some(origin) if origin.split_once("://").is_none_or(|(_, from)| from != host) => {
                Err(Denied::Origin)
            }
            _ => Ok(()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The tokens of a file, which is read again when it has changed.
#[derive(Debug)]
struct Tokens {
    path: PathBuf,
    known: Mutex<(Stamp, Vec<Token>)>,
}

type Stamp = Option<(u64, u64, SystemTime)>;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    name: Arc<str>,
    token: Arc<str>,
    access: Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Allowed {
    Read,
    Full,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: Vec<Token>,
}

impl Tokens {
    fn read(path: &Path) -> Result<Self> {
        let known = Mutex::new((stamp(path), read(path)?));
        Ok(Self { path: path.to_owned(), known })
    }

    /// The token that was sent. All are compared, and each in a time that does not tell how much of it is right.
    fn find(&self, sent: &[u8]) -> Option<Token> {
        let mut known = self.known.lock();
        let now = stamp(&self.path);
        if known.0 != now {
            match read(&self.path) {
                Ok(tokens) => {
                    tracing::info!(file = %self.path.display(), tokens = tokens.len(), "tokens read");
                    known.1 = tokens;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the file of tokens is not in force: those that it had before are");
                }
            }
            known.0 = now;
        }
        let mut found = None;
        for token in &known.1 {
            if bool::from(token.token.as_bytes().ct_eq(sent)) {
                found = Some(token.clone());
            }
        }
        found
    }
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.len(), file.modified().ok()?))
}

fn read(path: &Path) -> Result<Vec<Token>> {
    let shown = path.display();
    let mode = fs::metadata(path).with_context(|| format!("read {shown}"))?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{shown} has tokens, and others may read or change it: chmod 600 {shown}");
    let document: Document = toml::from_str(&files::read(path)?).with_context(|| format!("read {shown}"))?;
    let tokens = document.token;
    ensure!(
        !tokens.is_empty(),
        "{shown} has no token: expected a table [[token]] with name, token and access"
    );
    for (index, token) in tokens.iter().enumerate() {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        ensure!(
            !token.name.is_empty() && token.name.len() <= 64 && token.name.chars().all(good),
            "{shown}: the name of token {} has to be up to 64 letters, digits, -, _ and .",
            index + 1
        );
        ensure!(
            token.token.len() >= SHORTEST_TOKEN && token.token.chars().all(|c| c.is_ascii_graphic()),
            "{shown}: the token {} has to be at least {SHORTEST_TOKEN} characters without white space: openssl rand -hex 32 \
             makes one",
            token.name
        );
        let is_twice = tokens[..index].iter().any(|other| other.name == token.name);
        ensure!(!is_twice, "{shown}: two tokens are called {}", token.name);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const FULL: &str = "0123456789abcdef0123456789abcdef";
    const READ: &str = "fedcba9876543210fedcba9876543210";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens.toml");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        (directory, path)
    }

    fn tokens(full: &str) -> String {
        format!(
            "[[token]]\nname = \"admin\"\ntoken = \"{full}\"\naccess = \"full\"\n\
             [[token]]\nname = \"grafana\"\ntoken = \"{READ}\"\naccess = \"read\"\n"
        )
    }

    /// The outcome of a request: the token's name, `anybody`, or why it is denied.
    fn outcome(access: &Access, method: &str, headers: &[(&str, &str)]) -> Result<String, Denied> {
        let mut request = Request::builder().method(method).uri("/api/v1/containers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        access.admit(&head, false).map(|name| name.map_or("anybody".to_owned(), |name| name.to_string()))
    }

    #[test]
    fn a_token_admits_to_what_it_is_for() {
        let (_directory, path) = file(&tokens(FULL));
        let access = Access::new(Some(&path), Vec::new(), false).expect("good tokens");
        let host = ("host", "10.0.0.1:7474");
        let with = |token: &str| format!("Bearer {token}");
        let (full, read, wrong) = (with(FULL), with(READ), with(&FULL.replace('0', "1")));
        for (method, authorization, expected) in [
            ("GET", Some(&full), Ok("admin")),
            ("DELETE", Some(&full), Ok("admin")),
            ("GET", Some(&read), Ok("grafana")),
            ("PATCH", Some(&read), Err(Denied::ReadOnly)),
            ("GET", Some(&wrong), Err(Denied::UnknownToken)),
            ("GET", None, Err(Denied::NoToken)),
            ("PUT", None, Err(Denied::NoToken)),
        ] {
            let mut headers = vec![host];
            headers.extend(authorization.map(|text| ("authorization", text.as_str())));
            assert_eq!(
                outcome(&access, method, &headers),
                expected.map(str::to_owned),
                "{method} {headers:?}"
            );
        }
        let other = "another-token-for-the-same";
        fs::write(&path, tokens(other)).expect("a file");
        let admin = outcome(&access, "PUT", &[host, ("authorization", &with(other))]);
        assert_eq!(admin.as_deref(), Ok("admin"), "it is read again");
        fs::write(&path, "token = 5").expect("a file");
        let admin = outcome(&access, "PUT", &[host, ("authorization", &with(other))]);
        assert_eq!(admin.as_deref(), Ok("admin"), "what it had before holds");
    }

    #[test]
    fn without_tokens_those_on_this_machine_may_read() {
        let here = Access::new(None, Vec::new(), true).expect("access");
        let host = ("host", "localhost:7474");
        assert_eq!(outcome(&here, "GET", &[host]).as_deref(), Ok("anybody"));
        assert_eq!(outcome(&here, "POST", &[host]), Err(Denied::NoTokens));
        let elsewhere = Access::new(None, Vec::new(), false).expect("access");
        assert_eq!(outcome(&elsewhere, "GET", &[host]), Err(Denied::NoTokens));
    }

    #[test]
    fn no_page_of_another_site_has_a_browser_ask() {
        let access = Access::new(None, vec!["shaper.example".to_owned()], true).expect("access");
        for (host, origin, expected) in [
            ("127.0.0.1:7474", None, Ok("anybody")),
            ("[::1]:7474", Some("http://[::1]:7474"), Ok("anybody")),
            ("LOCALHOST", Some("http://LOCALHOST"), Ok("anybody")),
            ("shaper.example:7474", Some("https://shaper.example:7474"), Ok("anybody")),
            ("attacker.example:7474", None, Err(Denied::Host)),
            ("127.0.0.1.attacker.example", None, Err(Denied::Host)),
            ("", None, Err(Denied::Host)),
            ("127.0.0.1:7474", Some("http://attacker.example"), Err(Denied::Origin)),
            ("127.0.0.1:7474", Some("http://127.0.0.1:8080"), Err(Denied::Origin)),
            ("127.0.0.1:7474", Some("null"), Err(Denied::Origin)),
        ] {
            let headers: Vec<_> =
                [("host", host)].into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
            assert_eq!(outcome(&access, "GET", &headers), expected.map(str::to_owned), "{headers:?}");
        }
    }

    #[test]
    fn a_file_of_tokens_that_cannot_be_trusted_is_refused() {
        for (text, said) in [
            (String::new(), "has no token"),
            (tokens("short"), "the token admin has to be at least 16 characters"),
            (tokens(FULL).replace("grafana", "admin"), "two tokens are called admin"),
            (tokens(FULL).replace("grafana", "a b"), "the name of token 2"),
            (tokens(FULL).replace("\"read\"", "\"all\""), "unknown variant"),
        ] {
            let (_directory, path) = file(&text);
            let error = Access::new(Some(&path), Vec::new(), false).expect_err(said);
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
        let (_directory, path) = file(&tokens(FULL));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        let error = Access::new(Some(&path), Vec::new(), false).expect_err("others may read it");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
