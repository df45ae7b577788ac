//! The common types of all modules: containers, their shaping, and the policies of [`shaper_policy`].
//!
//! Pure: no system call, no clock, no async runtime. Adapters ([`crate::scope`], [`crate::api`]) speak to the daemon
//! through [`Shaper`]; [`crate::containers`] and [`crate::datapath`] use its types.

mod author;
mod choice;
mod container;
mod endpoint;
mod error;
mod event;
mod failure;
#[cfg(test)]
pub(crate) mod fake;
mod figures;
mod history;
mod hook;
mod journal;
mod outcomes;
mod protection;
mod refusal;
mod rule;
mod selection;
mod selector;
mod shaper;
mod status;
mod terms;
mod view;

pub(crate) use author::Author;
pub(crate) use choice::{Chosen, Known};
pub(crate) use container::{
    Container, ContainerId, ContainerState, NetnsId, NetnsRef, Pod, RuntimeKind, RuntimeName,
};
pub(crate) use endpoint::Endpoint;
pub(crate) use error::{ShapingError, with_causes};
pub(crate) use event::{Event, EventKind};
pub(crate) use failure::{Attempt, Failure};
pub(crate) use figures::{Durations, Figures};
pub(crate) use history::History;
pub(crate) use hook::Hook;
pub(crate) use journal::{Action, Entry, EventCounts, Journal, KEPT};
pub(crate) use outcomes::Outcomes;
pub(crate) use protection::{Insistence, Protected, Protection};
pub(crate) use refusal::{Refusal, UNSEEN};
pub(crate) use rule::{
    LABEL_PREFIX, MAX_RULES, Rule, RuleDocument, RuleError, RuleName, RuleState, RuleView, Rules, RulesView,
    read_rules,
};
pub(crate) use selection::{
    Changed, Completion, ContainerResult, Count, CountError, InForce, Order, Selection, rank,
};
pub(crate) use selector::{Meant, Selector, SelectorError};
pub(crate) use shaper::Shaper;
pub(crate) use status::{Problem, RuntimeStatus, Status};
pub(crate) use terms::{Tag, Terms};
pub(crate) use view::{
    Cleared, ContainerView, Inspection, InterfaceInspection, InterfaceView, NamedPeer, QueueCounts, Sample,
    ShapingState, Totals,
};

pub(crate) use shaper_common::OUTCOMES;
pub(crate) use shaper_policy::{
    Asked, CLAUSES, Clause, Clauses, Direction, Directions, Distribution, Effects, Field, Files, FlagKind,
    Format, Interfaces, Latency, Lifetime, Loss, Maps, MatchRule, Measured, Name, Named, NoFiles, Pace,
    Peers, Policy, PolicyError, Preset, Presets, Problem as PolicyProblem, Request, Shaping, Simulation,
    Trace, Whole, check_interface, check_network, names_in, parse_duration, quoted, short, show_time,
};
