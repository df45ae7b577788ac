//! The policy after a request.

use std::num::NonZeroU64;

use super::{lifetime::Lifetime, request::Request};
use crate::model::{Direction, PolicyError, Shaping};

impl Shaping {
    /// The policy after `request`: what it does not mention stays. One that is over counts as nothing.
    ///
    /// # Errors
    ///
    /// When what is asked contradicts what is in force, or cannot be reached from it.
    pub fn after(&self, request: &Request, direction: Direction, now_ns: u64) -> Result<Self, PolicyError> {
        let old = if self.is_in_force(now_ns) { self.clone() } else { Self::default() };
        Ok(Self {
            policy: request.applied_to(&old.policy, direction)?,
            expires_at_ns: match request.lifetime_in(direction) {
                None => old.expires_at_ns,
                Some(Lifetime::Forever) => None,
                Some(Lifetime::For(duration)) => {
                    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                    NonZeroU64::new(now_ns.saturating_add(ns))
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Loss, samples::effects};

    fn shaping(words: &str) -> Shaping {
        effects(words).into()
    }

    fn after(old: &Shaping, request: &Request, now_ns: u64) -> Shaping {
        old.after(request, Direction::Egress, now_ns).expect("it can be done")
    }

    #[test]
    fn setting_one_effect_keeps_the_other_and_the_deadline() {
        let old = Shaping { expires_at_ns: NonZeroU64::new(100), ..shaping("delay 1s") };
        let request = Request::of_loss(Loss::parse("10%").expect("a loss"));
        assert_eq!(
            after(&old, &request, 50),
            Shaping { expires_at_ns: NonZeroU64::new(100), ..shaping("delay 1s loss 10%") }
        );
    }

    #[test]
    fn a_policy_that_is_over_leaves_nothing_to_keep() {
        let old = Shaping { expires_at_ns: NonZeroU64::new(100), ..shaping("delay 1s") };
        let request = Request::of_loss(Loss::parse("10%").expect("a loss"));
        assert_eq!(after(&old, &request, 100), shaping("loss 10%"));
    }
}
