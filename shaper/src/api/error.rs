//! The answer when something cannot be done.

use axum::{
    extract::rejection::PathRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use shaper_policy::Segment;

use crate::{server::ProblemDetails, shaping::ShapingError};

/// A status and a sentence.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    text: String,
    /// The way to the value in the body that is wrong.
    pointer: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, text: String) -> Self {
        Self { status, text, pointer: None }
    }

    pub(super) fn bad_request(text: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn failed(text: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(super) fn unavailable(text: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    pub(super) fn not_found(text: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn method_not_allowed(text: String) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, text)
    }

    /// The same, about the value to which this way leads in the request's body.
    pub(super) fn at(self, path: &[Segment]) -> Self {
        let pointer = (!path.is_empty()).then(|| format!("#{}", pointer(path)));
        Self { pointer, ..self }
    }
}

/// A way as a JSON pointer (RFC 6901).
fn pointer(path: &[Segment]) -> String {
    let part = |segment: &Segment| match segment {
        Segment::Field(field) => format!("/{}", field.replace('~', "~0").replace('/', "~1")),
        Segment::Index(index) => format!("/{index}"),
    };
    path.iter().map(part).collect()
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(format!("the container's name in the path: {}", rejection.body_text()))
    }
}

impl From<ShapingError> for ApiError {
    fn from(error: ShapingError) -> Self {
        let status = match error.reason() {
            ShapingError::NotFound { .. } | ShapingError::NoneFits { .. } | ShapingError::NoRule { .. } => {
                StatusCode::NOT_FOUND
            }
            ShapingError::Outdated { .. } => StatusCode::PRECONDITION_FAILED,
            ShapingError::Selector(_) | ShapingError::Rule(_) => StatusCode::BAD_REQUEST,
            ShapingError::Ambiguous { .. } | ShapingError::NotRunning { .. } => StatusCode::CONFLICT,
            ShapingError::Invalid(_) | ShapingError::Refused(_) | ShapingError::TooManyContainers { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            ShapingError::Failed(_) | ShapingError::About { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let path = match error.reason() {
            ShapingError::Invalid(error) => error.path(),
            _ => &[],
        };
        Self::new(status, error.to_string()).at(path)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        ProblemDetails::new(self.status, self.text).at(self.pointer).into_response()
    }
}
