//! Views of rules and of what has become of them.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::RuleDocument;

/// A rule, and what has become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleView {
    /// The rule.
    pub(crate) rule: RuleDocument,
    /// The state.
    pub(crate) state: RuleState,
    /// The file that it is in; none if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// The containers that have its shaping, by name.
    pub(crate) containers: Vec<String>,
    /// The reasons why it could not be carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
}

/// The state of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuleState {
    /// It is carried out.
    Active,
    /// It is not carried out until it is resumed.
    Suspended,
    /// No longer carried out, as its time is over.
    Over,
}

impl RuleState {
    /// All states.
    pub(crate) const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Over];
}

impl fmt::Display for RuleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Over => "over",
        })
    }
}

/// All rules, and what is wrong with their files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RulesView {
    /// The rules, by name.
    pub(crate) rules: Vec<RuleView>,
    /// The files whose present contents are not in force, with the reasons.
    pub(crate) problems: Vec<String>,
}
