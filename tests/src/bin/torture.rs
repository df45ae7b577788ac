//! Runs scenarios in which the daemon is killed, starved or hurried, and prints what was left behind as a table.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use shaper_tests::{
    torture::{self, Extent, Outcome},
    tracer::Calls,
};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenarios; the first argument is the number of rounds, or `all`. Returns whether nothing was found.
fn run(arguments: &[String]) -> Result<bool> {
    let (rounds, names) = arguments.split_first().context("expected a number of rounds, or `all`")?;
    let extent = extent(rounds)?;
    let all = torture::names();
    let names: Vec<&str> = if names.is_empty() { all } else { names.iter().map(String::as_str).collect() };
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["scenario", "rounds", "leaks", "faults", "lost pings", "ms a round"]);
    let mut is_clean = true;
    for name in names {
        eprintln!("{name} ...");
        let outcome = torture::run(name, extent).with_context(|| format!("run {name}"))?;
        for found in outcome.leaks.iter().chain(&outcome.faults) {
            eprintln!("  {found}");
        }
        is_clean &= outcome.is_clean();
        table.add_row(row(name, &outcome));
    }
    println!("{table}");
    Ok(is_clean)
}

fn extent(rounds: &str) -> Result<Extent> {
    let seed = std::env::var("SHAPER_SEED").ok().map_or(Ok(1), |seed| seed.parse()).context("SHAPER_SEED")?;
    if rounds == "all" {
        return Ok(Extent { calls: Calls::All, kills: usize::MAX, rounds: 1000, seed });
    }
    let rounds = rounds.parse().with_context(|| format!("invalid number of rounds {rounds:?}"))?;
    Ok(Extent { calls: Calls::Lasting, kills: rounds, rounds, seed })
}

fn row(name: &str, outcome: &Outcome) -> [String; 6] {
    let rounds = u32::try_from(outcome.rounds.max(1)).unwrap_or(u32::MAX);
    [
        name.to_owned(),
        outcome.rounds.to_string(),
        outcome.leaks.len().to_string(),
        outcome.faults.len().to_string(),
        outcome.lost_pings.to_string(),
        (outcome.time / rounds).as_millis().to_string(),
    ]
}
