//! A shaping as it is asked for, and its check.

use serde::Deserialize;

use crate::shaping::{Change, Directions, Latency, Lifetime, Loss, Request};

/// The body of `PUT /containers/{name}/shaping`; what is left out stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShapingInput {
    /// `120ms`; `0` is none.
    latency: Option<String>,
    /// `2.5%`; `0` is none.
    loss: Option<String>,
    /// `egress` if left out.
    direction: Option<Directions>,
    /// `10m`, or `forever`.
    r#for: Option<String>,
}

impl TryFrom<ShapingInput> for Request {
    type Error = String;

    fn try_from(input: ShapingInput) -> Result<Self, String> {
        if input.latency.is_none() && input.loss.is_none() && input.r#for.is_none() {
            return Err("nothing is asked for: give at least one of latency, loss and for".to_owned());
        }
        Ok(Self {
            directions: input.direction.unwrap_or_default(),
            latency: change(input.latency, Latency::parse)?,
            loss: change(input.loss, Loss::parse)?,
            lifetime: change(input.r#for, str::parse::<Lifetime>)?,
        })
    }
}

fn change<T>(text: Option<String>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Change<T>, String> {
    Ok(match text {
        None => Change::Keep,
        Some(text) => Change::To(parse(&text)?),
    })
}
