//! The policy of one interface in one direction.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::{
    bounded::{Latency, Loss},
    effects::{Effects, LossModel},
    policy::Policy,
};

/// The shaping of one interface in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shaping {
    /// To which packets, and when.
    pub policy: Arc<Policy>,
    /// When it ends, in nanoseconds of `CLOCK_MONOTONIC`.
    pub expires_at_ns: Option<NonZeroU64>,
}

impl From<Effects> for Shaping {
    /// The same for all packets until it is cleared.
    fn from(effects: Effects) -> Self {
        Self { policy: Arc::new(Policy::always(effects)), expires_at_ns: None }
    }
}

impl Shaping {
    /// Returns the (mean) delay of packets of no target, if it is the same at all times.
    pub fn latency(&self) -> Option<Latency> {
        let delay = self.policy.schedule.settled()?.delay.as_ref()?;
        Latency::new(delay.time).ok().flatten()
    }

    /// Returns the share of lost packets of no target, if losses are independent, and the same at all times.
    pub fn loss(&self) -> Option<Loss> {
        match self.policy.schedule.settled()?.loss.as_ref()?.model {
            LossModel::Random(chance) => Loss::new(chance.probability),
            _ => None,
        }
    }

    /// Returns the effects on packets of no target, in netem's words; empty is none.
    pub fn words(&self) -> String {
        self.policy.schedule.to_string()
    }

    /// The first lines of its targets, and what is done to their packets, in netem's words.
    pub fn targets(&self) -> impl Iterator<Item = (String, String)> {
        self.policy.targets.iter().map(|target| {
            let words = target.schedule.to_string();
            let words = if words.is_empty() { "nothing".to_owned() } else { words };
            (target.rule.short(), words)
        })
    }

    /// Returns true if latency and loss are all that it has.
    pub fn is_simple(&self) -> bool {
        self.simple().is_some()
    }

    /// Returns true if the kernel needs a policy, and not only latency and loss: also to keep the choice of interfaces,
    /// and that they are prepared.
    pub fn needs_maps(&self) -> bool {
        !self.is_simple() || self.policy.interfaces.is_some() || self.policy.prepared
    }

    pub(crate) fn simple(&self) -> Option<(Option<Latency>, Option<Loss>)> {
        let Policy { interfaces: _, prepared: _, seed: None, schedule, targets } = &*self.policy else {
            return None;
        };
        schedule.constant().filter(|_| targets.is_empty())?.simple()
    }

    /// Returns true if packets wait anywhere, or are to be able to.
    pub fn needs_queue(&self) -> bool {
        self.policy.prepared || self.policy.effects().any(Effects::needs_queue)
    }

    /// Returns true if it acts on single packets, so that several may not pass as one (GSO).
    pub fn needs_single_segments(&self) -> bool {
        self.policy.effects().any(Effects::needs_single_segments)
    }

    /// Returns true if it has any effect at `now_ns`, or is prepared to.
    pub fn is_in_force(&self, now_ns: u64) -> bool {
        !self.policy.is_empty() && self.expires_at_ns.is_none_or(|deadline| now_ns < deadline.get())
    }

    /// Returns the remaining time; none is for ever.
    pub fn remaining(&self, now_ns: u64) -> Option<Duration> {
        self.expires_at_ns.map(|deadline| Duration::from_nanos(deadline.get().saturating_sub(now_ns)))
    }
}
