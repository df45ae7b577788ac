//! Effects and selectors in one line of text: netem's words as `tc` takes and shows them, and our own.

mod draft;
mod paste;
mod paste_json;
mod qdiscs;
mod selector;
#[cfg(test)]
mod selector_tests;
mod show;
#[cfg(test)]
pub(crate) mod tests;
mod words;

pub(crate) use draft::Draft;
pub(crate) use words::CLAUSES;
pub use words::names_in;
