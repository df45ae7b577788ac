//! Harness.

pub mod probe;
