//! `shaper`: degrades the network of running containers, live.
//!
//! See `ARCHITECTURE.md` for who may know whom.

// These panic when they cannot write.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod api;
mod cli;
mod containers;
mod daemon;
mod datapath;
mod files;
#[cfg(test)]
mod fuzz;
mod network;
mod scope;
mod server;
mod shaping;

fn main() -> std::process::ExitCode {
    cli::main()
}
