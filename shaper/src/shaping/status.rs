//! The status of the daemon.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{ContainerView, RuntimeName, ShapingState};

/// The reason why nothing can be shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: String,
    /// When the daemon first found that nothing can be shaped.
    pub(crate) since: SystemTime,
}

/// A runtime that the daemon watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuntimeStatus {
    pub(crate) runtime: RuntimeName,
    /// The socket that it was found at, of a runtime that may have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<String>,
    /// The number of its containers, as last heard.
    pub(crate) containers: usize,
    /// The reason why it cannot be watched; none if it is.
    pub(crate) problem: Option<String>,
}

/// The state of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The daemon's version.
    pub(crate) version: String,
    /// The time when it was started, as RFC 3339 has it, to the second.
    pub(crate) started: String,
    /// The reason why nothing can be shaped; none if it can.
    pub(crate) problem: Option<String>,
    /// The time since when nothing can be shaped, as `started`.
    pub(crate) problem_since: Option<String>,
    /// The runtimes that are watched, by name.
    pub(crate) runtimes: Vec<RuntimeStatus>,
    /// The number of containers that the runtimes list.
    pub(crate) containers: usize,
    /// The number of containers with shaping, whatever its state.
    pub(crate) shaped: usize,
    /// The number of containers of whose shaping somebody else removed a part.
    pub(crate) broken: usize,
    /// The number of containers with shaping that cannot be looked at.
    pub(crate) unknown: usize,
}

impl Status {
    pub(crate) fn of(
        views: &[ContainerView],
        runtimes: Vec<RuntimeStatus>,
        problem: Option<Problem>,
        started: SystemTime,
    ) -> Self {
        let count = |is: &dyn Fn(&ContainerView) -> bool| views.iter().filter(|view| is(view)).count();
        let has = |view: &ContainerView, is: fn(&ShapingState) -> bool| {
            view.interfaces.iter().any(|interface| is(&interface.state))
        };
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: time(started),
            problem_since: problem.as_ref().map(|problem| time(problem.since)),
            problem: problem.map(|problem| problem.reason),
            runtimes,
            containers: views.len(),
            shaped: count(&|view| !view.interfaces.is_empty()),
            broken: count(&|view| has(view, |state| matches!(state, ShapingState::Broken(_)))),
            unknown: count(&|view| has(view, |state| matches!(state, ShapingState::Unknown(_)))),
        }
    }
}
