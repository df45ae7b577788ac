//! `shaper`: degrades the network of running containers, live.
//!
//! See `ARCHITECTURE.md` for who may know whom.

// A task that nobody watches may end unseen.
#![cfg_attr(test, allow(clippy::disallowed_methods))]
// These panic when they cannot write.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod api;
mod cli;
mod clock;
mod containers;
mod daemon;
mod datapath;
mod doctor;
mod files;
#[cfg(test)]
mod fuzz;
mod network;
mod scope;
mod server;
mod shaping;

/// Gives memory back to the system within ten seconds after large work, by a thread of its own; glibc keeps most of it. Tests
/// count allocations with one of their own.
#[cfg(all(feature = "jemalloc", not(test)))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
