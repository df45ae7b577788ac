//! Requests, and the policies that they make of those in force.

mod after;
mod clauses;
mod document;
mod lifetime;
mod request;
mod whole;

pub use clauses::Clauses;
pub use lifetime::Lifetime;
pub use request::{Asked, Request};
pub use whole::{Side, Whole};
