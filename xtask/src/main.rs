//! The project's only automation: CI, the README and people run these same commands.

mod artifacts;
mod bench;
mod capabilities;
mod demo;
mod fuzz;
mod lint;
mod process;
mod progress;
mod setup;
mod test;
mod tidy;
mod torture;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::setup::Component;
use crate::workspace::Workspace;

/// Sets up, builds, tests, measures and demonstrates this repository
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Setup(setup::Arguments),
    Vm(vm::Arguments),
    /// Builds the daemon, the tests' harness and this tool
    Build {
        /// Build with optimisations
        #[arg(long)]
        release: bool,
    },
    Test(test::Arguments),
    Bench(bench::Arguments),
    Demo(demo::Arguments),
    Torture(torture::Arguments),
    Fuzz(fuzz::Arguments),
    /// Checks the formatting, runs clippy, and checks the rules of this repository and those for dependencies
    Lint,
    /// Checks the rules of this repository: who may name whom, no leftovers, no long files
    Tidy,
}

fn main() -> ExitCode {
    progress::start_clock();
    let Arguments { task } = Arguments::parse();
    match run(task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Setup(arguments) => setup::run(&workspace, &arguments)?,
        Task::Vm(arguments) => return vm::run(&workspace, arguments),
        Task::Build { release } => build(&workspace, release)?,
        Task::Test(arguments) => test::run(&workspace, &arguments)?,
        Task::Bench(arguments) => bench::run(&workspace, &arguments)?,
        Task::Demo(arguments) => return demo::run(&workspace, &arguments),
        Task::Torture(arguments) => return torture::run(&workspace, &arguments),
        Task::Fuzz(arguments) => return fuzz::run(&workspace, &arguments),
        Task::Lint => lint::run_all(&workspace)?,
        Task::Tidy => tidy::run(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn build(workspace: &Workspace, release: bool) -> Result<()> {
    setup::ensure(workspace, &[Component::Bpf])?;
    let mut command = process::cargo();
    command.arg("build").args(release.then_some("--release")).current_dir(&workspace.root);
    process::run(&mut command)
}
