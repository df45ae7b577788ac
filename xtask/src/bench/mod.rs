//! Runs the benches of `tests/src/bin/bench`, on this machine or in a virtual machine, and writes down what they found.

mod document;
mod table;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use serde_json::json;

use self::table::{Lines, Table};
use crate::artifacts;
use crate::process::shell_line;
use crate::progress::say;
use crate::setup::kernel::Series;
use crate::setup::{self, Component};
use crate::vm::{Event, GuestCommand, Machine, show};
use crate::workspace::Workspace;

/// Measures what shaping costs and how true it is, beside netem and a bare veth
///
/// Prints tables in Markdown, and writes them with facts about the machine to bench/ in the target directory. All that
/// needs fq and netem runs in virtual machines, one for each series of kernels at the same time, whose clocks count
/// instructions: one is a nanosecond. Nothing fails when a bound is not held: it is said. Progress goes to standard error.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the tables into BENCHMARKS.md too
    #[arg(long)]
    update: bool,
    /// Boot only this series of kernels (default: both)
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// The benches to run (default: all)
    #[arg(value_enum)]
    benches: Vec<Bench>,
}

/// Something to be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Instructions that shaping adds to a packet, a stream and a request
    Cost,
    /// Instructions that other effects and targets add to a packet
    Policies,
    /// The accuracy of delays
    Delay,
    /// The throughput of TCP through a delay
    Goodput,
    /// The losses of ICMP, UDP and TCP
    Loss,
    /// That nothing else is lost: under a long delay, and while policies change
    Delivery,
    /// The accuracy of every effect: distributions, correlations, bursts, rates
    Truth,
    /// Time of the program alone, on this machine's processor
    Program,
    /// Time of controls and reports, with up to 1,000 containers, on this machine
    Control,
    /// Time of a container's controls while another one is changed, on this machine
    Busy,
}

impl Bench {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    const fn runs_in_vm(self) -> bool {
        !matches!(self, Self::Program | Self::Control | Self::Busy)
    }
}

/// QEMU counts `rep movsb` as an instruction for each byte. Without this feature, the kernel copies and zeroes eight bytes
/// with one.
const CPU: &str = "max,-erms";

/// The programs that the benches are made of.
struct Programs {
    shaper: String,
    bench: String,
}

/// `cargo xtask bench`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let asked = if arguments.benches.is_empty() { Bench::value_variants() } else { &arguments.benches };
    let (in_vm, here): (Vec<_>, Vec<_>) = asked.iter().partition(|bench| bench.runs_in_vm());
    setup::ensure(workspace, &[Component::Bpf, Component::Test, Component::Vm])?;
    say("building shaper and the benches");
    let built =
        artifacts::build(workspace, &["build", "--release", "-p=shaper", "-p=shaper-tests", "--bins"])?;
    let path =
        |package, name| anyhow::Ok(artifacts::binary(&built, package, name)?.to_string_lossy().into_owned());
    // Now, as the tables, once written down, are a change themselves.
    let machine = document::machine(workspace)?;
    let programs = Programs { shaper: path("shaper", "shaper")?, bench: path("shaper-tests", "bench")? };
    let mut found = Vec::new();
    for bench in here {
        found.push((bench, measure_here(bench, &programs)?));
    }
    if !in_vm.is_empty() {
        let all = Series::value_variants();
        let kernels = arguments.kernel.as_ref().map_or(all, std::slice::from_ref);
        found.extend(measure_in_vms(workspace, kernels, &in_vm, &programs)?);
    }
    publish(workspace, &machine, &found, arguments.update)
}

fn measure_here(bench: Bench, programs: &Programs) -> Result<Vec<Table>> {
    say(&format!("measuring on this machine: {}", bench.name()));
    let mut command = Command::new(&programs.bench);
    command.arg(bench.name()).env("SHAPER_BIN", &programs.shaper).stdin(Stdio::null());
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start `{}`", shell_line(&command)))?;
    if !output.status.success() {
        bail!("the bench {} failed ({}): it needs root", bench.name(), output.status);
    }
    let mut lines = Lines::default();
    show(&lines.feed(&output.stdout))?;
    lines.tables()
}

