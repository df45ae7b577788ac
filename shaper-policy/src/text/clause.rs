//! The form of a clause: a keyword of netem's, or our own, with its values.

use super::{draft::Draft, tc::TcOption, words::Words};
use crate::model::{Effects, Named, PolicyError};

/// A clause: what one keyword with its values says, in a line of words, as a field of a document or as a flag.
#[derive(Debug)]
pub struct Clause {
    /// The name of the field and of the flag.
    pub name: &'static str,
    /// The words that begin it in a line; none if it is a field only.
    pub(super) words: &'static [&'static str],
    /// True if `tc` takes the beginning of such a word as well.
    pub(super) can_be_shortened: bool,
    /// The ways to use it by itself.
    pub field: Field,
    /// The fields in which it may follow.
    pub(super) follows: &'static [&'static str],
    /// Reads what is behind the keyword.
    pub(super) read: fn(&mut Words<'_>, &Named, &mut Draft) -> Result<(), PolicyError>,
    /// Returns what is behind the keyword in a line of words; none if there is no such effect.
    pub(super) show: fn(&Effects) -> Option<String>,
    /// Returns the text of the field; none if there is no such effect.
    pub(crate) show_field: fn(&Effects) -> Option<String>,
    /// Gives the second effects what the first ones have of this.
    pub(crate) copy: fn(&Effects, &mut Effects),
    /// The options of netem that mean it in JSON of `tc`.
    pub(super) tc: &'static [TcOption],
}

/// The use of a clause by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// In lines of words only.
    None,
    /// In documents: text, of which `0` takes the effect away.
    Document,
    /// In documents: a whole number, of which none has a meaning of its own.
    Number,
    /// In documents: true or false.
    Switch,
    /// In documents and as a flag.
    Flag {
        /// The name of the value.
        value: &'static str,
        /// The help of the flag.
        help: &'static str,
        /// The kind of value.
        kind: FlagKind,
    },
}

/// The value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// The text of the field.
    Text,
    /// A whole number.
    Number,
    /// The path of a file, whose name becomes the text.
    File,
}

impl Clause {
    /// A clause that does nothing yet, for what single ones leave out.
    pub(super) const NONE: Self = Self {
        name: "",
        words: &[],
        can_be_shortened: false,
        field: Field::None,
        follows: &[],
        read: |_, _, _| Ok(()),
        show: |_| None,
        show_field: |_| None,
        copy: |_, _| (),
        tc: &[],
    };

    /// Returns true if the text of its field asks for nothing of it.
    pub(super) fn means_nothing(&self, text: &str) -> bool {
        match self.field {
            Field::Switch => text != "true",
            // Zero is a number like any other.
            Field::Number | Field::Flag { kind: FlagKind::Number, .. } => false,
            Field::None | Field::Document | Field::Flag { .. } => text.trim() == "0",
        }
    }
}
