//! A policy in force, as the API shows it.

use std::{num::NonZeroU64, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{Latency, Loss, Plan, Policy};

impl Serialize for Policy {
    /// Latency and loss by themselves, all in netem's words, and the plan as a document.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            latency: Option<Latency>,
            loss: Option<Loss>,
            netem: Option<String>,
            plan: &'a Plan,
            expires_at_ns: Option<NonZeroU64>,
        }
        let netem = Some(self.words()).filter(|words| !words.is_empty());
        let (latency, loss) = (self.latency(), self.loss());
        Shown { latency, loss, netem, plan: &self.plan, expires_at_ns: self.expires_at_ns }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    /// From the plan; the rest only repeats it.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            plan: Plan,
            expires_at_ns: Option<NonZeroU64>,
        }
        let Read { plan, expires_at_ns } = Read::deserialize(deserializer)?;
        Ok(Self { plan: Arc::new(plan), expires_at_ns })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{any_plan, effects};

    fn policy(words: &str) -> Policy {
        effects(words).into()
    }

    #[test]
    fn latency_and_loss_are_shown_beside_all_that_there_is() {
        let json = |words: &str| serde_json::to_value(policy(words)).expect("JSON");
        let both = json("delay 2s 10ms loss 10% duplicate 1%");
        assert_eq!((both["latency"].as_str(), both["loss"].as_str()), (Some("2000ms"), Some("10%")));
        assert_eq!(both["netem"], "delay 2000ms 10ms loss 10% duplicate 1%");
        assert_eq!(both["plan"]["netem"], both["netem"]);
        let none = json("");
        assert!(
            ["latency", "loss", "netem", "expires_at_ns"].iter().all(|key| none[key].is_null()),
            "{none}"
        );
        assert!(json("loss gemodel 1%")["loss"].is_null());
    }

    proptest! {
        #[test]
        fn a_policy_survives_its_json(plan in any_plan(), deadline in any::<u64>()) {
            let policy = Policy { plan: Arc::new(plan), expires_at_ns: NonZeroU64::new(deadline) };
            let json = serde_json::to_string(&policy).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Policy>(&json).map_err(|error| error.to_string()), Ok(policy));
        }

    }
}
