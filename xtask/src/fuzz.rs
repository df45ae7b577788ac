//! Gives what reads inputs one input after the other, and shows what each target took.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::artifacts::{self, Artifact};
use crate::process::{output, shell_line};
use crate::progress::say;
use crate::setup::{self, Component};
use crate::workspace::Workspace;

/// Fuzzes what reads effects, targets, policies, presets, traces, distributions, pinned policies and requests
///
/// Inputs are made from those in shaper/fuzz/TARGET; those that reach new code are kept for the rest of the run. No input
/// may panic, take more than 64 MiB, or take more than 1 s. What does is a fault: its input is kept in target/fuzz/TARGET,
/// with the line that repeats it. To have a test for it, copy the file to shaper/fuzz/TARGET: `cargo xtask test` tries all of
/// those, and fuzzes each target for 2 s. Network frames and the pins that a daemon adopts are fuzzed by the tests
/// `random_frames` and of `pins`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target, beside its own inputs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Try this file only; needs a target
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Targets; all if none is named (an unknown name lists them)
    target: Vec<String>,
}

/// Stands before the compiler, and has it count the edges of the control flow that are taken in the crates of the targets.
const COUNTING: &str = r#"#!/bin/sh
compiler=$1
shift
case " $* " in
*" --crate-name shaper "* | *" --crate-name shaper_policy "*)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    ;;
esac
exec "$compiler" "$@"
"#;
/// Have the packages of the targets optimised; assertions and checks for overflow stay.
const OPTIMISED: [&str; 2] =
    ["profile.test.package.shaper.opt-level=3", "profile.test.package.shaper-policy.opt-level=3"];
const HEADER: [&str; 7] = ["target", "inputs", "per second", "edges", "slowest ms", "most KiB", "faults"];

/// `cargo xtask fuzz`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure(workspace, &[Component::Bpf])?;
    say("building shaper's targets");
    let compiler = counting_compiler(workspace)?;
    let wrapper = format!("build.rustc-workspace-wrapper={compiler:?}");
    let mut build = vec!["test", "--no-run", "--config", &wrapper];
    OPTIMISED.iter().for_each(|profile| build.extend(["--config", profile]));
    build.extend(["--package=shaper", "--bin=shaper"]);
    let built = artifacts::build(workspace, &build)?;
    let program = built.iter().find(|artifact| artifact.is_test).context("cargo built no tests of shaper")?;
    let all = targets(program)?;
    if let Some(unknown) = arguments.target.iter().find(|name| !all.contains(name)) {
        bail!("unknown target {unknown:?}: expected one of {}", all.join(", "));
    }
    let names = if arguments.target.is_empty() { &all } else { &arguments.target };
    let mut rows = vec![HEADER.map(str::to_owned)];
    let mut is_clean = true;
    for name in names {
        say(&format!("fuzzing {name}"));
        let (row, succeeded) = run_one(workspace, program, name, arguments)?;
        rows.push(row);
        is_clean &= succeeded;
    }
    println!("\n{}", table(&rows));
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes [`COUNTING`] to a file that can be run.
fn counting_compiler(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.root.join("target/fuzz/compiler");
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, COUNTING)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    write().with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The names of all targets.
fn targets(program: &Artifact) -> Result<Vec<String>> {
    let listing = output(Command::new(&program.executable).args(["--list", "--format=terse"]))?;
    let names = listing.lines().filter_map(|line| line.strip_prefix("fuzz::")?.strip_suffix(": test"));
    Ok(names.filter(|name| !name.contains("::")).map(|name| name.replace('_', "-")).collect())
}

/// Fuzzes one target; returns its row, and whether it has no faults.
fn run_one(
    workspace: &Workspace,
    program: &Artifact,
    name: &str,
    arguments: &Arguments,
) -> Result<([String; 7], bool)> {
    let directory = workspace.root.join("target/fuzz").join(name);
    let outcome = directory.join("outcome.json");
    if outcome.exists() {
        fs::remove_file(&outcome).with_context(|| format!("remove {}", outcome.display()))?;
    }
    let mut command = Command::new(&program.executable);
    command.args(["--exact", &format!("fuzz::{}", name.replace('-', "_")), "--nocapture", "--quiet"]);
    command.current_dir(&program.directory).envs(program.environment());
    command.env("SHAPER_FUZZ_SECONDS", arguments.seconds.to_string());
    if let Some(input) = &arguments.input {
        let input = input.canonicalize().with_context(|| format!("find {}", input.display()))?;
        command.env("SHAPER_FUZZ_INPUT", input);
    }
    let status = command.status().with_context(|| format!("start `{}`", shell_line(&command)))?;
    if !outcome.exists() {
        let input = keep_last(&directory)?;
        println!(
            "{name}: ended with {status}\n  repeat: cargo xtask fuzz {name} --input {}",
            input.display()
        );
        let ended = [name, "-", "-", "-", "-", "-", "ended"].map(str::to_owned);
        return Ok((ended, false));
    }
    let text = fs::read(&outcome).with_context(|| format!("read {}", outcome.display()))?;
    let outcome = serde_json::from_slice(&text).with_context(|| format!("parse {}", outcome.display()))?;
    Ok((row(name, &outcome), status.success()))
}

/// Keeps the input at which a target ended.
fn keep_last(directory: &Path) -> Result<PathBuf> {
    let kept = directory.join("ended");
    fs::copy(directory.join("current"), &kept).with_context(|| format!("keep {}", kept.display()))?;
    Ok(kept)
}

fn row(name: &str, outcome: &Value) -> [String; 7] {
    let number = |field: &str| outcome[field].as_f64().unwrap_or_default();
    let faults: BTreeMap<String, Value> =
        serde_json::from_value(outcome["faults"].clone()).unwrap_or_default();
    [
        name.to_owned(),
        number("inputs").to_string(),
        format!("{:.0}", number("inputs") / number("seconds").max(1.0)),
        number("edges").to_string(),
        format!("{:.1}", number("slowest_ms")),
        format!("{:.0}", number("most_bytes") / 1024.0),
        faults.len().to_string(),
    ]
}

/// Rows with their columns below one another.
fn table(rows: &[[String; 7]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..HEADER.len()).map(width).collect();
    let mut table = String::new();
    for [name, figures @ ..] in rows {
        table += &format!("{name:<0$}", widths[0]);
        for (figure, width) in figures.iter().zip(&widths[1..]) {
            table += &format!("  {figure:>width$}");
        }
        table += "\n";
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_its_figures_below_one_another() {
        let outcome = json!({"inputs": 4200, "seconds": 2.0, "edges": 7, "slowest_ms": 1.25, "most_bytes": 4096,
            "faults": {"panics": "file"}});
        let rows = [HEADER.map(str::to_owned), row("netem", &outcome)];
        assert_eq!(
            table(&rows),
            "target  inputs  per second  edges  slowest ms  most KiB  faults\n\
             netem     4200        2100      7         1.2         4       1\n"
        );
    }
}
