//! The part of a path after its `?`: whom a request is for, and what it may do.

use axum::http::Uri;

use super::error::ApiError;
use crate::shaping::{CountError, Selection, Selector, quoted};

/// The parameters of requests for many containers.
const PARAMETERS: [&str; 7] =
    ["selector", "count", "allow_none", "dry_run", "partial", "force", "max_containers"];

/// The events that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventsAsked {
    /// The id behind which they are; none is the last ones.
    pub(super) after: Option<u64>,
    /// At most so many.
    pub(super) limit: Option<usize>,
}

/// Reads what a request for events says.
///
/// # Errors
///
/// When a parameter is unknown, or not a number.
pub(super) fn events(uri: &Uri) -> Result<EventsAsked, ApiError> {
    let query = Query::of(uri, &["after", "limit"])?;
    let after = query.last("after").map(|text| text.parse().map_err(|_| bad("after", text, "an event's id")));
    let limit =
        query.last("limit").map(|text| text.parse().map_err(|_| bad("limit", text, "a number of events")));
    Ok(EventsAsked { after: after.transpose()?, limit: limit.transpose()? })
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the parameters, all of which are `known`.
    fn of(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned();
        let pairs: Vec<(String, String)> = pairs.collect();
        match pairs.iter().find(|(name, _)| !known.contains(&&**name)) {
            Some((name, _)) => {
                let known = known.join(", ");
                Err(ApiError::bad_request(format!("unknown parameter {}: expected {known}", quoted(name))))
            }
            None => Ok(Self(pairs)),
        }
    }

    /// The last value of a parameter.
    fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.last(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(bad(name, other, "true or false")),
        }
    }

    /// The selection; of all containers if it names no selector and `or_all`.
    fn selection(&self, or_all: bool) -> Result<Selection, ApiError> {
        let texts: Vec<_> =
            self.0.iter().filter(|(name, _)| name == "selector").map(|(_, text)| text).collect();
        let selector = match &*texts {
            [] if or_all => Selector::parse(["all"]),
            [] => {
                return Err(ApiError::bad_request(
                    "expected a parameter selector, for example ?selector=web".to_owned(),
                ));
            }
            _ => Selector::parse(texts.into_iter().cloned()),
        };
        let selector = selector.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let count = self.last("count").map(str::parse).transpose();
        let max = self
            .last("max_containers")
            .map(|text| text.parse().map_err(|_| bad("max_containers", text, "a number of containers")));
        Ok(Selection {
            selector,
            count: count.map_err(|error: CountError| ApiError::bad_request(error.to_string()))?,
            allow_none: self.flag("allow_none")?,
            dry_run: self.flag("dry_run")?,
            partial: self.flag("partial")?,
            force: self.flag("force")?,
            max_containers: max.transpose()?,
        })
    }
}

/// The containers that a change is for.
pub(super) fn to_change(uri: &Uri) -> Result<Selection, ApiError> {
    Query::of(uri, &PARAMETERS)?.selection(false)
}

/// The containers to list; none is all of them.
pub(super) fn to_list(uri: &Uri) -> Result<Option<Selection>, ApiError> {
    let query = Query::of(uri, &["selector", "count", "allow_none"])?;
    (!query.0.is_empty()).then(|| query.selection(true)).transpose()
}

/// The manner in which one container is to be changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// True if it is meant though it is protected.
    pub(super) force: bool,
    /// True if nothing is to be done, but shown.
    pub(super) dry_run: bool,
}

/// Reads the manner in which one container is to be changed.
pub(super) fn manner(uri: &Uri) -> Result<Manner, ApiError> {
    let query = Query::of(uri, &["force", "dry_run"])?;
    Ok(Manner { force: query.flag("force")?, dry_run: query.flag("dry_run")? })
}

fn bad(name: &str, value: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!("invalid {name} {}: expected {expected}", quoted(value)))
}
