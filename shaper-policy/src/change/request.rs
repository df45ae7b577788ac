//! The request of a person.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{clauses::Clauses, lifetime::Lifetime, whole::Whole};
use crate::{
    compile,
    file::Presets,
    model::{
        Direction, Directions, Effects, Interfaces, Latency, Loss, MatchRule, Name, Named, Policy,
        PolicyError, Schedule, Step, Target,
    },
};

/// A change of a container's shaping. What it does not mention stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The directions to change.
    pub directions: Directions,
    /// The effects that are asked for.
    pub asked: Asked,
    /// The packets; none is those of no target.
    pub target: Option<MatchRule>,
    /// On which interfaces from now on; none is on those that were chosen before.
    pub interfaces: Option<Interfaces>,
    /// True if the interfaces are to have a queue from now on, whatever is done to packets.
    pub prepare: bool,
    /// The time over which the policy in force turns into the one asked for; none is at once.
    pub ramp: Option<Duration>,
    /// The lifetime from now on; none is the deadline that there is.
    pub lifetime: Option<Lifetime>,
}

/// The effects that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Some effects change, the others stay.
    Clauses(Box<Clauses>),
    /// These instead of all that there are.
    Effects(Box<Effects>),
    /// The effects of a network, by its name.
    Preset(String),
    /// These in one direction, and those in the other; none leaves it alone.
    Network {
        /// The effects on what the container sends.
        egress: Option<Box<Effects>>,
        /// The effects on what it receives.
        ingress: Option<Box<Effects>>,
    },
    /// All of this, targets included.
    Policy(Arc<Policy>),
    /// All of this in both directions, lifetimes included.
    Whole(Box<Whole>),
}

impl Default for Asked {
    fn default() -> Self {
        Self::Clauses(Box::default())
    }
}

impl Request {
    /// Another latency in what the container sends.
    pub fn of_latency(latency: Option<Latency>) -> Self {
        let clauses = Clauses::of_latency(latency);
        Self { asked: Asked::Clauses(Box::new(clauses)), ..Self::default() }
    }

    /// Another loss of what the container sends.
    pub fn of_loss(loss: Option<Loss>) -> Self {
        let clauses = Clauses::of_loss(loss);
        Self { asked: Asked::Clauses(Box::new(clauses)), ..Self::default() }
    }

    /// The effects of a network in both directions, by its name.
    pub fn of_preset(name: &str) -> Self {
        Self { directions: Directions::Both, asked: Asked::Preset(name.to_owned()), ..Self::default() }
    }

    /// This instead of all that there is.
    pub fn of_whole(whole: Whole) -> Self {
        Self { directions: Directions::Both, asked: Asked::Whole(Box::new(whole)), ..Self::default() }
    }

    /// The same with the effects of the network that it names.
    ///
    /// # Errors
    ///
    /// When there is no such network.
    pub fn resolved(self, presets: &Presets) -> Result<Self, PolicyError> {
        let Asked::Preset(name) = &self.asked else { return Ok(self) };
        let preset = presets.find(name)?;
        let effects = |direction| {
            let effects = preset.effects(direction).map(|words| Effects::parse(words, &Named::default()));
            effects.transpose().map(|effects| effects.map(Box::new))
        };
        let (egress, ingress) = (effects(Direction::Egress)?, effects(Direction::Ingress)?);
        Ok(Self { asked: Asked::Network { egress, ingress }, ..self })
    }

    /// Returns the names that have to be resolved to addresses first.
    pub fn names(&self) -> BTreeSet<Name> {
        let named = self.policies().into_iter().flat_map(|policy| policy.names());
        named.chain(self.target.iter().flat_map(MatchRule::names)).cloned().collect()
    }

    /// The interfaces that it chooses.
    pub fn chosen(&self) -> Option<&Interfaces> {
        self.interfaces
            .as_ref()
            .or_else(|| self.policies().into_iter().find_map(|policy| policy.interfaces.as_ref()))
    }

    fn policies(&self) -> Vec<&Arc<Policy>> {
        match &self.asked {
            Asked::Policy(policy) => vec![policy],
            Asked::Whole(whole) => whole.policies().collect(),
            Asked::Clauses(_) | Asked::Effects(_) | Asked::Preset(_) | Asked::Network { .. } => Vec::new(),
        }
    }

