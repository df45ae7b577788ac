//! `shaper man`: manual pages, of the texts that `--help` prints.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Command;
use clap_mangen::Man;
use roff::{Roff, roman};

use super::Streams;

/// The line above examples in the texts of commands.
const EXAMPLES: [&str; 2] = ["Examples:", "Example:"];

/// The arguments of `shaper man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes shaper.1, and a page for each command, such as shaper-set.1.

Examples:
  shaper man ./man1
  sudo shaper man /usr/local/share/man/man1")]
pub(super) struct Args {
    /// The directory for the pages; it is made if there is none
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

pub(super) fn run(args: &Args, command: Command, streams: &mut Streams<'_>) -> Result<()> {
    let directory = &args.directory;
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let pages = pages(command).context("write manual pages")?;
    for (name, page) in &pages {
        let path = directory.join(name);
        fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(writeln!(streams.out, "{} pages written to {}", pages.len(), directory.display())?)
}

/// The pages of a command and of those below it, with the names of their files.
fn pages(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = without_help(command);
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man =
        Man::new(command.clone()).manual("shaper").source(concat!("shaper ", env!("CARGO_PKG_VERSION")));
    pages.push((man.get_filename(), page(command, &man)?));
    command.get_subcommands().try_for_each(|below| add(below, pages))
}

/// A page. Lines of examples stay lines, which clap's own rendering would join.
fn page(command: &Command, man: &Man) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let begin = lines.iter().position(|line| EXAMPLES.contains(line)).unwrap_or(lines.len());
    section("NOTES", &lines[..begin], false).to_writer(&mut page)?;
    section("EXAMPLES", lines.get(begin + 1..).unwrap_or_default(), true).to_writer(&mut page)?;
    Ok(page)
}

/// A section of some lines, which stay as they are if they are `literal`; nothing without any.
fn section(title: &str, lines: &[&str], is_literal: bool) -> Roff {
    let mut roff = Roff::new();
    if lines.is_empty() {
        return roff;
    }
    roff.control("SH", [title]);
    if is_literal {
        roff.control("nf", []);
    }
    for line in lines {
        match line.trim() {
            "" => roff.control("PP", []),
            text => roff.text([roman(text)]),
        };
    }
    if is_literal {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_command_has_a_page_with_its_options_and_examples() {
        let pages = pages(Cli::command()).expect("pages");
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["shaper.1", "shaper-set.1", "shaper-run.1", "shaper-rules-add.1", "shaper-man.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        let commands = Cli::command();
        assert!(
            commands.get_subcommands().all(|one| names.contains(&&*format!("shaper-{}.1", one.get_name())))
        );
        let text = |name: &str| {
            let page = pages.iter().find(|(other, _)| other == name).expect("a page");
            String::from_utf8(page.1.clone()).expect("text")
        };
        let set = text("shaper-set.1");
        assert!(set.contains(r"\fB\-\-latency\fR"), "{set}");
        assert!(set.contains(".SH EXAMPLES\n.nf\nshaper set web \\-\\-latency 120ms\n"), "{set}");
        assert!(text("shaper.1").contains("shaper\\-set(1)"), "{}", text("shaper.1"));
    }
}
