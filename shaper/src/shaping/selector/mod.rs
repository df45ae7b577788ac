//! Selectors: containers by name, label, pod, image and more.
//!
//! Names are told apart from patterns here; which container a name means is for those to say who know all of them.

mod error;
mod parse;
mod pattern;
mod term;

use std::{collections::BTreeMap, fmt};

pub(crate) use self::error::SelectorError;
use self::term::{KINDS, Term};
use super::{Container, ContainerId, RuntimeName, ShapingError};

/// The most names and kinds of a selector.
const MAX_PARTS: usize = 256;
/// The longest text of a selector, in bytes.
const MAX_LENGTH: usize = 4096;

/// Containers by name or by what else is known of them: `web`, `'shop-*'`, `label:app=web+!ns:test`.
///
/// Equal if it was written the same.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// The texts that it was written in: one for each argument.
    texts: Vec<String>,
    /// One of these has to fit, each of whose parts has to.
    any: Vec<Vec<Part>>,
}

/// A name or a kind, perhaps after `!`.
#[derive(Clone, Debug)]
struct Part {
    except: bool,
    term: Term,
}

/// The containers that the names in a selector stand for.
pub(crate) type Meant = BTreeMap<String, (RuntimeName, ContainerId)>;

impl Selector {
    /// Reads texts of which a container has to fit one.
    ///
    /// # Errors
    ///
    /// When there is none, or one is no selector.
    pub(crate) fn parse<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Result<Self, SelectorError> {
        parse::selector(texts.into_iter().map(Into::into).collect())
    }

    /// The container with this name or id, and nothing that looks like a pattern.
    pub(crate) fn of_name(name: &str) -> Self {
        let part = Part { except: false, term: Term::Name(name.to_owned()) };
        Self { texts: vec![name.to_owned()], any: vec![vec![part]] }
    }

    /// The text that selects the container of this name, whatever characters it has.
    pub(crate) fn escaped(name: &str) -> String {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        match name {
            "all" => r"\all".to_owned(),
            name => {
                name.chars().flat_map(|c| (!is_plain(c)).then_some('\\').into_iter().chain([c])).collect()
            }
        }
    }

    /// The texts that it was written in: one for each argument.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The name that it is, if it is no more than that.
    pub(crate) fn as_name(&self) -> Option<&str> {
        match (&*self.texts, &*self.any) {
            ([_], [all]) => match &**all {
                [Part { except: false, term: Term::Name(name) }] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The names in it, each of which is to mean a container.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.any.iter().flatten().filter_map(|part| match &part.term {
            Term::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The names of those that it selects, not of exceptions.
    pub(crate) fn asked_names(&self) -> impl Iterator<Item = &str> {
        self.any.iter().flatten().filter(|part| !part.except).filter_map(|part| match &part.term {
            Term::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Finds the containers that its names stand for. Those that mean none are left out if `allow_none`.
    ///
    /// # Errors
    ///
    /// The same as those of `resolve`, which finds the container with a name.
    pub(crate) fn meant(
        &self,
        allow_none: bool,
        resolve: impl Fn(&str) -> Result<Container, ShapingError>,
    ) -> Result<Meant, ShapingError> {
        let mut meant = Meant::new();
        for name in self.names() {
            match resolve(name) {
                Ok(container) => {
                    meant.insert(name.to_owned(), container.key());
                }
                Err(ShapingError::NotFound { .. }) if allow_none => {}
                Err(error) => return Err(error),
            }
        }
        Ok(meant)
    }

    /// Tells whether a container fits, where names stand for those that are `meant`.
    pub(crate) fn fits(&self, container: &Container, meant: &Meant) -> bool {
        self.fits_if(container, &|name| {
            meant.get(name).is_some_and(|(runtime, id)| (*runtime, id) == (container.runtime, &container.id))
        })
    }

    /// Tells whether a container fits, where a name stands for all that have it as their name, as their id, or as the
    /// beginning of their id.
    pub(crate) fn fits_loosely(&self, container: &Container) -> bool {
        self.fits_if(container, &|name| container.name == name || container.id.as_str().starts_with(name))
    }

    fn fits_if(&self, container: &Container, is_meant: &dyn Fn(&str) -> bool) -> bool {
        let fits = |part: &Part| part.term.fits(container, is_meant) != part.except;
        self.any.iter().any(|all| all.iter().all(fits))
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Selector {}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.texts.join(" "))
    }
}

#[cfg(test)]
mod tests;
