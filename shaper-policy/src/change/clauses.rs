//! Changes of single effects, by which what is in force becomes something else.

use super::setting::Change;
use crate::{
    model::{
        Bottleneck, Bounds, Chance, Corruption, Delay, Effects, Jitter, Latency, Loss, LossModel, Losses,
        Named, Percent, Reordering, Slot, quoted,
    },
    text::Draft,
};

/// The change of each effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clauses {
    /// The delay's time; `To(None)` takes the delay away with its jitter, but for another that is given.
    pub latency: Change<Option<Latency>>,
    /// The delay's jitter.
    pub jitter: Change<Option<Jitter>>,
    /// The loss.
    pub loss: Change<Option<Losses>>,
    /// Duplication.
    pub duplicate: Change<Option<Chance>>,
    /// Corruption.
    pub corrupt: Change<Option<Corruption>>,
    /// Reordering.
    pub reorder: Change<Option<Reordering>>,
    /// The bottleneck; `To(None)` takes what may wait for it away as well, but for what is given.
    pub bottleneck: Change<Option<Bottleneck>>,
    /// The bounds of the queue.
    pub queue: Change<Bounds>,
    /// The bounds of the queue beyond which packets are marked.
    pub mark: Change<Bounds>,
    /// When packets depart in bursts.
    pub slot: Change<Option<Slot>>,
    /// The seed of random numbers.
    pub seed: Change<Option<u64>>,
}

impl From<Loss> for Losses {
    /// Independent, and not marked.
    fn from(loss: Loss) -> Self {
        let chance = Chance { probability: loss.percent(), correlation: Percent::ZERO };
        Self { model: LossModel::Random(chance), ecn: false }
    }
}

impl Clauses {
    /// Takes what `text` says of the effect `name`: netem's words behind its keyword, or `0` to take it away.
    ///
    /// # Errors
    ///
    /// When it says what cannot be, or there is no such effect.
    pub fn set(&mut self, name: &str, text: &str, named: &Named) -> Result<(), String> {
        if name == "latency" {
            self.latency = Change::To(Latency::parse(text)?);
            return Ok(());
        }
        let mut draft = Draft::default();
        // A rate of 0 is refused where it is asked for as an effect.
        if text.trim() != "0" {
            match name {
                "jitter" => draft.read_clause("delay", &format!("0ms {text}"), named)?,
                "seed" => draft.read(&format!("seed {text}"), named)?,
                _ => draft.read_clause(name, text, named)?,
            }
        }
        let parts = draft.parts()?;
        match name {
            "jitter" => self.jitter = Change::To(parts.delay.and_then(|delay| delay.jitter)),
            "loss" => self.loss = Change::To(parts.loss),
            "duplicate" => self.duplicate = Change::To(parts.duplicate),
            "corrupt" => self.corrupt = Change::To(parts.corrupt),
            "reorder" => self.reorder = Change::To(parts.reorder),
            "rate" | "trace"
                if matches!(self.bottleneck, Change::To(Some(_))) && parts.bottleneck.is_some() =>
            {
                return Err("rate and trace contradict one another: leave one of them out".to_owned());
            }
            "rate" | "trace" => self.bottleneck = Change::To(parts.bottleneck),
            "queue" => self.queue = Change::To(parts.queue),
            "mark" => self.mark = Change::To(parts.mark),
            "slot" => self.slot = Change::To(parts.slot),
            // Zero is a seed like any other.
            "seed" => self.seed = Change::To(parts.seed.or(Some(0))),
            _ => return Err(format!("unknown effect {}", quoted(name))),
        }
        Ok(())
    }

    /// Returns `old` with these changes.
    ///
    /// # Errors
    ///
    /// When the effects would contradict one another.
    pub(super) fn applied_to(&self, old: Effects) -> Result<Effects, String> {
        let has_no_link = matches!(self.bottleneck, Change::To(None));
        let kept = |bounds: Bounds| if has_no_link { Bounds::default() } else { bounds };
        Effects {
            delay: self.delay_after(old.delay),
            loss: self.loss.applied_to(old.loss),
            duplicate: self.duplicate.applied_to(old.duplicate),
            corrupt: self.corrupt.applied_to(old.corrupt),
            reorder: self.reorder.applied_to(old.reorder),
            bottleneck: self.bottleneck.applied_to(old.bottleneck),
            queue: self.queue.applied_to(kept(old.queue)),
            mark: self.mark.applied_to(kept(old.mark)),
            slot: self.slot.applied_to(old.slot),
            seed: self.seed.applied_to(old.seed),
        }
        .checked()
    }

    fn delay_after(&self, old: Option<Delay>) -> Option<Delay> {
        let (time, jitter) = old.map_or_else(Default::default, |delay| (delay.time, delay.jitter));
        let (time, jitter) = match self.latency {
            Change::Keep => (time, jitter),
            Change::To(Some(latency)) => (latency.as_duration(), jitter),
            Change::To(None) => Default::default(),
        };
        let jitter = self.jitter.applied_to(jitter);
        (!time.is_zero() || jitter.is_some()).then_some(Delay { time, jitter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{effects, named};

    fn after(old: &str, changes: &[(&str, &str)]) -> Result<String, String> {
        let mut clauses = Clauses::default();
        for (name, text) in changes {
            clauses.set(name, text, &named())?;
        }
        clauses.applied_to(effects(old)).map(|effects| effects.to_string())
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
            ("", "jitter", "1ms 10% loss 1%", "loss does not belong to delay"),
        ] {
            let error = after(old, &[(name, text)]).expect_err(said);
            assert!(error.contains(said), "{error:?} lacks {said:?}");
        }
        assert!(after("", &[("rate", "1mbit"), ("trace", "lte")]).is_err());
    }
}
