//! Whose a request is, and on which state of the shaping it depends: what its head says.

use axum::{
    extract::FromRequestParts,
    http::{header::IF_MATCH, request::Parts},
};

use super::error::ApiError;
use crate::shaping::{Author, Tag};

/// The author of a request, as the server found him, and the tag that the shaping has to have still.
pub(super) struct Asked {
    pub(super) by: Author,
    pub(super) if_match: Option<Tag>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let by = parts.extensions.get().cloned().unwrap_or(Author::Shaper);
        let if_match = match parts.headers.get(IF_MATCH).map(|value| value.to_str().unwrap_or_default()) {
            None | Some("*") => None,
            Some(text) => {
                let tag = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let tag = tag.filter(|tag| !tag.contains('"')).ok_or_else(|| {
                    ApiError::bad_request("If-Match: expected one ETag, in quotation marks, or *".to_owned())
                })?;
                Some(Tag(tag.to_owned()))
            }
        };
        Ok(Self { by, if_match })
    }
}
