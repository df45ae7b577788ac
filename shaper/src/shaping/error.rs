//! Why something was not done.

use std::{error, iter};

use thiserror::Error;

use super::{Failure, PolicyError, Refusal, RuleError, SelectorError, quoted};

/// Why a request was refused or failed; each says what to do about it. Nothing has changed when one is returned.
#[derive(Debug, Error)]
pub(crate) enum ShapingError {
    /// There is no such container.
    #[error("no container is called {}{}", quoted(name), or_else(near))]
    NotFound {
        /// The name or the beginning of an id that was asked for.
        name: String,
        /// Names that resemble it, the nearest first.
        near: Vec<String>,
    },
    /// A name or a beginning of an id that several share.
    #[error("{} may be any of {}: write more of the id", quoted(name), candidates.join(", "))]
    Ambiguous {
        /// The name that was asked for.
        name: String,
        /// The containers that it may be.
        candidates: Vec<String>,
    },
    /// A text that is no selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// No container fits a selector, or none that could be changed.
    #[error("no container fits {}{}", quoted(selector), left_out.as_ref().map_or_else(
        || ": `shaper list` shows all containers".to_owned(),
        |reason| format!(" and can be changed: {reason}"),
    ))]
    NoneFits {
        /// The selector.
        selector: String,
        /// The first of those that fit, with the reason why it is left out.
        left_out: Option<String>,
    },
    /// A request for more containers than may be changed at once.
    #[error("{count} containers would be changed, and at most {most} may be (--max-containers)")]
    TooManyContainers {
        /// The number of containers.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// The shaping is not the one that the request is about.
    #[error("container {name} is shaped in another way by now: look at it again before you change it")]
    Outdated {
        /// The container.
        name: String,
    },
    /// There is no such rule.
    #[error("no rule is called {}: `shaper rules` shows all", quoted(name))]
    NoRule {
        /// The name.
        name: String,
    },
    /// An error in a rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The container is not running.
    #[error("container {name} is {state}: only a running container can be shaped")]
    NotRunning {
        /// The container.
        name: String,
        /// The state of the container.
        state: super::ContainerState,
    },
    /// The request says what cannot be, by itself or after what is in force.
    #[error(transparent)]
    Invalid(#[from] PolicyError),
    /// The container or its host does not admit the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was tried and did not work.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// One of the others, with what it is about.
    #[error("{what}: {reason}")]
    About {
        /// The container or the interface.
        what: String,
        /// The reason.
        reason: Box<ShapingError>,
    },
}

fn or_else(near: &[String]) -> String {
    match near {
        [] => ", and no id starts with it: `shaper list` shows all containers".to_owned(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

impl ShapingError {
    /// The same, of `what`. Errors that name their container stay as they are.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Invalid(_) | Self::Refused(_) | Self::Failed(_) | Self::About { .. } => {
                Self::About { what: what.to_owned(), reason: Box::new(self) }
            }
            other => other,
        }
    }

    /// The text for where the name of the container that it is about stands already.
    pub(crate) fn beside(&self, container: &str) -> String {
        let text = self.to_string();
        let rest = text.strip_prefix("container ").and_then(|rest| rest.strip_prefix(container));
        rest.and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned).unwrap_or(text)
    }

    /// Tells whether what it is about has ended meanwhile, as containers do.
    pub(crate) fn is_of_the_gone(&self) -> bool {
        matches!(self.reason(), Self::Failed(Failure::Gone(_)))
    }

    /// The reason alone, without what it is about.
    pub(crate) fn reason(&self) -> &Self {
        match self {
            Self::About { reason, .. } => reason.reason(),
            other => other,
        }
    }
}

/// Returns the text of an error and of its causes, leaving out repetitions.
pub(crate) fn with_causes(error: &dyn error::Error) -> String {
    let causes = iter::successors(Some(error), |cause| (*cause).source());
    let mut texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_container_is_not_repeated_where_it_stands_already() {
        let gone = || ShapingError::from(Failure::Gone("network namespace"));
        let error = gone().about("eth0 (egress)").about("container web");
        assert_eq!(error.to_string(), "container web: eth0 (egress): the network namespace has gone");
        assert_eq!(error.beside("web"), "eth0 (egress): the network namespace has gone");
        assert_eq!(error.beside("we"), error.to_string());
        assert_eq!(gone().beside("web"), "the network namespace has gone");
    }
}
