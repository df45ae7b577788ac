//! A virtual machine.
pub(crate) mod kernel;
