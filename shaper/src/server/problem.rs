//! Errors in the form that all answers have: problem details (RFC 9457).

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// The problem with a request, as its answer tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProblemDetails {
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// The problem in a sentence, and what to do.
    detail: String,
    /// The way to the value in the request's body that is wrong: a JSON pointer (RFC 6901) as a fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
}

impl ProblemDetails {
    /// A problem with this status, in a sentence.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { title, status: status.as_u16(), detail: detail.into(), pointer: None }
    }

    /// The same with the way to the value that is wrong.
    pub(crate) fn at(self, pointer: Option<String>) -> Self {
        Self { pointer, ..self }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl IntoResponse for ProblemDetails {
    fn into_response(self) -> Response {
        let mut answer = Response::new(Body::from(self.json()));
        *answer.status_mut() = self.status();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        answer
    }
}
