//! The table of clauses: all that the parser, the display, policy files, the API and the command line know of single
//! effects.

use std::fmt;

use super::{
    clause::{Clause, Field},
    clauses::{bottleneck, corrupt, delay, duplicate, loss, queue, reorder, seed, slot},
    words::unknown,
};
use crate::model::{Distribution, Effects, PolicyError, Problem};

/// All clauses, in the order in which they are shown: that of `tc qdisc show`, then our own.
pub static CLAUSES: [Clause; 19] = [
    queue::LIMIT,
    delay::DELAY,
    delay::LATENCY,
    delay::JITTER,
    delay::DISTRIBUTION,
    delay::REORDERING,
    loss::LOSS,
    loss::PARTITION,
    loss::ECN,
    duplicate::DUPLICATE,
    reorder::REORDER,
    reorder::GAP,
    corrupt::CORRUPT,
    seed::SEED,
    bottleneck::RATE,
    bottleneck::TRACE,
    queue::QUEUE,
    queue::MARK,
    slot::SLOT,
];

impl Clause {
    /// The clauses that are fields of documents.
    pub fn fields() -> impl Iterator<Item = &'static Self> {
        CLAUSES.iter().filter(|clause| clause.field != Field::None)
    }

    /// The field that is called so.
    pub fn field(name: &str) -> Option<&'static Self> {
        Self::fields().find(|clause| clause.name == name)
    }

    /// The clause that a word begins, whole or, where `tc` takes that, shortened.
    pub(super) fn begun_by(word: &str) -> Result<&'static Self, PolicyError> {
        let all = || CLAUSES.iter().flat_map(|clause| clause.words.iter().map(move |it| (*it, clause)));
        if let Some((_, clause)) = all().find(|(known, _)| *known == word) {
            return Ok(clause);
        }
        let begun = all().filter(|(known, clause)| clause.can_be_shortened && known.starts_with(word));
        let begun: Vec<_> = begun.collect();
        match begun[..] {
            [(_, clause)] => Ok(clause),
            [] => Err(unknown(word, all().map(|(known, _)| known))),
            _ => {
                let candidates = begun.into_iter().map(|(known, _)| known).collect();
                Err(Problem::Ambiguous { word: word.to_owned(), candidates }.into())
            }
        }
    }
}

impl fmt::Display for Effects {
    /// Writes them as `tc qdisc show` has netem's part, with the distribution that it leaves out, in a form that it
    /// takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clauses = CLAUSES.iter().filter(|clause| !clause.words.is_empty());
        let shown = clauses.filter_map(|clause| Some(format!("{} {}", clause.name, (clause.show)(self)?)));
        f.pad(&shown.collect::<Vec<_>>().join(" "))
    }
}

/// The names of distributions and of traces in words of effects, those that are always there left out.
pub fn names_in(text: &str) -> (Vec<&str>, Vec<&str>) {
    let behind = |keyword: &'static str| {
        let pairs = text.split_whitespace().zip(text.split_whitespace().skip(1));
        let begins = move |word| Clause::begun_by(word).is_ok_and(|clause| clause.name == keyword);
        pairs.filter(move |(word, _)| begins(word)).map(|(_, name)| name)
    };
    let distributions = behind("distribution").filter(|name| Distribution::builtin(name).is_none());
    (distributions.collect(), behind("trace").collect())
}
