//! The whole shaping of a container as a document: what it has, and what it is to have instead.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use super::lifetime::Lifetime;
use crate::model::{Direction, Policy, PolicyError};

/// The whole shaping of a container, by direction; none where packets are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// The shaping of the packets that it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Side>,
    /// The shaping of the packets that it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Side>,
}

/// The shaping of a container in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The lifetime from now on.
    #[serde(default = "forever", skip_serializing_if = "is_forever", deserialize_with = "lifetime")]
    pub r#for: Lifetime,
}

const fn forever() -> Lifetime {
    Lifetime::Forever
}

fn is_forever(lifetime: &Lifetime) -> bool {
    *lifetime == Lifetime::Forever
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lifetime, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Whole {
    /// Reads it in JSON.
    ///
    /// # Errors
    ///
    /// When it has another form, or says what cannot be.
    pub fn parse(json: &[u8]) -> Result<Self, PolicyError> {
        serde_json::from_slice(json).map_err(PolicyError::malformed)
    }

    /// The policies in force with their remaining times; of several interfaces, those of the first one.
    pub fn of<'a>(policies: impl Iterator<Item = (Direction, &'a Arc<Policy>, Option<Duration>)>) -> Self {
        let mut whole = Self::default();
        for (direction, policy, left) in policies.filter(|(_, policy, left)| {
            // A lifetime of nothing could not be given back.
            !policy.is_empty() && left.is_none_or(|left| !left.is_zero())
        }) {
            let lifetime = left.map_or(Lifetime::Forever, Lifetime::For);
            whole
                .side_mut(direction)
                .get_or_insert_with(|| Side { policy: Arc::clone(policy), r#for: lifetime });
        }
        whole
    }

    /// The same after some time: what is over by then is left out.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        for direction in [Direction::Egress, Direction::Ingress] {
            let side = self.side_mut(direction);
            let Some(Lifetime::For(left)) = side.as_ref().map(|side| side.r#for) else { continue };
            match left.checked_sub(time).filter(|left| !left.is_zero()) {
                Some(left) => side.iter_mut().for_each(|side| side.r#for = Lifetime::For(left)),
                None => *side = None,
            }
        }
        self
    }

    /// Returns true if packets of both directions are left alone.
    pub const fn is_empty(&self) -> bool {
        self.egress.is_none() && self.ingress.is_none()
    }

    /// The part of one direction.
    pub(super) const fn side(&self, direction: Direction) -> Option<&Side> {
        match direction {
            Direction::Egress => self.egress.as_ref(),
            Direction::Ingress => self.ingress.as_ref(),
        }
    }

    const fn side_mut(&mut self, direction: Direction) -> &mut Option<Side> {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    /// The policies of both directions.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.egress.iter().chain(&self.ingress).map(|side| &side.policy)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::{change::Request, model::Shaping, samples::effects};

    #[test]
    fn what_is_in_force_can_be_given_back() {
        let egress = Shaping { expires_at_ns: NonZeroU64::new(61_000_000_000), ..effects("loss 1%").into() };
        let (ingress, over) = (Shaping::from(effects("delay 1ms")), Shaping::from(effects("loss 100%")));
        let all = [
            (Direction::Egress, &over.policy, Some(Duration::ZERO)),
            (Direction::Egress, &egress.policy, Some(Duration::from_secs(60))),
            (Direction::Ingress, &ingress.policy, None),
        ];
        let whole = Whole::of(all.into_iter());
        let json = serde_json::to_string(&whole).expect("JSON");
        assert_eq!(
            json,
            r#"{"egress":{"policy":{"netem":"loss 1%"},"for":"1m"},"ingress":{"policy":{"netem":"delay 1ms"}}}"#
        );
        assert_eq!(serde_json::from_str::<Whole>(&json).expect("it is one"), whole);
        let request = Request::of_whole(whole);
        let after = |direction| {
            let old = effects("loss 50% delay 5s").into();
            Shaping::after(&old, &request, direction, 1_000_000_000).expect("it can be done")
        };
        assert_eq!((after(Direction::Egress), after(Direction::Ingress)), (egress, ingress));
    }

    #[test]
    fn time_goes_by_for_what_has_a_lifetime() {
        let json = |left: &str| format!(r#"{{"egress":{{"policy":{{"netem":"loss 1%"}},"for":"{left}"}}}}"#);
        let whole = |left: &str| Whole::parse(json(left).as_bytes()).expect("a document");
        assert_eq!(whole("1m").after(Duration::from_secs(20)), whole("40s"));
        assert_eq!(whole("forever").after(Duration::from_secs(20)), whole("forever"));
        assert!(!whole("20s").is_empty());
        assert!(whole("20s").after(Duration::from_secs(20)).is_empty());
        assert!(whole("20s").after(Duration::from_secs(30)).is_empty());
    }

    #[test]
    fn what_is_left_out_is_cleared() {
        let request = Request::of_whole(Whole::default());
        let old = Shaping { expires_at_ns: NonZeroU64::new(9), ..effects("loss 50%").into() };
        assert_eq!(old.after(&request, Direction::Egress, 1), Ok(Shaping::default()));
    }
}
