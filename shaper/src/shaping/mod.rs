//! Decides who is shaped how.
//!
//! Pure: no system call, no clock, no async runtime. Adapters ([`crate::scope`], [`crate::api`]) speak to the daemon
//! through [`Shaper`]; [`crate::containers`] and [`crate::datapath`] use its types.

mod clauses;
mod compile;
mod container;
mod deliveries;
mod distribution;
mod document;
mod effects;
mod error;
mod event;
#[cfg(test)]
pub(crate) mod fake;
mod history;
mod interfaces;
mod maps;
mod overall;
mod plan;
mod policy;
mod presets;
mod ramp;
mod request;
mod selector;
mod shaper;
mod status;
mod units;
mod view;

pub(crate) use clauses::Clauses;
pub(crate) use compile::Peers;
pub(crate) use container::{Container, ContainerId, ContainerState, NetnsId, NetnsRef, RuntimeName};
pub(crate) use deliveries::Deliveries;
pub(crate) use distribution::{Distribution, Measured};
pub(crate) use document::{Files, Format, NoFiles, distributions, traces};
pub(crate) use effects::{Effects, Named, names_in};
pub(crate) use error::ShapingError;
pub(crate) use event::{Event, EventKind};
pub(crate) use history::History;
pub(crate) use interfaces::{Interfaces, check_interface};
pub(crate) use maps::Maps;
pub(crate) use plan::Plan;
pub(crate) use policy::{Latency, Loss, Policy, parse_duration};
pub(crate) use presets::{Preset, Presets};
pub(crate) use request::{Asked, Change, Direction, Directions, Lifetime, Request};
pub(crate) use selector::{Name, Selector};
pub(crate) use shaper::Shaper;
pub(crate) use status::{Problem, RuntimeStatus, Status};
pub(crate) use units::{quoted, short};
pub(crate) use view::{
    Cleared, ContainerView, Counts, Inspection, InterfaceInspection, InterfaceView, NamedPeer, QueueCounts,
    Sample, ShapingState, Totals,
};
