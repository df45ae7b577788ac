//! Effects and match rules in one line of text: netem's words as `tc` takes and shows them, and our own.

mod clause;
mod clauses;
mod draft;
mod match_rule;
#[cfg(test)]
mod match_rule_tests;
mod paste;
mod paste_json;
mod qdiscs;
mod read;
mod table;
mod tc;
#[cfg(test)]
mod tests;
mod words;

pub use clause::{Clause, Field, FlagKind};
pub(crate) use draft::Draft;
pub use table::{CLAUSES, names_in};
pub(crate) use words::nearest;
