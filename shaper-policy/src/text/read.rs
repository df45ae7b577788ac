//! Reads effects from words: netem's as `tc` takes and shows them (iproute2's `q_netem.c`), and our own.

use super::{
    clause::{Clause, Field},
    draft::Draft,
    paste,
    words::Words,
};
use crate::model::{Effects, Named, PolicyError};

/// The longest text of effects, in bytes.
const MAX_TEXT: usize = 1 << 16;

impl Effects {
    /// Reads all effects from words, or from what was pasted from a shell with `tc`; nothing is nothing.
    ///
    /// # Errors
    ///
    /// When words are unknown, a value is out of range, or clauses contradict one another.
    pub fn parse(text: &str, named: &Named) -> Result<Self, PolicyError> {
        let mut draft = Draft::default();
        draft.read(text, named)?;
        draft.finish().map_err(PolicyError::anywhere)
    }
}

impl Draft {
    /// Reads any clauses.
    ///
    /// # Errors
    ///
    /// The errors of [`Effects::parse`], as far as single clauses go.
    pub(crate) fn read(&mut self, text: &str, named: &Named) -> Result<(), PolicyError> {
        check_length(text)?;
        let pasted = paste::read(text)?;
        for undone in pasted.undone {
            Self::default().read_words(undone, named)?;
        }
        self.read_words(&pasted.words, named)
    }

    fn read_words(&mut self, words: &str, named: &Named) -> Result<(), PolicyError> {
        let mut words = Words::of(words);
        while let Some(word) = words.next() {
            (Clause::begun_by(word)?.read)(&mut words, named, self)?;
        }
        Ok(())
    }

    /// Reads the text of one field: what is behind its keyword. `0` is no effect.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::read`], and one when there are other clauses in it.
    pub(crate) fn read_field(
        &mut self,
        clause: &Clause,
        text: &str,
        named: &Named,
    ) -> Result<(), PolicyError> {
        check_length(text)?;
        if clause.means_nothing(text) {
            return Ok(());
        }
        let mut words = if clause.field == Field::Switch { Words::of("") } else { Words::of(text) };
        (clause.read)(&mut words, named, self)?;
        while let Some(word) = words.next() {
            let next = Clause::begun_by(word)?;
            if !next.follows.contains(&clause.name) {
                let what = format!("{} does not belong to {}", next.name, clause.name);
                return Err(PolicyError::contradiction(what, "give it by itself"));
            }
            (next.read)(&mut words, named, self)?;
        }
        Ok(())
    }
}

/// Refuses text that is longer than any effects are.
fn check_length(text: &str) -> Result<(), PolicyError> {
    if text.len() > MAX_TEXT {
        return Err(PolicyError::too_many("bytes of effects", MAX_TEXT, ""));
    }
    Ok(())
}
