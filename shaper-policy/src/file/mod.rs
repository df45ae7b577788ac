//! A plan as a document: a policy file in TOML or JSON, a body for the HTTP API, and what is kept in the kernel.
//!
//! What is wrong is said where it is: each value is checked while it is read. What only shows at the end of a table is
//! found by reading once, and said by reading again up to the value that is to blame.

mod parts;
mod policy;
mod presets;
mod shown;
mod tables;
#[cfg(test)]
mod tests;
mod values;

use std::cell::{Cell, RefCell};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed as _, Error as _},
};

use self::{parts::Document, tables::OnlyTables, values::Context};
pub use self::{
    presets::{Preset, Presets},
    tables::{distributions, traces},
};
use crate::model::{Distribution, Named, Plan, Trace, quoted};

/// The longest document in TOML, in bytes: reading it takes some sixty times as much memory.
pub(super) const MAX_TOML: usize = 1 << 19;

/// The format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML, as in `Cargo.toml`.
    Toml,
    /// JSON, as in the HTTP API.
    Json,
}

/// Where the files are that a document names in place of tables.
pub trait Files {
    /// The distribution in the file at `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    fn distribution(&self, name: &str, path: &str) -> Result<Distribution, String>;

    /// The delivery trace in the file at `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    fn trace(&self, name: &str, path: &str) -> Result<Trace, String>;
}

/// Where no file may be named.
pub struct NoFiles;

impl NoFiles {
    fn refuse<T>(path: &str) -> Result<T, String> {
        Err(format!("invalid list of numbers {}: only the command line reads files", quoted(path)))
    }
}

impl Files for NoFiles {
    fn distribution(&self, _: &str, path: &str) -> Result<Distribution, String> {
        Self::refuse(path)
    }

    fn trace(&self, _: &str, path: &str) -> Result<Trace, String> {
        Self::refuse(path)
    }
}

impl Plan {
    /// Reads a plan; names are those of its own tables and of `named`.
    ///
    /// # Errors
    ///
    /// When it is not well-formed, or says what cannot be: with the line that does.
    pub fn parse(text: &str, format: Format, files: &dyn Files, named: &Named) -> Result<Self, String> {
        match format {
            Format::Toml if text.len() > MAX_TOML => Err(format!(
                "{} bytes of TOML are too many: the most are {MAX_TOML}; name files of tables, or write JSON",
                text.len()
            )),
            Format::Toml => read(files, named, || toml::Deserializer::parse(text), |error| error.to_string()),
            Format::Json => {
                let plan = read_json(text, files, named);
                plan.map_err(|error| error.to_string())
            }
        }
    }
}

fn read_json(text: &str, files: &dyn Files, named: &Named) -> Result<Plan, serde_json::Error> {
    let mut named = named.clone();
    let mut json = serde_json::Deserializer::from_str(text);
    OnlyTables { files, named: &mut named }.deserialize(&mut json)?;
    json.end()?;
    twice(&named, |document| document.deserialize(&mut serde_json::Deserializer::from_str(text)))
}

/// Reads tables first, and then the rest, from a deserializer made anew each time.
fn read<'de, D: Deserializer<'de>, E: From<D::Error>>(
    files: &dyn Files,
    named: &Named,
    make: impl Fn() -> Result<D, E>,
    show: impl Fn(E) -> String,
) -> Result<Plan, String> {
    let mut named = named.clone();
    let tables = || OnlyTables { files, named: &mut named }.deserialize(make()?).map_err(E::from);
    let mut tables = tables;
    tables().map_err(&show)?;
    twice(&named, |document| Ok(document.deserialize(make()?)?)).map_err(show)
}

/// Reads a document, and if what is wrong only showed at the end of a table, once more.
fn twice<T, E>(named: &Named, read: impl Fn(Document<'_>) -> Result<T, E>) -> Result<T, E> {
    let context = Context { named, tables: Cell::new(0), blamed: RefCell::default() };
    read(Document { context: &context }).or_else(|error| {
        if context.blamed.borrow().is_none() {
            return Err(error);
        }
        context.tables.set(0);
        read(Document { context: &context }).and(Err(error))
    })
}

impl<'de> Deserialize<'de> for Plan {
    /// Without files, by way of a value that is read as often as needed. What may be large is better parsed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let made = || Ok::<_, serde_json::Error>(&value);
        read(&NoFiles, &Named::default(), made, |error| error.to_string()).map_err(D::Error::custom)
    }
}
