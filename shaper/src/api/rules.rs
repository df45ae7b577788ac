//! Rules, under `/api/v1/rules`.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State, rejection::PathRejection},
    routing::get,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, error::ApiError};
use crate::shaping::{Rule, RuleDocument, RuleName, RuleView, RulesView, Shaper, ShapingError};

type Name = Result<Path<String>, PathRejection>;

/// Answers for rules.
pub(super) fn routes<S: Shaper>() -> Router<Arc<S>> {
    Router::new()
        .route("/rules", get(list::<S>))
        .route("/rules/{name}", get(one::<S>).put(put::<S>).patch(suspend::<S>).delete(remove::<S>))
}

async fn list<S: Shaper>(State(shaper): State<Arc<S>>) -> Json<RulesView> {
    Json(shaper.rules().await)
}

async fn one<S: Shaper>(State(shaper): State<Arc<S>>, name: Name) -> Answer<RuleView> {
    view(&shaper, &rule_name(name)?).await
}

/// Adds a rule, or takes it in the place of the one with its name.
async fn put<S: Shaper>(State(shaper): State<Arc<S>>, name: Name, body: Bytes) -> Answer<RuleView> {
    let name = rule_name(name)?;
    shaper.put_rule(rule(&name, &body)?).await?;
    view(&shaper, &name).await
}

/// A body that suspends a rule or resumes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspension {
    suspended: bool,
}

async fn suspend<S: Shaper>(State(shaper): State<Arc<S>>, name: Name, body: Bytes) -> Answer<RuleView> {
    let name = rule_name(name)?;
    let Suspension { suspended } = serde_json::from_slice(&body).map_err(bad_body)?;
    shaper.suspend_rule(&name, suspended).await?;
    view(&shaper, &name).await
}

/// Answers with the rule as it was.
async fn remove<S: Shaper>(State(shaper): State<Arc<S>>, name: Name) -> Answer<RuleView> {
    let name = rule_name(name)?;
    let last = view(&shaper, &name).await?;
    shaper.remove_rule(&name).await?;
    Ok(last)
}

fn rule_name(name: Name) -> Result<RuleName, ApiError> {
    let Path(name) = name?;
    name.parse().map_err(|error| ShapingError::Rule(error).into())
}

/// Reads a rule. Its document need not repeat the name.
fn rule(name: &RuleName, body: &[u8]) -> Result<Rule, ApiError> {
    let mut document: Value = serde_json::from_slice(body).map_err(bad_body)?;
    if let Some(fields) = document.as_object_mut() {
        let said = fields.entry("name").or_insert_with(|| name.as_str().into());
        if said.as_str() != Some(name.as_str()) {
            return Err(ApiError::bad_request(format!(
                "the path names the rule {name}, and the body another one"
            )));
        }
    }
    let document: RuleDocument = serde_json::from_value(document).map_err(bad_body)?;
    Rule::try_from(document).map_err(|error| ShapingError::Rule(error).into())
}

fn bad_body(error: serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("the body is not a rule: {error}"))
}

async fn view<S: Shaper>(shaper: &Arc<S>, name: &RuleName) -> Answer<RuleView> {
    let RulesView { rules, .. } = shaper.rules().await;
    let found = rules.into_iter().find(|view| view.rule.name == name.as_str());
    Ok(Json(found.ok_or_else(|| ShapingError::NoRule { name: name.to_string() })?))
}
