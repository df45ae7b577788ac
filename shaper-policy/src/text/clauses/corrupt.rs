//! Corruption.

use crate::model::{Corruption, Effects};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption, Unit},
};

pub(in crate::text) const CORRUPT: Clause = Clause {
    name: "corrupt",
    words: &["corrupt"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "PERCENT",
        help: "Share of packets to flip a bit in: 0.1%, or '0.1% fixed' to correct checksums",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        draft.once("corrupt")?;
        let (chance, fixed) = (words.chance("corrupt")?, words.skip("fixed"));
        draft.effects.corrupt = chance.map(|chance| Corruption { chance, fixed });
        Ok(())
    },
    show,
    show_field: show,
    copy: |from, to| to.corrupt = from.corrupt,
    tc: &[TcOption {
        name: "corrupt",
        form: Form::Values("corrupt", &[("corrupt", Unit::Share), ("correlation", Unit::Share)]),
    }],
    ..Clause::NONE
};

fn show(effects: &Effects) -> Option<String> {
    let Corruption { chance, fixed } = effects.corrupt?;
    Some(format!("{chance}{}", if fixed { " fixed" } else { "" }))
}
