//! Changes of single effects, by which what is in force becomes something else.

use crate::{
    file::{Texts, draft, in_field},
    model::{Chance, Delay, Effects, Latency, Loss, LossModel, Losses, Named, Percent, PolicyError},
    text::Clause,
};

/// The change of some effects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clauses {
    /// The fields that change.
    fields: Vec<&'static str>,
    /// The effects that these fields are to have.
    effects: Effects,
}

impl Clauses {
    /// Reads the texts of single effects, by their fields; `0` takes one away.
    ///
    /// # Errors
    ///
    /// When one says what cannot be, or they contradict one another.
    pub fn parse(texts: &[(&'static str, String)], named: &Named) -> Result<Self, PolicyError> {
        let texts: &Texts = &texts.to_vec();
        let effects = draft(texts, named)?.parts().map_err(|error| in_field(error, texts))?;
        Ok(Self { fields: texts.iter().map(|(field, _)| *field).collect(), effects })
    }

    /// Another latency; none takes the delay away with its jitter.
    pub(super) fn of_latency(latency: Option<Latency>) -> Self {
        let delay = latency.map(|latency| Delay { time: latency.as_duration(), jitter: None });
        Self { fields: vec!["latency"], effects: Effects { delay, ..Effects::default() } }
    }

    /// Another loss.
    pub(super) fn of_loss(loss: Option<Loss>) -> Self {
        let loss = loss.map(|loss| {
            let chance = Chance { probability: loss.percent(), correlation: Percent::ZERO };
            Losses { model: LossModel::Random(chance), ecn: false }
        });
        Self { fields: vec!["loss"], effects: Effects { loss, ..Effects::default() } }
    }

    /// These changes and those of `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        other.copy_to(&mut self.effects);
        self.fields.extend(other.fields);
        self
    }

    /// Returns true if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The effects that the changed fields are to have, with texts from which they can be read.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.changed().map(|clause| {
            let text = (clause.show_field)(&self.effects);
            (clause.name, text.unwrap_or_else(|| "0".to_owned()))
        })
    }

    pub(super) const fn effects(&self) -> &Effects {
        &self.effects
    }

    /// Returns `old` with these changes.
    ///
    /// # Errors
    ///
    /// When the effects would contradict one another.
    pub(super) fn applied_to(&self, mut old: Effects) -> Result<Effects, PolicyError> {
        self.copy_to(&mut old);
        old.checked().map_err(PolicyError::anywhere)
    }

    fn copy_to(&self, effects: &mut Effects) {
        self.changed().for_each(|clause| (clause.copy)(&self.effects, effects));
    }

    fn changed(&self) -> impl Iterator<Item = &'static Clause> {
        Clause::fields().filter(|clause| self.fields.contains(&clause.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{effects, named};

    fn after(old: &str, changes: &[(&'static str, &str)]) -> Result<String, String> {
        let texts: Vec<_> = changes.iter().map(|(field, text)| (*field, (*text).to_owned())).collect();
        let clauses = Clauses::parse(&texts, &named()).map_err(|error| error.to_string())?;
        let again: Vec<_> = clauses.texts().collect();
        assert_eq!(Clauses::parse(&again, &named()), Ok(clauses.clone()), "{again:?}");
        let one_by_one = texts.iter().try_fold(Clauses::default(), |all, one| {
            Clauses::parse(std::slice::from_ref(one), &named()).map(|one| all.and(one))
        });
        let after = |clauses: &Clauses| clauses.applied_to(effects(old)).map_err(|error| error.to_string());
        if let Ok(one_by_one) = one_by_one {
            assert_eq!(after(&one_by_one), after(&clauses), "{texts:?}");
        }
        after(&clauses).map(|effects| effects.to_string())
    }

    #[test]
    fn one_effect_changes_and_the_others_stay() {
        let old = "delay 100ms 20ms 25% loss 1% reorder 5% rate 1Mbit queue 100ms seed 7";
        for (name, text, new) in [
            ("latency", "50ms", "delay 50ms 20ms 25% loss 1% reorder 5% seed 7 rate 1Mbit queue 100ms"),
            ("jitter", "0", "delay 100ms loss 1% reorder 5% seed 7 rate 1Mbit queue 100ms"),
            (
                "jitter",
                "5ms distribution normal reordering",
                "delay 100ms 5ms distribution normal reordering loss 1% reorder 5% seed 7 rate 1Mbit queue 100ms",
            ),
            (
                "loss",
                "gemodel 1% 10% ecn",
                "delay 100ms 20ms 25% loss gemodel 1% 10% ecn reorder 5% seed 7 rate 1Mbit queue 100ms",
            ),
            ("loss", "0", "delay 100ms 20ms 25% reorder 5% seed 7 rate 1Mbit queue 100ms"),
            (
                "reorder",
                "1% gap 5",
                "delay 100ms 20ms 25% loss 1% reorder 1% gap 5 seed 7 rate 1Mbit queue 100ms",
            ),
            (
                "duplicate",
                "1%",
                "delay 100ms 20ms 25% loss 1% duplicate 1% reorder 5% seed 7 rate 1Mbit queue 100ms",
            ),
            (
                "corrupt",
                "1% fixed",
                "delay 100ms 20ms 25% loss 1% reorder 5% corrupt 1% fixed seed 7 rate 1Mbit queue 100ms",
            ),
            ("rate", "2mbit", "delay 100ms 20ms 25% loss 1% reorder 5% seed 7 rate 2Mbit queue 100ms"),
            ("rate", "0", "delay 100ms 20ms 25% loss 1% reorder 5% seed 7"),
            ("trace", "lte", "delay 100ms 20ms 25% loss 1% reorder 5% seed 7 trace lte queue 100ms"),
            ("queue", "0", "delay 100ms 20ms 25% loss 1% reorder 5% seed 7 rate 1Mbit"),
            (
                "mark",
                "50ms",
                "delay 100ms 20ms 25% loss 1% reorder 5% seed 7 rate 1Mbit queue 100ms mark 50ms",
            ),
            (
                "slot",
                "1ms",
                "delay 100ms 20ms 25% loss 1% reorder 5% seed 7 rate 1Mbit queue 100ms slot 1ms 1ms",
            ),
            ("seed", "0", "delay 100ms 20ms 25% loss 1% reorder 5% seed 0 rate 1Mbit queue 100ms"),
        ] {
            assert_eq!(after(old, &[(name, text)]), Ok(new.to_owned()), "{name} {text}");
        }
    }

    #[test]
    fn no_latency_takes_the_jitter_along_but_for_a_new_one() {
        assert_eq!(after("delay 1ms 1ms", &[("latency", "0")]), Ok(String::new()));
        assert_eq!(
            after("delay 1ms", &[("latency", "0"), ("jitter", "2ms")]),
            Ok("delay 0ms 2ms".to_owned())
        );
    }

    #[test]
    fn what_would_contradict_is_refused() {
        for (old, name, text, said) in [
            ("delay 1ms reorder 1%", "latency", "0", "reorder needs a delay"),
            ("", "queue", "100ms", "queue needs a bottleneck"),
            ("", "loss", "101%", "it is from 0% to 100%"),
            ("", "latency", "100", "has no unit"),
            ("", "jitter", "1ms 10% loss 1%", "loss does not belong to jitter"),
        ] {
            let error = after(old, &[(name, text)]).expect_err(said);
            assert!(error.contains(said), "{error:?} lacks {said:?}");
        }
        assert!(after("", &[("rate", "1mbit"), ("trace", "lte")]).is_err());
    }
}
