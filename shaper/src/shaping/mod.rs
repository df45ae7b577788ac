//! Decides who is shaped how.
//!
//! Pure: no system call, no clock, no async runtime. Adapters ([`crate::scope`], [`crate::api`]) speak to the daemon
//! through [`Shaper`]; [`crate::containers`] and [`crate::datapath`] use its types.

mod container;
mod deliveries;
mod distribution;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod history;
mod maps;
mod policy;
mod presets;
mod request;
mod shaper;
mod view;

pub(crate) use container::{Container, ContainerId, ContainerState, NetnsId, NetnsRef, RuntimeName};
pub(crate) use error::ShapingError;
pub(crate) use history::History;
pub(crate) use policy::{Latency, Loss, Policy};
pub(crate) use request::{Change, Direction, Directions, Lifetime, Request};
pub(crate) use shaper::Shaper;
pub(crate) use view::{
    ContainerView, Counts, Inspection, InterfaceInspection, InterfaceView, QueueCounts, Sample, Totals,
};
