//! Whose a request is.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::shaping::Author;

/// The author of a request, as the server found him.
pub(super) struct By(pub(super) Author);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned().unwrap_or(Author::Shaper)))
    }
}
