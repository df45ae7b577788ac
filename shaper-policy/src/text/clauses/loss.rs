//! Loss, with its models, and marks in its place.

use crate::model::{Effects, LossModel, Losses, Percent, PolicyError};
use crate::text::{
    clause::{Clause, Field, FlagKind},
    tc::{Form, TcOption, Unit},
    words::{Words, unknown},
};

pub(in crate::text) const LOSS: Clause = Clause {
    name: "loss",
    words: &["loss", "drop"],
    can_be_shortened: true,
    field: Field::Flag {
        value: "LOSS",
        help: "Share of packets to lose: 2.5%, 'gemodel 1% 10%', 'state 1%', 'every 10', each with 'ecn' to mark \
               instead",
        kind: FlagKind::Text,
    },
    read: |words, _, draft| {
        draft.once("loss")?;
        draft.loss.model = Some(read_model(words)?);
        Ok(())
    },
    show,
    show_field: show,
    copy: |from, to| to.loss = from.loss,
    tc: &[
        TcOption {
            name: "loss-random",
            form: Form::Values("loss", &[("loss", Unit::Share), ("correlation", Unit::Share)]),
        },
        TcOption {
            name: "loss-state",
            form: Form::Values(
                "loss state",
                &[
                    ("p13", Unit::Share),
                    ("p31", Unit::Share),
                    ("p32", Unit::Share),
                    ("p23", Unit::Share),
                    ("p14", Unit::Share),
                ],
            ),
        },
        TcOption {
            name: "loss-gemodel",
            form: Form::Values(
                "loss gemodel",
                &[("p", Unit::Share), ("r", Unit::Share), ("1-h", Unit::Share), ("1-k", Unit::Share)],
            ),
        },
    ],
    ..Clause::NONE
};

pub(in crate::text) const PARTITION: Clause = Clause {
    name: "partition",
    words: &["partition"],
    read: |_, _, draft| {
        draft.once("loss")?;
        draft.loss.model = Some(LossModel::certain());
        Ok(())
    },
    ..Clause::NONE
};

pub(in crate::text) const ECN: Clause = Clause {
    name: "ecn",
    words: &["ecn"],
    can_be_shortened: true,
    field: Field::Switch,
    follows: &["loss"],
    read: |_, _, draft| {
        draft.loss.ecn = true;
        draft.once("ecn")
    },
    tc: &[TcOption { name: "ecn", form: Form::Switch }],
    ..Clause::NONE
};

fn read_model(words: &mut Words<'_>) -> Result<LossModel, PolicyError> {
    match words.value("loss", "per cent, for example 1%")? {
        "random" => words.chance_or_none("loss").map(LossModel::Random),
        "gemodel" => {
            let p = first(words, "loss gemodel", "p", "for example `loss gemodel 1% 10%`")?;
            rest(words, ["p", "r", "1-h", "1-k"], LossModel::gemodel(p)).map(LossModel::Gemodel)
        }
        "state" => {
            let p13 = first(words, "loss state", "p13", "for example `loss state 1% 10%`")?;
            let names = ["p13", "p31", "p32", "p23", "p14"];
            check_state(rest(words, names, LossModel::state(p13))?).map(LossModel::State)
        }
        "every" => match words.integer("loss every")? {
            0 => Err(PolicyError::contradiction(
                "loss every 0 is none of them",
                "the least is 1, which loses all",
            )),
            number => Ok(LossModel::Every(number)),
        },
        word if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+')) => {
            words.chance_of(word, "loss").map(LossModel::Random)
        }
        word => Err(unknown(word, ["random", "gemodel", "state", "every"].into_iter())),
    }
}

/// The first value of a loss model, by its name or not.
fn first(
    words: &mut Words<'_>,
    model: &'static str,
    name: &str,
    example: &'static str,
) -> Result<Percent, PolicyError> {
    words.skip(name);
    Percent::parse(words.value(model, example)?, &format!("{model} {name}"))
}

/// The values behind the first one, each by its name or not, as far as they go.
fn rest<const N: usize>(
    words: &mut Words<'_>,
    names: [&str; N],
    mut values: [Percent; N],
) -> Result<[Percent; N], PolicyError> {
    for (value, name) in values.iter_mut().zip(names).skip(1) {
        words.skip(name);
        let Some(word) = words.number() else { break };
        *value = Percent::parse(word, name)?;
    }
    Ok(values)
}

/// Checks that no state of the model is left with a chance above one.
fn check_state(values: [Percent; 5]) -> Result<[Percent; 5], PolicyError> {
    let [p13, p31, p32, _, p14] = values;
    for (one, other, names) in [(p13, p14, "p13 and p14"), (p31, p32, "p31 and p32")] {
        if one > other.rest() {
            let what = format!("loss state: {names} are more than 100% together");
            return Err(PolicyError::contradiction(what, "make one of them smaller"));
        }
    }
    Ok(values)
}

fn show(effects: &Effects) -> Option<String> {
    let Losses { model, ecn } = effects.loss?;
    let model = match model {
        LossModel::Random(chance) => chance.to_string(),
        LossModel::Gemodel(values) => {
            format!("gemodel{}", values_but_defaults(&values, &LossModel::gemodel(values[0])))
        }
        LossModel::State(values) => {
            format!("state{}", values_but_defaults(&values, &LossModel::state(values[0])))
        }
        LossModel::Every(number) => format!("every {number}"),
    };
    Some(if ecn { format!("{model} ecn") } else { model })
}

/// ` 1% 10%`: the first value, and as many more as are needed.
fn values_but_defaults(values: &[Percent], defaults: &[Percent]) -> String {
    let differ = values.iter().zip(defaults).rposition(|(value, default)| value != default);
    values[..=differ.unwrap_or(0)].iter().map(|value| format!(" {value}")).collect()
}

impl LossModel {
    /// Gilbert-Elliott by p alone, as `tc` fills in the rest: all are lost in the bad state, none in the good one.
    const fn gemodel(p: Percent) -> [Percent; 4] {
        [p, p.rest(), Percent::ALL, Percent::ZERO]
    }

    /// Four states by p13 alone, as `tc` fills in the rest.
    const fn state(p13: Percent) -> [Percent; 5] {
        [p13, p13.rest(), Percent::ZERO, Percent::ALL, Percent::ZERO]
    }
}
