//! A policy as a document: a policy file in TOML or JSON, a body for the HTTP API, and what is kept in the kernel.
//!
//! A document is read once, into texts ([`raw`], [`parts`], [`tables`]); these are understood once ([`build`]), and an error
//! knows the way to its text, from which [`locate`] finds the line.

mod build;
mod locate;
mod parts;
mod presets;
mod raw;
mod shaping;
mod shown;
mod tables;
#[cfg(test)]
mod tests;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed as _, Error as _},
};

use self::locate::located;
pub use self::presets::{Preset, Presets};
pub(crate) use self::{
    build::{draft, in_field},
    parts::{RawPolicy, RawTables},
    raw::{Limits, NETEM, Seed, Table, Texts},
};
use crate::model::{Distribution, Named, Policy, PolicyError, Trace};

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
    fn distribution(&self, name: &str, path: &str) -> Result<Distribution, PolicyError>;

    /// The delivery trace in the file at `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    fn trace(&self, name: &str, path: &str) -> Result<Trace, PolicyError>;
}

/// Where no file may be named.
pub struct NoFiles;

impl NoFiles {
    fn refuse<T>(path: &str) -> Result<T, PolicyError> {
        let expected = "numbers, as only the command line reads files";
        Err(PolicyError::invalid("list of numbers", path, expected))
    }
}

impl Files for NoFiles {
    fn distribution(&self, _: &str, path: &str) -> Result<Distribution, PolicyError> {
        Self::refuse(path)
    }

    fn trace(&self, _: &str, path: &str) -> Result<Trace, PolicyError> {
        Self::refuse(path)
    }
}

impl Policy {
    /// Reads a policy; names are those of its own tables and of `named`.
    ///
    /// # Errors
    ///
    /// When it is not well-formed, or says what cannot be: with the line that does.
    pub fn parse(text: &str, format: Format, files: &dyn Files, named: &Named) -> Result<Self, PolicyError> {
        let limits = Limits::default();
        let seed = Seed::<RawPolicy>::new(&limits);
        let raw = match format {
            Format::Toml if text.len() > MAX_TOML => {
                let advice = "name files of tables, or write JSON";
                return Err(PolicyError::too_many("bytes of TOML", MAX_TOML, advice));
            }
            Format::Toml => toml::Deserializer::parse(text)
                .and_then(|document| seed.deserialize(document))
                .map_err(PolicyError::malformed)?,
            Format::Json => from_json(seed, text.as_bytes())?,
        };
        raw.build(files, named).map_err(|error| match format {
            Format::Toml => located(error, toml::Deserializer::parse(text)),
            Format::Json => located(error, Ok(&mut serde_json::Deserializer::from_str(text))),
        })
    }
}

/// Reads the whole of a text in JSON.
///
/// # Errors
///
/// When it is no JSON, or no such table.
pub(crate) fn from_json<T: Table>(seed: Seed<'_, T>, text: &[u8]) -> Result<T, PolicyError> {
    let mut document = serde_json::Deserializer::from_slice(text);
    let table = seed.deserialize(&mut document).map_err(PolicyError::malformed)?;
    document.end().map_err(PolicyError::malformed)?;
    Ok(table)
}

impl<'de> Deserialize<'de> for Policy {
    /// Without files.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limits = Limits::default();
        let raw = Seed::<RawPolicy>::new(&limits).deserialize(deserializer)?;
        raw.build(&NoFiles, &Named::default()).map_err(D::Error::custom)
    }
}
