//! Measures one thing, beside `netem` and a bare veth where there is something to compare, and prints what came out.
//!
//! Progress goes to standard error, each table as one line of JSON to standard output: `cargo xtask bench` reads them.

mod busy;
mod clock;
mod containers;
mod control;
mod cost;
mod datagrams;
mod delay;
mod delivery;
mod echo;
mod goodput;
mod loss;
mod program;
mod table;
mod truth;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::table::Table;

fn main() -> ExitCode {
    let measured = match std::env::args().nth(1).as_deref() {
        Some("control") => control::run(),
        Some("busy") => busy::run().map(|table| vec![table]),
        Some("cost") => cost::run(),
        Some("policies") => cost::policies(),
        Some("program") => program::run(),
        Some("delay") => delay::run(),
        Some("goodput") => goodput::run(),
        Some("loss") => loss::run(),
        Some("delivery") => delivery::run(),
        Some("truth") => truth::run(),
        other => Err(anyhow::anyhow!("no bench is called {other:?}")),
    };
    match measured.and_then(|tables| print(&tables)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(tables: &[Table]) -> Result<()> {
    for table in tables {
        println!("bench: {}", serde_json::to_string(table)?);
    }
    if tables.is_empty() {
        bail!("nothing was measured");
    }
    Ok(())
}
