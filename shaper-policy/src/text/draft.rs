//! Effects that are put together clause by clause.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::model::{
    Chance, Delay, Distribution, Effects, Jitter, LossModel, Losses, Percent, PolicyError, Reordering,
};

/// Effects of which not all clauses are read.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The effects that one clause says whole.
    pub(super) effects: Effects,
    pub(super) delay: DelayParts,
    pub(super) loss: LossParts,
    pub(super) reorder: ReorderParts,
    /// The clauses that were read.
    said: BTreeSet<&'static str>,
}

impl Draft {
    /// Notes that `what` was read.
    ///
    /// # Errors
    ///
    /// When it was read before.
    pub(super) fn once(&mut self, what: &'static str) -> Result<(), PolicyError> {
        if self.said.insert(what) { Ok(()) } else { Err(PolicyError::twice(what)) }
    }

    /// Returns the effects of all clauses together.
    ///
    /// # Errors
    ///
    /// When one needs another that is not there, or contradicts it.
    pub(crate) fn finish(self) -> Result<Effects, PolicyError> {
        self.parts()?.checked()
    }

    /// Returns the effects of the clauses, each by itself.
    ///
    /// # Errors
    ///
    /// When a word that belongs to a clause is without it.
    pub(crate) fn parts(self) -> Result<Effects, PolicyError> {
        Ok(Effects {
            loss: self.loss.finish().map_err(|error| error.at("ecn"))?,
            reorder: self.reorder.finish()?,
            delay: self.delay.finish().map_err(|error| error.at("delay"))?,
            ..self.effects
        })
    }
}

/// A delay, of which not all clauses are read.
#[derive(Debug, Default)]
pub(super) struct DelayParts {
    pub(super) time: Duration,
    pub(super) spread: Duration,
    pub(super) correlation: Percent,
    pub(super) distribution: Option<Distribution>,
    pub(super) reorders: bool,
}

impl DelayParts {
    fn finish(self) -> Result<Option<Delay>, PolicyError> {
        let Self { time, spread, correlation, distribution, reorders } = self;
        let needs_jitter = |what: &'static str| {
            Err(PolicyError::missing(what, "a jitter", "write for example `delay 100ms 20ms`"))
        };
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
}

/// Loss, of which not all clauses are read.
#[derive(Debug, Default)]
pub(super) struct LossParts {
    pub(super) model: Option<LossModel>,
    pub(super) ecn: bool,
    /// True if the queue has no room, so that all packets are lost.
    pub(super) has_no_room: bool,
}

impl LossParts {
    fn finish(self) -> Result<Option<Losses>, PolicyError> {
        match (self.has_no_room, self.model) {
            (_, None) if self.ecn => Err(PolicyError::missing(
                "ecn",
                "a loss in whose place packets are marked",
                "add for example `loss 1%`",
            )),
            (true, _) => Ok(Some(Losses { model: LossModel::certain(), ecn: false })),
            (false, model) => {
                let loses = model.filter(|model| !model.is_nothing());
                Ok(loses.map(|model| Losses { model, ecn: self.ecn }))
            }
        }
    }
}

/// Reordering, of which not all clauses are read.
#[derive(Debug, Default)]
pub(super) struct ReorderParts {
    /// The probability, which may be none.
    pub(super) chance: Option<Option<Chance>>,
    pub(super) gap: Option<u32>,
}

impl ReorderParts {
    fn finish(self) -> Result<Option<Reordering>, PolicyError> {
        let gap = self.gap.unwrap_or(1).max(1);
        match self.chance {
            None if self.gap.is_some() => Err(PolicyError::missing(
                "gap",
                "to know how many packets are reordered",
                "add for example `reorder 25%`",
            )),
            chance => Ok(chance.flatten().map(|chance| Reordering { chance, gap })),
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probability, correlation } = self;
        if correlation.is_zero() {
            write!(f, "{probability}")
        } else {
            write!(f, "{probability} {correlation}")
        }
    }
}
