//! The seed of random numbers.

use crate::model::Effects;
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption},
};

pub(in crate::text) const SEED: Clause = Clause {
    name: "seed",
    words: &["seed"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "NUMBER",
        help: "Seed of random numbers: with the same seed, the same packets have the same fate",
        kind: FlagKind::Number,
    },
    read: |words, _, draft| {
        draft.once("seed")?;
        draft.effects.seed = Some(words.integer("seed")?);
        Ok(())
    },
    show,
    show_field: show,
    copy: |from, to| to.seed = from.seed,
    tc: &[TcOption { name: "seed", form: Form::Number }],
    ..Clause::NONE
};

fn show(effects: &Effects) -> Option<String> {
    effects.seed.map(|seed| seed.to_string())
}
