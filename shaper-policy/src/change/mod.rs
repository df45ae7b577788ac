//! What a person asks for, and what it makes of the policy in force.

mod after;
mod clauses;
mod request;
mod setting;

pub use clauses::Clauses;
pub use request::{Asked, Request};
pub use setting::{Change, Lifetime};
