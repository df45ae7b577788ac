//! A policy as the one entry of its own map.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use shaper_common::ORPHAN_FROM_NS;

use crate::model::{Chance, Delay, Effects, Latency, LossModel, Losses, Percent, Policy, Shaping, as_ns};

impl Shaping {
    /// Returns it as the kernel reads it; what is not simple is in the maps of the policy.
    pub fn to_map(&self) -> shaper_common::Shaping {
        let expires_at_ns = self.expires_at_ns.map_or(0, NonZeroU64::get);
        let Some((latency, loss)) = self.simple().filter(|_| !self.needs_maps()) else {
            return shaper_common::Shaping { expires_at_ns, in_maps: 1, ..shaper_common::Shaping::default() };
        };
        let delay_ns = latency.map_or(0, |latency| as_ns(latency.as_duration()));
        shaper_common::Shaping {
            expires_at_ns,
            delay_ns,
            in_maps: 0,
            queueless: 0,
            loss: loss.map_or(0, |loss| loss.percent().probability()),
            orphan: u32::from(delay_ns >= ORPHAN_FROM_NS),
        }
    }

    /// Reads what the kernel has, where the policy, if there is one, is `asked`. A delay beyond [`Latency::MAX`] is not
    /// carried out and so is none.
    pub fn from_map(map: &shaper_common::Shaping, asked: Option<&Arc<Policy>>) -> Self {
        let expires_at_ns = NonZeroU64::new(map.expires_at_ns);
        if map.in_maps != 0 {
            return Self { policy: asked.cloned().unwrap_or_default(), expires_at_ns };
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

    fn shaping(words: &str) -> Shaping {
        effects(words).into()
    }

    #[test]
    fn what_is_not_simple_is_in_the_policy_alone() {
        let whole = shaping("delay 2s 10ms");
        let map = whole.to_map();
        assert_eq!((map.in_maps, map.delay_ns, map.loss), (1, 0, 0));
        assert_eq!(Shaping::from_map(&map, Some(&whole.policy)), whole);
        assert_eq!(Shaping::from_map(&map, None), Shaping::default());
        assert!(shaping("delay 2s loss 1%").is_simple() && !whole.is_simple());
    }

    proptest! {
        #[test]
        fn a_policy_survives_the_map(ns in 1..=MAX_DELAY_NS, percent in 0.000_001..=100.0_f64, deadline in any::<u64>()) {
            let latency = Latency::new(Duration::from_nanos(ns)).expect("in range").expect("some");
            let loss = Loss::from_percent(percent).expect("in range").expect("some");
            let shaping = Shaping {
                expires_at_ns: NonZeroU64::new(deadline),
                ..shaping(&format!("delay {latency} loss {loss}"))
            };
            prop_assert_eq!(Shaping::from_map(&shaping.to_map(), None), shaping);
        }

    }
}
