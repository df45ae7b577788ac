//! The flags of single effects: one for each clause that is one.

use std::path::Path;

use clap::{Arg, ArgMatches, Args, Command, builder::ValueParser, error::ErrorKind};

use super::tables::FilesIn;
use crate::shaping::{CLAUSES, Clause, Clauses, Effects, Field, Files as _, FlagKind, Named, PolicyError};

/// The heading of these flags in the help.
const HEADING: &str = "Effects";

/// The meaning of a flag's value, and notes on the files that it names.
#[derive(Clone, Debug)]
pub(super) struct Understood<T> {
    pub(super) value: T,
    pub(super) notes: Vec<String>,
}

/// The effects that flags ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct EffectFlags {
    pub(super) clauses: Clauses,
    pub(super) notes: Vec<String>,
}

/// The names of all these flags.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    flags().map(|(clause, ..)| clause.name)
}

fn flags() -> impl Iterator<Item = (&'static Clause, &'static str, &'static str, FlagKind)> {
    CLAUSES.iter().filter_map(|clause| match clause.field {
        Field::Flag { value, help, kind } => Some((clause, value, help, kind)),
        _ => None,
    })
}

impl Args for EffectFlags {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|(clause, value, help, kind)| {
            let parser = move |text: &str| read(clause, kind, text);
            Arg::new(clause.name)
                .long(clause.name)
                .value_name(value)
                .help(help)
                .help_heading(HEADING)
                .allow_hyphen_values(kind == FlagKind::Text)
                .value_parser(ValueParser::new(parser))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for EffectFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in names() {
            let read: Option<&Understood<Clauses>> = matches
                .try_get_one(name)
                .map_err(|error| clap::Error::raw(ErrorKind::UnknownArgument, error))?;
            if let Some(Understood { value, notes }) = read {
                self.clauses = std::mem::take(&mut self.clauses).and(value.clone());
                self.notes.extend(notes.clone());
            }
        }
        Ok(())
    }
}

/// Reads the value of one flag.
fn read(clause: &'static Clause, kind: FlagKind, text: &str) -> Result<Understood<Clauses>, PolicyError> {
    let (files, mut named) = (FilesIn::default(), Named::default());
    let text = match kind {
        FlagKind::Text | FlagKind::Number => {
            files.named_by(text, &mut named)?;
            text.to_owned()
        }
        FlagKind::File => {
            let name = file_name(Path::new(text), clause.name);
            named.traces.insert(name.clone(), files.trace(&name, text)?);
            name
        }
    };
    let value = Clauses::parse(&[(clause.name, text)], &named).map_err(PolicyError::anywhere)?;
    Ok(Understood { value, notes: files.notes() })
}

/// Reads all effects at once.
pub(super) fn netem(words: &str) -> Result<Understood<Effects>, PolicyError> {
    let (files, mut named) = (FilesIn::default(), Named::default());
    files.named_by(words, &mut named)?;
    Ok(Understood { value: Effects::parse(words, &named)?, notes: files.notes() })
}

/// The name of a file without what tells its kind, if that is one word.
fn file_name(path: &Path, otherwise: &str) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.filter(|stem| !stem.contains(|c: char| c.is_whitespace() || c.is_control()));
    stem.unwrap_or(otherwise).to_owned()
}
