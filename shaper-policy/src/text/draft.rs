//! Puts effects together, clause by clause.

use std::time::Duration;

use super::{
    paste,
    words::{CLAUSES, Words, keyword, once},
};
use crate::model::{
    Bottleneck, Bounds, Chance, Corruption, Delay, Distribution, Effects, Jitter, LossModel, Losses, Named,
    Percent, Reordering, Slot, SlotTime,
};

/// The longest text of effects, in bytes.
const MAX_TEXT: usize = 1 << 16;

/// Effects of which not all clauses are read; a clause that takes an effect away is there and empty.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    delay: Option<(Duration, Duration, Percent)>,
    distribution: Option<Distribution>,
    reordering: Option<()>,
    loss: Option<LossModel>,
    ecn: Option<()>,
    duplicate: Option<Chance>,
    corrupt: Option<(Chance, bool)>,
    reorder: Option<Chance>,
    gap: Option<u32>,
    bottleneck: Option<Bottleneck>,
    queue: Bounds,
    no_room: Option<()>,
    mark: Bounds,
    slot: Option<Slot>,
    seed: Option<u64>,
}

impl Effects {
    /// Reads all effects from words, or from what was pasted from a shell with `tc`; nothing is nothing.
    ///
    /// # Errors
    ///
    /// When words are unknown, a value is out of range, or clauses contradict one another.
    pub fn parse(text: &str, named: &Named) -> Result<Self, String> {
        let mut draft = Draft::default();
        draft.read(text, named)?;
        draft.finish()
    }
}

impl Draft {
    /// Reads any clauses.
    ///
    /// # Errors
    ///
    /// As [`Effects::parse`], as far as single clauses go.
    pub(crate) fn read(&mut self, text: &str, named: &Named) -> Result<(), String> {
        check_length(text)?;
        let pasted = paste::read(text)?;
        for undone in pasted.undone {
            Self::default().read_words(undone, named)?;
        }
        self.read_words(&pasted.words, named)
    }

    fn read_words(&mut self, words: &str, named: &Named) -> Result<(), String> {
        let mut words = Words::of(words);
        while let Some(word) = words.next() {
            self.clause(keyword(word)?, &mut words, named)?;
        }
        Ok(())
    }

    /// Reads one clause of [`CLAUSES`], without its keyword.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and when there are other clauses in it.
    pub(crate) fn read_clause(&mut self, clause: &str, text: &str, named: &Named) -> Result<(), String> {
        check_length(text)?;
        let mut words = Words::of(text);
        self.clause(clause, &mut words, named)?;
        let allowed =
            CLAUSES.iter().find(|(name, _)| *name == clause).map_or(&[][..], |(_, allowed)| allowed);
        while let Some(word) = words.next() {
            let word = keyword(word)?;
            if !allowed.contains(&word) {
                return Err(format!("{word} does not belong to {clause}: give it by itself"));
            }
            self.clause(word, &mut words, named)?;
        }
        Ok(())
    }

    /// Losses that can be are marks (ECN).
    ///
    /// # Errors
    ///
    /// When it was said before.
    pub(crate) fn set_ecn(&mut self) -> Result<(), String> {
        once(&mut self.ecn, "ecn", ())
    }

    fn clause(&mut self, keyword: &str, words: &mut Words<'_>, named: &Named) -> Result<(), String> {
        match keyword {
            "delay" | "latency" => once(&mut self.delay, "delay", words.delay()?),
            "distribution" => {
                once(&mut self.distribution, keyword, named.distribution(words.value(keyword)?)?)
            }
            "reordering" => once(&mut self.reordering, keyword, ()),
            "loss" | "drop" => once(&mut self.loss, "loss", words.loss()?),
            "partition" => once(&mut self.loss, "loss", LossModel::certain()),
            "ecn" => self.set_ecn(),
            "duplicate" => once(&mut self.duplicate, keyword, words.chance(keyword)?),
            "corrupt" => {
                let chance = words.chance(keyword)?;
                once(&mut self.corrupt, keyword, (chance, words.skip("fixed")))
            }
            "reorder" => once(&mut self.reorder, keyword, words.chance(keyword)?),
            "gap" => once(&mut self.gap, keyword, words.integer(keyword)?),
            "rate" => self.set_bottleneck(words.rate()?),
            "trace" => self.set_bottleneck(Bottleneck::Trace(named.trace(words.value(keyword)?)?)),
            "queue" => words.bounds(keyword, &mut self.queue),
            "mark" => words.bounds(keyword, &mut self.mark),
            "limit" => self.set_limit(words.limit()?),
            "slot" => once(&mut self.slot, keyword, words.slot(named)?),
            "seed" => once(&mut self.seed, keyword, words.integer(keyword)?),
            _ => unreachable!("keyword() knows no other word"),
        }
    }

