//! Labels by which a container says its own shaping, so that whoever starts it needs no command.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Rule, RuleError, RuleName, RuleProblem};
use crate::shaping::{
    Asked, Container, Directions, Effects, Lifetime, Named, PolicyError, Request, Selector,
};

/// The beginning of all of them.
pub(crate) const PREFIX: &str = "shaper.";

/// The labels that there are.
const NETEM: &str = "shaper.netem";
const INGRESS: &str = "shaper.ingress";
const PRESET: &str = "shaper.preset";
const TO: &str = "shaper.to";
const FOR: &str = "shaper.for";

/// Tells whether a container says its own shaping.
pub(super) fn has_any(container: &Container) -> bool {
    of(container).next().is_some()
}

/// The rule that the labels of a container make; none if it has none, or may not be over yet as its start is not known.
///
/// # Errors
///
/// When there is no such label, or its value is not what it wants.
pub(super) fn rule(container: &Container) -> Result<Option<Rule>, RuleError> {
    let labels: BTreeMap<&str, &str> = of(container).collect();
    if let Some(unknown) = labels.keys().find(|label| ![NETEM, INGRESS, PRESET, TO, FOR].contains(label)) {
        return Err(RuleError::at("labels", RuleProblem::Label((*unknown).to_owned())));
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let wrong = |label| move |error: PolicyError| RuleError::at(label, RuleProblem::Shaping(error));
    let effects = |label, directions| {
        let effects = labels.get(label).map(|words| Effects::parse(words, &Named::default()));
        let request = effects.map(|effects| {
            let asked = Asked::Effects(Box::new(effects?));
            Ok(Request { directions, asked, ..Request::default() })
        });
        request.transpose().map_err(wrong(label))
    };
    let preset = labels.get(PRESET).map(|name| Request::of_preset(name));
    let netem = effects(NETEM, Directions::Egress)?;
    let ingress = effects(INGRESS, Directions::Ingress)?;
    if preset.is_some() && (netem.is_some() || ingress.is_some()) {
        return Err(RuleError::at(PRESET, RuleProblem::Contradiction));
    }
    let mut requests: Vec<_> = [preset, netem, ingress].into_iter().flatten().collect();
    if requests.is_empty() {
        return Err(RuleError::at("labels", RuleProblem::NoEffect));
    }
    let target = labels.get(TO).map(|to| to.parse()).transpose().map_err(wrong(TO))?;
    requests.iter_mut().for_each(|request| request.target.clone_from(&target));
    let until = match labels.get(FOR).map(|text| text.parse()).transpose().map_err(wrong(FOR))? {
        Some(Lifetime::For(lasts)) => match container.started {
            Some(started) => Some(end(started, lasts)),
            None => return Ok(None),
        },
        Some(Lifetime::Forever) | None => None,
    };
    // It is made anew for each container, and only asked for by that.
    let selector =
        Selector::parse(["all"]).map_err(|error| RuleError::at("labels", RuleProblem::Selector(error)))?;
    let (name, is_suspended) = (RuleName::of_labels(), false);
    Ok(Some(Rule { name, selector, count: None, priority: i32::MIN, is_suspended, until, requests }))
}

fn of(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let all = container.labels.iter().map(|(label, value)| (&**label, &**value));
    all.filter(|(label, _)| label.starts_with(PREFIX))
}

/// The end of a time from a start on, in whole seconds, as rules are kept.
fn end(started: SystemTime, lasts: Duration) -> SystemTime {
    let end = started.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(lasts);
    UNIX_EPOCH + Duration::from_secs(end.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{ContainerId, ContainerState, RuleDocument, RuntimeName};

    fn container(labels: &[(&str, &str)]) -> Container {
        let id = ContainerId::new("web").expect("an id");
        let plain = Container::new(id, "web".to_owned(), RuntimeName::Docker, ContainerState::Running, None);
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        let started = Some(UNIX_EPOCH + Duration::from_millis(60_500));
        Container { labels: labels.collect(), started, ..plain }
    }

    fn document(labels: &[(&str, &str)]) -> serde_json::Value {
        let rule = rule(&container(labels)).expect("good labels").expect("a rule");
        let document = RuleDocument::from(&rule);
        assert_eq!(document.clone().read(), Ok(rule), "it is read as it is written");
        serde_json::to_value(document).expect("JSON")
    }

    #[test]
    fn labels_say_what_is_done_and_until_when() {
        let both = document(&[(NETEM, "delay 100ms loss 1%"), (INGRESS, "rate 1mbit"), ("other", "x")]);
        let expected = serde_json::json!([
            { "netem": "delay 100ms loss 1%", "direction": "egress" },
            { "netem": "rate 1Mbit", "direction": "ingress" },
        ]);
        assert_eq!(both["set"], expected);
        let preset = document(&[(PRESET, "3g"), (TO, "10.0.0.0/8"), (FOR, "1m")]);
        let expected = serde_json::json!({ "preset": "3g", "to": "10.0.0.0/8", "direction": "both" });
        assert_eq!((&preset["set"], &preset["until"]), (&expected, &"1970-01-01T00:02:00Z".into()));
        assert_eq!(rule(&container(&[("app", "web")])), Ok(None));
    }

    #[test]
    fn a_time_begins_with_the_container() {
        let timed = container(&[(NETEM, "loss 1%"), (FOR, "1m")]);
        assert_eq!(rule(&Container { started: None, ..timed }), Ok(None));
    }

    #[test]
    fn wrong_labels_are_named() {
        for (labels, said) in [
            (
                &[("shaper.nettem", "loss 1%")][..],
                "labels: unknown label \"shaper.nettem\": expected shaper.",
            ),
            (&[(NETEM, "loss 101%")], "shaper.netem: a loss of 101% is impossible"),
            (&[(NETEM, "loss 1%"), (TO, "nowhere at all")], "shaper.to: "),
            (&[(NETEM, "loss 1%"), (FOR, "soon")], "shaper.for: "),
            (&[(NETEM, "loss 1%"), (PRESET, "3g")], "shaper.preset: it says all by itself"),
            (&[(FOR, "1m")], "labels: they say nothing of what is to be done"),
        ] {
            let error = rule(&container(labels)).expect_err(said).to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
