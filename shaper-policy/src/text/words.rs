//! Words of effects one by one, as `tc` takes them (iproute2's `q_netem.c`).

use std::{iter::Peekable, str::SplitWhitespace};

use crate::model::{Chance, Hint, Percent, PolicyError, Problem};

/// Words one by one.
pub(super) struct Words<'a> {
    left: Peekable<SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { left: text.split_whitespace().peekable() }
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.left.next()
    }

    pub(super) fn next_if(&mut self, is: fn(&str) -> bool) -> Option<&'a str> {
        self.left.next_if(|word| is(word))
    }

    /// All words that are left, in one line.
    pub(super) fn rest(&mut self) -> String {
        self.left.by_ref().collect::<Vec<_>>().join(" ")
    }

    /// Drops the next word if it is `word`, and returns true if it was.
    pub(super) fn skip(&mut self, word: &str) -> bool {
        self.left.next_if_eq(&word).is_some()
    }

    /// The next word, if it is a number; a sign makes none of it, as with `tc`.
    pub(super) fn number(&mut self) -> Option<&'a str> {
        self.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
    }

    pub(super) fn signed_number(&mut self) -> Option<&'a str> {
        self.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    }

    /// The next word, whatever it is, for `keyword`.
    pub(super) fn value(
        &mut self,
        keyword: &'static str,
        example: &'static str,
    ) -> Result<&'a str, PolicyError> {
        self.next().ok_or_else(|| PolicyError::missing(keyword, "a value", example))
    }

    pub(super) fn integer<T: std::str::FromStr>(&mut self, keyword: &'static str) -> Result<T, PolicyError> {
        let word = self.value(keyword, "a whole number")?;
        Self::integer_of(word, keyword)
    }

    pub(super) fn integer_of<T: std::str::FromStr>(word: &str, what: &str) -> Result<T, PolicyError> {
        let expected = "a whole number that is not too large";
        word.parse().map_err(|_| PolicyError::invalid(format!("number for {what}"), word, expected))
    }

    pub(super) fn correlation(&mut self, of: &str) -> Result<Percent, PolicyError> {
        self.number().map_or(Ok(Percent::ZERO), |word| Percent::parse(word, &format!("{of}'s correlation")))
    }

    /// A probability with its correlation; none of one that is zero.
    pub(super) fn chance(&mut self, keyword: &'static str) -> Result<Option<Chance>, PolicyError> {
        self.chance_or_none(keyword).map(|chance| Some(chance).filter(|chance| !chance.probability.is_zero()))
    }

    pub(super) fn chance_or_none(&mut self, keyword: &'static str) -> Result<Chance, PolicyError> {
        let word = self.value(keyword, "per cent, for example 1%")?;
        self.chance_of(word, keyword)
    }

    pub(super) fn chance_of(&mut self, word: &str, keyword: &str) -> Result<Chance, PolicyError> {
        let probability = Percent::parse(word, keyword)?;
        Ok(Chance { probability, correlation: self.correlation(keyword)? })
    }
}

/// No word that is longer resembles a keyword.
const LONGEST_KEYWORD: usize = 32;

/// Returns the error for an unknown word.
pub(super) fn unknown(word: &str, known: impl Iterator<Item = &'static str>) -> PolicyError {
    let hint = Hint::Nearest(nearest(word, known));
    Problem::Unknown { what: "keyword", value: word.to_owned(), hint }.into()
}

/// Returns the word that resembles an unknown one most, if any does.
pub(crate) fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(&word.to_ascii_lowercase(), known);
    let is_near = |nearest: &&str| distance(nearest) <= nearest.len().div_ceil(2);
    (word.len() <= LONGEST_KEYWORD).then(|| known.min_by_key(distance)).flatten().filter(is_near)
}
