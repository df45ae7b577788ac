//! Duplication.

use crate::model::Effects;
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption, Unit},
};

pub(in crate::text) const DUPLICATE: Clause = Clause {
    name: "duplicate",
    words: &["duplicate"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "PERCENT",
        help: "Share of packets to duplicate: 1%, or '1% 25%' with a correlation",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        draft.once("duplicate")?;
        draft.effects.duplicate = words.chance("duplicate")?;
        Ok(())
    },
    show,
    show_field: show,
    copy: |from, to| to.duplicate = from.duplicate,
    tc: &[TcOption {
        name: "duplicate",
        form: Form::Values("duplicate", &[("duplicate", Unit::Share), ("correlation", Unit::Share)]),
    }],
    ..Clause::NONE
};

fn show(effects: &Effects) -> Option<String> {
    effects.duplicate.map(|chance| chance.to_string())
}
