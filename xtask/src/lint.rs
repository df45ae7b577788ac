//! Formatting, clippy, the rules of this repository, and those for dependencies.

use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, find_program, run, succeeds};
use crate::progress::say;
use crate::setup::{self, Component};
use crate::tidy;
use crate::workspace::Workspace;

/// `cargo xtask lint`.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    let in_workspace = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).current_dir(&workspace.root);
        command
    };
    // Clippy compiles the build script of `shaper`, which compiles the BPF programs.
    setup::ensure(workspace, &[Component::Bpf])?;
    say("checking the formatting");
    run(&mut in_workspace(&["fmt", "--all", "--check"]))?;
    say("running clippy");
    run(&mut in_workspace(&["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    say("running clippy on the BPF programs");
    run(&mut for_bpf(in_workspace(&["clippy", "--package=shaper-ebpf", "--", "-D", "warnings"])))?;
    say("checking the rules of this repository");
    tidy::run(workspace)?;
    check_dependencies(workspace)?;
    say("nothing to complain about");
    Ok(())
}

/// Checks the dependencies by `deny.toml`. A machine may lack cargo-deny or a network: what was not checked is said, and
/// is no failure.
fn check_dependencies(workspace: &Workspace) -> Result<()> {
    let Some(program) = find_program("cargo-deny") else {
        say("dependencies: not checked, since there is no cargo-deny: `cargo install --locked cargo-deny`");
        return Ok(());
    };
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(&workspace.root);
        command
    };
    if !succeeds(cargo().args(["fetch", "--locked"]).current_dir(&workspace.root)) {
        say("dependencies: not checked, since those for other systems cannot be fetched");
        return Ok(());
    }
    say("checking the dependencies' licences, sources and duplicates");
    run(&mut deny(&["check", "bans", "licenses", "sources"]))?;
    if !succeeds(&mut deny(&["fetch", "db"])) {
        say("advisories: not checked, since the RustSec database cannot be fetched");
        return Ok(());
    }
    say("checking the dependencies for advisories");
    run(&mut deny(&["check", "--disable-fetch", "advisories"]))
}

/// Lets clippy look at a program without the standard library as if it were for this machine: the BPF toolchain may
/// have no clippy. There, unwinding would need a standard library, and a stable compiler has no intrinsics otherwise.
fn for_bpf(mut command: Command) -> Command {
    command.env("CARGO_PROFILE_DEV_PANIC", "abort").env("RUSTC_BOOTSTRAP", "1");
    command
}
