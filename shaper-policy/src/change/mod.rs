//! Requests, and the policies that they make of those in force.

mod after;
mod clauses;
mod request;
mod setting;

pub use clauses::Clauses;
pub use request::{Asked, Request};
pub use setting::{Change, Lifetime};
