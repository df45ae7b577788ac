//! A policy in force, as the API shows it.

use std::{num::NonZeroU64, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{Latency, Loss, Policy, Shaping};

impl Serialize for Shaping {
    /// Latency and loss by themselves, all in netem's words, and the policy as a document.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            latency: Option<Latency>,
            loss: Option<Loss>,
            netem: Option<String>,
            policy: &'a Policy,
            expires_at_ns: Option<NonZeroU64>,
        }
        let netem = Some(self.words()).filter(|words| !words.is_empty());
        let (latency, loss) = (self.latency(), self.loss());
        Shown { latency, loss, netem, policy: &self.policy, expires_at_ns: self.expires_at_ns }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shaping {
    /// From the policy; the rest only repeats it.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            policy: Policy,
            expires_at_ns: Option<NonZeroU64>,
        }
        let Read { policy, expires_at_ns } = Read::deserialize(deserializer)?;
        Ok(Self { policy: Arc::new(policy), expires_at_ns })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{any_policy, effects};

    fn shaping(words: &str) -> Shaping {
        effects(words).into()
    }

    #[test]
    fn latency_and_loss_are_shown_beside_all_that_there_is() {
        let json = |words: &str| serde_json::to_value(shaping(words)).expect("JSON");
        let both = json("delay 2s 10ms loss 10% duplicate 1%");
        assert_eq!((both["latency"].as_str(), both["loss"].as_str()), (Some("2000ms"), Some("10%")));
        assert_eq!(both["netem"], "delay 2000ms 10ms loss 10% duplicate 1%");
        assert_eq!(both["policy"]["netem"], both["netem"]);
        let none = json("");
        assert!(
            ["latency", "loss", "netem", "expires_at_ns"].iter().all(|key| none[key].is_null()),
            "{none}"
        );
        assert!(json("loss gemodel 1%")["loss"].is_null());
    }

    proptest! {
        #[test]
        fn a_policy_survives_its_json(policy in any_policy(), deadline in any::<u64>()) {
            let shaping = Shaping { policy: Arc::new(policy), expires_at_ns: NonZeroU64::new(deadline) };
            let json = serde_json::to_string(&shaping).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Shaping>(&json).map_err(|error| error.to_string()), Ok(shaping));
        }

    }
}
