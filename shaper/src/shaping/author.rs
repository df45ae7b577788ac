//! Whoever changes the shaping of containers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one who asked for a change, or made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Author {
    /// A process of this machine.
    Process {
        /// The user that it runs for.
        uid: u32,
        /// The number of the process; none of one in another pid namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
    },
    /// A person at Scope's buttons.
    Scope,
    /// Whoever has this token.
    Token {
        /// The token's name.
        name: String,
    },
    /// A rule, or a container's own labels.
    Rule {
        /// The rule's name.
        name: String,
    },
    /// The kernel and the daemon, without a request.
    Shaper,
}

impl Author {
    /// All kinds.
    pub(crate) const KINDS: [&'static str; 5] = ["process", "scope", "token", "rule", "shaper"];

    /// The kind, as in JSON.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Process { .. } => "process",
            Self::Scope => "scope",
            Self::Token { .. } => "token",
            Self::Rule { .. } => "rule",
            Self::Shaper => "shaper",
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Self::Process { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Scope => f.write_str("Scope"),
            Self::Token { name } => write!(f, "token {name}"),
            Self::Rule { name } => write!(f, "rule {name}"),
            Self::Shaper => f.write_str("-"),
        }
    }
}
