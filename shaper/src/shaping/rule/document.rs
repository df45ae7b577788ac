//! A rule as a document, in JSON and TOML.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shaper_policy::Segment;

use super::{Rule, RuleError, RuleProblem};
use crate::shaping::{PolicyError, Request, Selector};

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleDocument {
    /// The name.
    pub(crate) name: String,
    /// The selector, or several of which one has to fit.
    select: Texts,
    /// The number of containers, or a share of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<Number>,
    /// See [`Rule::priority`].
    #[serde(default, skip_serializing_if = "is_usual")]
    priority: i32,
    /// See [`Rule::is_suspended`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suspended: bool,
    /// The time at which it ends (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The shaping, as the body of a change of a container, or several of them in their order.
    set: Changes,
}

/// A text, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// Changes of a container, which are read later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Changes {
    Several(Vec<Value>),
    One(Value),
}

/// A number, or a text with one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_usual(priority: &i32) -> bool {
    *priority == 0
}

impl TryFrom<RuleDocument> for Rule {
    type Error = RuleError;

    fn try_from(document: RuleDocument) -> Result<Self, RuleError> {
        let rule = document.read()?;
        match rule.is_of_labels() {
            true => Err(RuleError::at("name", RuleProblem::Reserved)),
            false => Ok(rule),
        }
    }
}

impl RuleDocument {
    /// The rule, which may be that of a container's labels.
    ///
    /// # Errors
    ///
    /// When a value is not what its key wants.
    pub(crate) fn read(self) -> Result<Rule, RuleError> {
        let Self { name, select, count, priority, suspended, until, set } = self;
        let texts = match select {
            Texts::One(text) => vec![text],
            Texts::Several(texts) => texts,
        };
        let selector =
            Selector::parse(texts).map_err(|error| RuleError::at("select", RuleProblem::Selector(error)))?;
        let count = count.map(|count| match count {
            Number::Plain(number) => number.to_string().parse(),
            Number::Text(text) => text.parse(),
        });
        let count = count.transpose().map_err(|error| RuleError::at("count", RuleProblem::Count(error)))?;
        let until = until.map(|text| time(&text)).transpose()?;
        let requests = requests(set).map_err(|error| RuleError::at("set", RuleProblem::Shaping(error)))?;
        if requests.iter().any(|request| request.lifetime.is_some()) {
            return Err(RuleError::at("set", RuleProblem::Lifetime));
        }
        let name = name.parse()?;
        Ok(Rule { name, selector, count, priority, is_suspended: suspended, until, requests })
    }
}

fn requests(changes: Changes) -> Result<Vec<Request>, PolicyError> {
    match changes {
        Changes::One(change) => Ok(vec![Request::from_value(change)?]),
        Changes::Several(changes) if changes.is_empty() => Ok(vec![Request::default().checked()?]),
        Changes::Several(changes) => {
            let read = |(index, change)| {
                Request::from_value(change).map_err(|error| error.at(Segment::Index(index)))
            };
            changes.into_iter().enumerate().map(read).collect()
        }
    }
}

/// Reads a time, to whole seconds.
fn time(text: &str) -> Result<SystemTime, RuleError> {
    let time = humantime::parse_rfc3339(text).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since
        .map(|since| UNIX_EPOCH + Duration::from_secs(since.as_secs()))
        .ok_or_else(|| RuleError::at("until", RuleProblem::Time(text.to_owned())))
}

impl From<&Rule> for RuleDocument {
    fn from(rule: &Rule) -> Self {
        let select = match rule.selector.texts() {
            [one] => Texts::One(one.clone()),
            several => Texts::Several(several.to_vec()),
        };
        Self {
            name: rule.name.to_string(),
            select,
            count: rule.count.map(|count| Number::Text(count.to_string())),
            priority: rule.priority,
            suspended: rule.is_suspended,
            until: rule.until.map(|until| humantime::format_rfc3339_seconds(until).to_string()),
            set: match &rule.requests[..] {
                [one] => Changes::One(written(one)),
                several => Changes::Several(several.iter().map(written).collect()),
            },
        }
    }
}

/// A request that was read can be written.
fn written(request: &Request) -> Value {
    serde_json::to_value(request).unwrap_or_default()
}