    /// The lifetime from now on in `direction`; none is the deadline that there is.
    pub(super) fn lifetime_in(&self, direction: Direction) -> Option<Lifetime> {
        match &self.asked {
            Asked::Whole(whole) => Some(whole.side(direction).map_or(Lifetime::Forever, |side| side.r#for)),
            _ => self.lifetime,
        }
    }

    /// The policy after this, in `direction`. A choice of interfaces stays as long as anything is done on them, and that they
    /// are prepared until it is cleared.
    pub(super) fn applied_to(
        &self,
        old: &Arc<Policy>,
        direction: Direction,
    ) -> Result<Arc<Policy>, PolicyError> {
        if let Asked::Whole(whole) = &self.asked {
            return whole.side(direction).map_or(Ok(Arc::default()), |side| side.policy.seen_in(direction));
        }
        let mut policy = self.effects_applied_to(old, direction)?;
        let prepared = self.prepare || old.prepared || policy.prepared;
        if policy.prepared != prepared {
            policy = Arc::new(Policy { prepared, ..Policy::clone(&policy) });
        }
        let chosen = self.chosen().or(old.interfaces.as_ref()).filter(|_| !policy.is_empty());
        if policy.interfaces.as_ref() == chosen {
            return Ok(policy);
        }
        Ok(Arc::new(Policy { interfaces: chosen.cloned(), ..Policy::clone(&policy) }))
    }

    fn effects_applied_to(
        &self,
        old: &Arc<Policy>,
        direction: Direction,
    ) -> Result<Arc<Policy>, PolicyError> {
        if self.asked == Asked::default() {
            return Ok(Arc::clone(old));
        }
        let policy = match (&self.asked, &self.target) {
            (Asked::Policy(policy), None) if self.ramp.is_none() => return policy.seen_in(direction),
            (Asked::Policy(policy), _) if !policy.targets.is_empty() => {
                return Err(PolicyError::contradiction(
                    "a policy with targets of its own has no ramp and no target",
                    "leave them out",
                ));
            }
            (_, None) => {
                Policy { schedule: self.schedule_after(&old.schedule, direction)?, ..Policy::clone(old) }
            }
            (_, Some(rule)) => self.with_target(Policy::clone(old), rule, direction)?,
        };
        policy.checked().map(Arc::new).map_err(PolicyError::anywhere)
    }

    fn with_target(
        &self,
        mut policy: Policy,
        rule: &MatchRule,
        direction: Direction,
    ) -> Result<Policy, PolicyError> {
        let rule = rule.seen_in(direction);
        let place = policy.targets.iter().position(|target| target.rule == rule);
        let nothing = Schedule::default();
        let schedule =
            self.schedule_after(place.map_or(&nothing, |place| &policy.targets[place].schedule), direction)?;
        match place {
            Some(place) if schedule.is_empty() => drop(policy.targets.remove(place)),
            Some(place) => policy.targets[place].schedule = schedule,
            None if schedule.is_empty() => {}
            None => {
                // The narrower ones are asked first.
                let wider = |target: &Target| target.rule.narrowness() < rule.narrowness();
                let place = policy.targets.iter().position(wider).unwrap_or(policy.targets.len());
                policy.targets.insert(place, Target { rule, schedule });
            }
        }
        Ok(policy)
    }

    fn schedule_after(&self, old: &Schedule, direction: Direction) -> Result<Schedule, PolicyError> {
        let settled = || {
            old.settled().ok_or_else(|| {
                PolicyError::contradiction(
                    "what is in force changes in the course of time",
                    "clear it first, or replace all of it (`--netem`, `--policy`, `--preset`)",
                )
            })
        };
        let effects = match &self.asked {
            Asked::Clauses(clauses) => clauses.applied_to(settled()?.clone())?,
            Asked::Effects(effects) => Effects::clone(effects),
            Asked::Preset(name) => {
                return Err(PolicyError::unknown("preset", name, "it was not looked up"));
            }
            Asked::Whole(_) => return Ok(old.clone()),
            Asked::Network { egress, ingress } => {
                let effects = if direction == Direction::Egress { egress } else { ingress };
                let Some(effects) = effects else { return Ok(old.clone()) };
                Effects::clone(effects)
            }
            Asked::Policy(policy) if self.ramp.is_none() => return Ok(policy.schedule.clone()),
            Asked::Policy(policy) => {
                let constant = policy.schedule.constant().cloned();
                constant.ok_or_else(|| {
                    PolicyError::contradiction(
                        "a ramp leads to effects that stay, and this policy has several steps",
                        "leave one out",
                    )
                })?
            }
        };
        match self.ramp {
            None => Ok(Schedule::always(effects)),
            Some(lasts) => {
                let from = Step { lasts: Some(lasts), ramp: true, effects: settled()?.clone() };
                let to = Step { effects, ..Step::default() };
                compile::schedule(vec![from, to], false).map_err(PolicyError::anywhere)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::effects;

    fn netem(words: &str) -> Request {
        Request { asked: Asked::Effects(Box::new(effects(words))), ..Request::default() }
    }

    fn to(rule: &str, request: Request) -> Request {
        Request { target: Some(rule.parse().expect("a match rule")), ..request }
    }

    fn over(seconds: u64, request: Request) -> Request {
        Request { ramp: Some(Duration::from_secs(seconds)), ..request }
    }

    fn latency(text: &str) -> Request {
        Request::of_latency(Latency::parse(text).expect("a latency"))
    }

    /// Returns the policy in force after one request after the other, in one direction.
    fn after(requests: &[Request], direction: Direction) -> Result<Arc<Policy>, PolicyError> {
        requests.iter().try_fold(Arc::default(), |policy, request| request.applied_to(&policy, direction))
    }

    fn shown(requests: &[Request]) -> String {
        let policy = after(requests, Direction::Egress).unwrap_or_else(|error| panic!("{error}"));
        let targets = policy.targets.iter().map(|target| format!(" | {}: {}", target.rule, target.schedule));
        format!("{}{}", policy.schedule, targets.collect::<String>())
    }

    #[test]
    fn whole_effects_replace_what_is_in_force_and_single_ones_change_it() {
        assert_eq!(shown(&[netem("delay 100ms 20ms loss 1%"), latency("50ms")]), "delay 50ms 20ms loss 1%");
        assert_eq!(shown(&[latency("50ms"), netem("loss 1%")]), "loss 1%");
        assert_eq!(shown(&[netem("loss 1%"), netem("")]), "");
        assert_eq!(shown(&[netem("loss 1%"), Request::default()]), "loss 1%");
    }

    #[test]
    fn targets_come_change_and_go_the_narrower_first() {
        let all_udp = to("all udp", netem("loss 5%"));
        let net = to("10.0.0.0/8", netem("delay 10ms 1ms"));
        let host = to("10.0.0.1", latency("20ms"));
        let all = [netem("loss 1%"), all_udp, net, host];
        assert_eq!(
            shown(&all),
            "loss 1% | 10.0.0.1: delay 20ms | 10.0.0.0/8: delay 10ms 1ms | all udp: loss 5%"
        );
        let changed = [&all[..], &[to("10.0.0.0/8", latency("30ms")), to("10.0.0.1", netem(""))]].concat();
        assert_eq!(shown(&changed), "loss 1% | 10.0.0.0/8: delay 30ms 1ms | all udp: loss 5%");
        assert_eq!(shown(&[to("10.0.0.1", netem(""))]), "");
    }

    #[test]
    fn chosen_interfaces_stay_until_others_are_chosen_or_nothing_is_done() {
        let on = |name: &str, request: Request| Request {
            interfaces: Interfaces::new(Some(vec![name.to_owned()].into()), None).expect("a name"),
            ..request
        };
        let chosen = |requests: &[Request]| {
            let policy = after(requests, Direction::Egress).expect("a policy");
            policy.interfaces.as_ref().map(ToString::to_string)
        };
        let first = [on("eth1", latency("50ms")), Request::of_loss(Loss::parse("1%").expect("a loss"))];
        assert_eq!(chosen(&first), Some("eth1".to_owned()));
        assert_eq!(shown(&first), "delay 50ms loss 1%");
        let then = |request: Request| chosen(&[&first[..], &[request]].concat());
        assert_eq!(then(on("eth*", netem("loss 2%"))), Some("eth*".to_owned()));
        assert_eq!(then(on("eth*", Request::default())), Some("eth*".to_owned()));
        assert_eq!(then(policy(r#"{"netem": "loss 2%"}"#)), Some("eth1".to_owned()));
        assert_eq!(then(policy(r#"{"interface": ["lan*"], "netem": "loss 2%"}"#)), Some("lan*".to_owned()));
        let shop = r#"{"network": ["shop_*"], "netem": "loss 2%"}"#;
        assert_eq!(then(policy(shop)), Some("of network shop_*".to_owned()));
        assert_eq!(then(netem("")), None);
    }

    #[test]
    fn a_ramp_leads_from_what_is_in_force_to_what_is_asked() {
        let ramp = [latency("100ms"), over(10, latency("200ms"))];
        assert_eq!(shown(&ramp), "delay 100ms ramping for 10s, then delay 200ms");
        let again = [&ramp[..], &[over(5, Request::of_loss(None)), latency("50ms")]].concat();
        assert_eq!(shown(&again[..3]), "delay 200ms ramping for 5s, then delay 200ms");
        assert_eq!(shown(&again), "delay 50ms");
        let target = to("10.0.0.1", over(10, latency("200ms")));
        assert_eq!(shown(&[target]), " | 10.0.0.1: nothing ramping for 10s, then delay 200ms");
        let error = after(&[over(10, netem("rate 1mbit"))], Direction::Egress).expect_err("nothing between");
        let error = error.to_string();
        assert!(error.contains("between no rate and a rate"), "{error}");
    }

    fn policy(document: &str) -> Request {
        let policy = serde_json::from_str(document).expect("a policy");
        Request { asked: Asked::Policy(Arc::new(policy)), ..Request::default() }
    }

    #[test]
    fn a_policy_replaces_all_and_single_effects_do_not_change_its_steps() {
        let steps = policy(r#"{"repeat": true, "step": [{"for": "1s", "netem": "loss 1%"}, {"for": "1s"}]}"#);
        assert_eq!(
            shown(&[to("10.0.0.1", netem("loss 1%")), steps.clone()]),
            "loss 1% for 1s, then nothing for 1s, over and over"
        );
        let error = after(&[steps.clone(), latency("1ms")], Direction::Egress).expect_err("several steps");
        let error = error.to_string();
        assert!(error.contains("changes in the course of time: clear it first"), "{error}");
        assert_eq!(shown(&[steps.clone(), netem("loss 1%")]), "loss 1%");
        assert!(after(&[over(1, steps)], Direction::Egress).is_err());
        let targets = policy(r#"{"target": [{"to": "all", "loss": "1%"}]}"#);
        assert_eq!(shown(std::slice::from_ref(&targets)), " | all: loss 1%");
        assert!(after(&[to("10.0.0.1", targets)], Direction::Egress).is_err());
    }

    #[test]
    fn a_preset_has_effects_of_its_own_in_each_direction() {
        let file = "[home]\ntitle = \"\"\nsources = []\negress = \"rate 1mbit\"\ningress = \"rate 8mbit\"\n";
        let presets = Presets::parse("presets.toml", file, |_| Ok(())).expect("presets");
        let home = Request { asked: Asked::Preset("home".to_owned()), ..Request::default() };
        let home = home.resolved(&presets).expect("it is there");
        let shown =
            |direction| after(std::slice::from_ref(&home), direction).expect("a policy").schedule.to_string();
        assert_eq!(shown(Direction::Egress), "rate 1Mbit");
        assert_eq!(shown(Direction::Ingress), "rate 8Mbit");
        let none = Request { asked: Asked::Preset("moon".to_owned()), ..Request::default() };
        assert!(none.resolved(&presets).expect_err("none").to_string().contains("home"));
    }

    #[test]
    fn each_shipped_preset_is_in_words_that_we_read() {
        let check = |words: &str| Effects::parse(words, &Named::default()).map(drop);
        assert!(Presets::shipped(check).expect("all can be carried out").iter().count() > 0);
    }

    #[test]
    fn a_lifetime_is_a_duration_or_forever() {
        assert_eq!("10m".parse(), Ok(Lifetime::For(Duration::from_secs(600))));
        assert_eq!("forever".parse(), Ok(Lifetime::Forever));
        assert!("0s".parse::<Lifetime>().is_err());
        assert!("soon".parse::<Lifetime>().is_err());
    }
}
