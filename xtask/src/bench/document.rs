//! `BENCHMARKS.md`: between a bench's two marks stands what it found last.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::process::{find_program, output};
use crate::setup::kernel::{Kernel, Series};
use crate::workspace::Workspace;

const FILE: &str = "BENCHMARKS.md";

/// Facts about the machine that was measured on, in a sentence.
pub(super) fn machine(workspace: &Workspace) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("read what processor this is")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read what kernel this is")?;
    let series: Vec<_> = release.trim().splitn(3, ['.', '-']).take(2).collect();
    let guests =
        Series::value_variants().iter().filter_map(|series| Kernel::find(&workspace.vm_dir(), *series));
    let guests = guests.map(|kernel| kernel.release).collect::<Vec<_>>().join(" and ");
    let qemu = find_program("qemu-system-x86_64").map(|qemu| output(Command::new(qemu).arg("--version")));
    let qemu = qemu.transpose()?.unwrap_or_default();
    let qemu = qemu.lines().next().unwrap_or("no QEMU").replace("QEMU emulator version ", "QEMU ");
    let commit =
        output(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(&workspace.root));
    let commit = commit.unwrap_or_else(|_| "unknown".to_owned());
    Ok(format!(
        "Commit {}; {count} processors, {model}, Linux {}; in virtual machines of {}, Linux {guests}.\n",
        commit.trim(),
        series.join("."),
        qemu.split(" (").next().unwrap_or_default()
    ))
}

/// Puts a bench's tables between its marks.
pub(super) fn update(root: &Path, bench: &str, machine: &str, tables: &str) -> Result<()> {
    let file = root.join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let text = replaced(&text, bench, &format!("{machine}\n{tables}"))
        .with_context(|| format!("{FILE} has no marks of the bench {bench}"))?;
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

fn replaced(text: &str, bench: &str, tables: &str) -> Option<String> {
    let begin = format!("<!-- cargo xtask bench {bench} -->\n");
    let end = format!("<!-- end of {bench} -->");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{tables}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = "# One\n<!-- cargo xtask bench cost -->\nold\n<!-- end of cost -->\nmore\n";
        let expected = "# One\n<!-- cargo xtask bench cost -->\n\nnew\n<!-- end of cost -->\nmore\n";
        assert_eq!(replaced(text, "cost", "new").as_deref(), Some(expected));
        assert_eq!(replaced(text, "delay", "new"), None);
    }
}
