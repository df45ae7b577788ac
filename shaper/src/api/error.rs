//! The answer when something cannot be done: `{"error": "..."}` and a status.

use axum::{
    Json,
    extract::rejection::PathRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::shaping::ShapingError;

/// A status and a sentence.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    pub(super) fn bad_request(text: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text }
    }

    pub(super) fn failed(text: String) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, text }
    }

    pub(super) fn unavailable(text: String) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, text }
    }

    pub(super) fn not_found(text: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, text }
    }

    pub(super) fn method_not_allowed(text: String) -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, text }
    }
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
            ShapingError::Selector(_) | ShapingError::Rule(_) => StatusCode::BAD_REQUEST,
            ShapingError::Ambiguous { .. } | ShapingError::NotRunning { .. } => StatusCode::CONFLICT,
            ShapingError::Invalid(_) | ShapingError::Refused(_) | ShapingError::TooManyContainers { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            ShapingError::Failed(_) | ShapingError::About { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, text: error.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}
