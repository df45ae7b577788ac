//! The project's only automation: CI, the README and people run these same commands.

#![expect(dead_code)]
mod process;
mod progress;
mod setup;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Sets up, builds, tests and demonstrates this repository
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
    }
    Ok(ExitCode::SUCCESS)
}