/// Measures on each kernel, in machines that run at the same time; the tables of each bench are one after the other.
fn measure_in_vms(
    workspace: &Workspace,
    kernels: &[Series],
    benches: &[Bench],
    programs: &Programs,
) -> Result<Vec<(Bench, Vec<Table>)>> {
    let mut found: Vec<_> = benches.iter().map(|bench| (*bench, Vec::new())).collect();
    thread::scope(|scope| {
        let measure = |kernel| scope.spawn(move || measure_in_vm(workspace, kernel, benches, programs));
        for machine in kernels.iter().map(|kernel| measure(*kernel)).collect::<Vec<_>>() {
            let measured = machine.join().map_err(|_| anyhow!("a measurement panicked"))??;
            for ((_, all), (_, tables)) in found.iter_mut().zip(measured) {
                all.extend(tables);
            }
        }
        Ok(found)
    })
}

/// Boots once and runs the benches one after the other.
fn measure_in_vm(
    workspace: &Workspace,
    kernel: Series,
    benches: &[Bench],
    programs: &Programs,
) -> Result<Vec<(Bench, Vec<Table>)>> {
    let place = format!("Linux {}", kernel.prefix().trim_end_matches('.'));
    say(&format!("booting a virtual machine to measure in: {place}"));
    // The guest's clock runs ahead while it waits for files of the host: it reads the programs first.
    let read_ahead = ["sh", "-c", "exec cat -- \"$@\" > /dev/null", "sh", &programs.shaper, &programs.bench];
    let mut commands = vec![GuestCommand::new(read_ahead.map(str::to_owned).to_vec(), &workspace.root)];
    commands.extend(benches.iter().map(|bench| guest_command(*bench, programs, &workspace.root)));
    let machine =
        Machine { kernel, memory: 4096, icount: true, cpu: CPU, timeout: Duration::from_secs(7200) };
    let (mut found, mut ended, mut lines) = (Vec::new(), 0, Lines::default());
    machine.run(workspace, &commands, |event| {
        match event {
            Event::Output(bytes) => return show(&lines.feed(&bytes)),
            Event::Exit(0) if ended > 0 => {
                let mut tables = std::mem::take(&mut lines).tables()?;
                tables.iter_mut().for_each(|table| table.measured_on(&place));
                found.push((benches[ended - 1], tables));
            }
            Event::Exit(0) => {}
            Event::Exit(code) => {
                bail!("the bench {} failed ({code})", benches[ended.saturating_sub(1)].name())
            }
        }
        if let Some(next) = benches.get(ended) {
            say(&format!("measuring on {place}: {}", next.name()));
        }
        ended += 1;
        Ok(())
    })?;
    Ok(found)
}

fn guest_command(bench: Bench, programs: &Programs, root: &Path) -> GuestCommand {
    GuestCommand::new(vec![programs.bench.clone(), bench.name()], root).env("SHAPER_BIN", &programs.shaper)
}

/// Prints the tables, and writes them to files.
fn publish(workspace: &Workspace, machine: &str, found: &[(Bench, Vec<Table>)], update: bool) -> Result<()> {
    let directory = workspace.target.join("bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let write = |name: String, text: String| {
        let file = directory.join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    };
    for (bench, tables) in found {
        let markdown: Vec<_> = tables.iter().map(Table::to_markdown).collect();
        let markdown = markdown.join("\n");
        println!("\n{markdown}");
        write(format!("{}.md", bench.name()), format!("{machine}\n{markdown}"))?;
        let values: Vec<_> = tables.iter().map(|table| &table.value).collect();
        write(format!("{}.json", bench.name()), json!({ "machine": machine, "tables": values }).to_string())?;
        if update {
            document::update(&workspace.root, &bench.name(), machine, &markdown)?;
        }
    }
    let broken: Vec<_> =
        found.iter().flat_map(|(_, tables)| tables.iter().flat_map(Table::broken_bounds)).collect();
    say(&match broken.len() {
        0 => "all bounds are held".to_owned(),
        count => format!("{count} bounds are not held:\n    {}", broken.join("\n    ")),
    });
    say(&format!("the tables are in {}", directory.display()));
    Ok(())
}
