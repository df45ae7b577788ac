//! Harness.

pub mod docker;