    /// Without room for a packet netem drops all of them (`netem_enqueue`, Linux 6.1).
    fn set_limit(&mut self, packets: u32) -> Result<(), String> {
        match packets {
            0 => once(&mut self.no_room, "limit", ()),
            packets => once(&mut self.queue.packets, "limit (the queue in packets)", packets),
        }
    }

    fn set_bottleneck(&mut self, bottleneck: Bottleneck) -> Result<(), String> {
        match (&self.bottleneck, &bottleneck) {
            (Some(Bottleneck::Trace(_)), Bottleneck::Rate { .. })
            | (Some(Bottleneck::Rate { .. }), Bottleneck::Trace(_)) => {
                Err("rate and trace contradict one another: leave one of them out".to_owned())
            }
            (_, Bottleneck::Rate { .. }) => once(&mut self.bottleneck, "rate", bottleneck),
            (_, Bottleneck::Trace(_)) => once(&mut self.bottleneck, "trace", bottleneck),
        }
    }

    /// Returns the effects of all clauses together.
    ///
    /// # Errors
    ///
    /// When one needs another that is not there, or contradicts it.
    pub(crate) fn finish(self) -> Result<Effects, String> {
        self.parts()?.checked()
    }

    /// Returns the effects of the clauses, each by itself.
    ///
    /// # Errors
    ///
    /// When a word that belongs to a clause is without it.
    pub(crate) fn parts(self) -> Result<Effects, String> {
        if self.ecn.is_some() && self.loss.is_none() {
            return Err(
                "ecn needs a loss in whose place packets are marked: add for example `loss 1%`".to_owned()
            );
        }
        if self.gap.is_some() && self.reorder.is_none() {
            return Err("gap needs to know how many are reordered: add for example `reorder 25%`".to_owned());
        }
        let ecn = self.ecn.is_some() && self.no_room.is_none();
        let loss = self.no_room.map_or(self.loss, |()| Some(LossModel::certain()));
        let gap = self.gap.unwrap_or(1).max(1);
        let happens = |chance: &Chance| !chance.probability.is_zero();
        Ok(Effects {
            delay: delay(self.delay, self.distribution, self.reordering.is_some())?,
            loss: loss.filter(|model| !model.is_nothing()).map(|model| Losses { model, ecn }),
            duplicate: self.duplicate.filter(happens),
            corrupt: self
                .corrupt
                .filter(|(chance, _)| happens(chance))
                .map(|(chance, fixed)| Corruption { chance, fixed }),
            reorder: self.reorder.filter(happens).map(|chance| Reordering { chance, gap }),
            bottleneck: self.bottleneck,
            queue: self.queue,
            mark: self.mark,
            slot: self.slot.filter(|slot| slot.opens != SlotTime::Between(Duration::ZERO, Duration::ZERO)),
            seed: self.seed,
        })
    }
}

fn delay(
    clause: Option<(Duration, Duration, Percent)>,
    distribution: Option<Distribution>,
    reorders: bool,
) -> Result<Option<Delay>, String> {
    let (time, spread, correlation) = clause.unwrap_or_default();
    let needs_jitter =
        |what: &str| Err(format!("{what} needs a jitter: write for example `delay 100ms 20ms`"));
    match () {
        () if !spread.is_zero() => {
            let distribution = distribution.unwrap_or(Distribution::Uniform);
            Ok(Some(Delay { time, jitter: Some(Jitter { spread, correlation, distribution, reorders }) }))
        }
        () if distribution.is_some() => needs_jitter("distribution"),
        () if reorders => needs_jitter("reordering"),
        () => Ok((!time.is_zero()).then_some(Delay { time, jitter: None })),
    }
}

impl LossModel {
    /// All packets.
    pub const fn certain() -> Self {
        Self::Random(Chance { probability: Percent::ALL, correlation: Percent::ZERO })
    }

    /// Gilbert-Elliott by p alone, as `tc` fills in the rest: all are lost in the bad state, none in the good one.
    pub(super) const fn gemodel(p: Percent) -> [Percent; 4] {
        [p, p.rest(), Percent::ALL, Percent::ZERO]
    }

    /// Four states by p13 alone, as `tc` fills in the rest.
    pub(super) const fn state(p13: Percent) -> [Percent; 5] {
        [p13, p13.rest(), Percent::ZERO, Percent::ALL, Percent::ZERO]
    }
}

/// Refuses text that is longer than any effects are.
fn check_length(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("{} bytes of effects are too many: the most are {MAX_TEXT}", text.len()));
    }
    Ok(())
}
