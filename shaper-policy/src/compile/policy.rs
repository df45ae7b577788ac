//! A policy as the one entry of its own map.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use shaper_common::ORPHAN_FROM_NS;

use crate::model::{Chance, Delay, Effects, Latency, LossModel, Losses, Percent, Plan, Policy, as_ns};

impl Policy {
    /// Returns it as the kernel reads it; what is not simple is in the maps of the plan.
    pub fn to_map(&self) -> shaper_common::Policy {
        let expires_at_ns = self.expires_at_ns.map_or(0, NonZeroU64::get);
        let Some((latency, loss)) = self.simple().filter(|_| !self.needs_plan()) else {
            return shaper_common::Policy { expires_at_ns, plan: 1, ..shaper_common::Policy::default() };
        };
        let delay_ns = latency.map_or(0, |latency| as_ns(latency.as_duration()));
        shaper_common::Policy {
            expires_at_ns,
            delay_ns,
            plan: 0,
            queueless: 0,
            loss: loss.map_or(0, |loss| loss.percent().probability()),
            orphan: u32::from(delay_ns >= ORPHAN_FROM_NS),
        }
    }

    /// Reads what the kernel has, where the plan, if there is one, is `asked`. A delay beyond [`Latency::MAX`] is not
    /// carried out and so is none.
    pub fn from_map(map: &shaper_common::Policy, asked: Option<&Arc<Plan>>) -> Self {
        let expires_at_ns = NonZeroU64::new(map.expires_at_ns);
        if map.plan != 0 {
            return Self { plan: asked.cloned().unwrap_or_default(), expires_at_ns };
        }
        let time = Duration::from_nanos(map.delay_ns);
        let delay = (!time.is_zero() && time <= Latency::MAX).then_some(Delay { time, jitter: None });
        let chance = Chance { probability: Percent::from_probability(map.loss), correlation: Percent::ZERO };
        let loss = (map.loss != 0).then_some(Losses { model: LossModel::Random(chance), ecn: false });
        Self { expires_at_ns, ..Effects { delay, loss, ..Effects::default() }.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shaper_common::MAX_DELAY_NS;

    use super::*;
    use crate::{model::Loss, samples::effects};

    fn policy(words: &str) -> Policy {
        effects(words).into()
    }

    #[test]
    fn what_is_not_simple_is_in_the_plan_alone() {
        let whole = policy("delay 2s 10ms");
        let map = whole.to_map();
        assert_eq!((map.plan, map.delay_ns, map.loss), (1, 0, 0));
        assert_eq!(Policy::from_map(&map, Some(&whole.plan)), whole);
        assert_eq!(Policy::from_map(&map, None), Policy::default());
        assert!(policy("delay 2s loss 1%").is_simple() && !whole.is_simple());
    }

    proptest! {
        #[test]
        fn a_policy_survives_the_map(ns in 1..=MAX_DELAY_NS, percent in 0.000_001..=100.0_f64, deadline in any::<u64>()) {
            let latency = Latency::new(Duration::from_nanos(ns)).expect("in range").expect("some");
            let loss = Loss::from_percent(percent).expect("in range").expect("some");
            let policy = Policy {
                expires_at_ns: NonZeroU64::new(deadline),
                ..policy(&format!("delay {latency} loss {loss}"))
            };
            prop_assert_eq!(Policy::from_map(&policy.to_map(), None), policy);
        }

    }
}
