//! Reordering.

use crate::model::{Effects, Reordering};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption, Unit},
};

pub(in crate::text) const REORDER: Clause = Clause {
    name: "reorder",
    words: &["reorder"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "PERCENT",
        help: "Share of packets to send without delay, ahead of others: 25%, '25% 50% gap 5'",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        draft.once("reorder")?;
        draft.reorder.chance = Some(words.chance("reorder")?);
        Ok(())
    },
    show,
    show_field: show,
    copy: |from, to| to.reorder = from.reorder,
    tc: &[TcOption {
        name: "reorder",
        form: Form::Values("reorder", &[("reorder", Unit::Share), ("correlation", Unit::Share)]),
    }],
    ..Clause::NONE
};

pub(in crate::text) const GAP: Clause = Clause {
    name: "gap",
    words: &["gap"],
    can_be_shortened: true,
    follows: &["reorder"],
    read: |words, _, draft| {
        draft.once("gap")?;
        draft.reorder.gap = Some(words.integer("gap")?);
        Ok(())
    },
    tc: &[TcOption { name: "gap", form: Form::NumberUnlessZero }],
    ..Clause::NONE
};

fn show(effects: &Effects) -> Option<String> {
    let Reordering { chance, gap } = effects.reorder?;
    Some(if gap > 1 { format!("{chance} gap {gap}") } else { chance.to_string() })
}
