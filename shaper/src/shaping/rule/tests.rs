use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::shaping::{Container, ContainerId, ContainerState, NetnsRef, RuntimeName};

fn rule(document: Value) -> Result<Rule, String> {
    let document: RuleDocument = serde_json::from_value(document).map_err(|error| error.to_string())?;
    Rule::try_from(document).map_err(|error| error.to_string())
}

fn with(key: &str, value: Value) -> Value {
    let mut document = json!({ "name": "slow-db", "select": "db-*", "set": { "loss": "5%" } });
    document[key] = value;
    document
}

#[test]
fn a_rule_is_read_as_it_is_written() {
    for document in [
        with("priority", json!(-3)),
        with("count", json!("30%")),
        with("suspended", json!(true)),
        with("until", json!("2026-12-01T18:00:00Z")),
        with("select", json!(["web", "label:app=db+!ns:test"])),
        with("set", json!({ "preset": "lte", "direction": "both" })),
    ] {
        let read = rule(document.clone()).expect("a rule");
        let written = serde_json::to_value(RuleDocument::from(&read)).expect("JSON");
        assert_eq!(rule(written), Ok(read), "{document}");
    }
    assert_eq!(rule(with("count", json!(2))).expect("a rule").count, "2".parse().ok());
}

#[test]
fn errors_name_the_key_and_say_what_is_expected() {
    for (key, value, said) in [
        ("name", json!("-a"), "name: invalid name of a rule \"-a\": expected up to 64 letters"),
        ("name", json!("a b"), "name: invalid name"),
        ("name", json!("a".repeat(65)), "name: invalid name"),
        ("select", json!("lable:x"), "select: selector \"lable:x\" at character 1: unknown kind"),
        ("select", json!([]), "select: selector"),
        ("count", json!(0), "count: invalid count \"0\""),
        ("until", json!("tomorrow"), "until: invalid time \"tomorrow\": expected one such as 2026"),
        ("set", json!({}), "set: nothing is asked for"),
        ("set", json!({ "loss": "101%" }), "set: loss: "),
        ("set", json!({ "loss": "1%", "for": "1m" }), "set: a rule has no `for`"),
        ("sett", json!(1), "unknown field `sett`"),
    ] {
        let error = rule(with(key, value.clone())).expect_err("wrong");
        assert!(error.starts_with(said), "{key} = {value}: {error}");
    }
}

fn container(name: &str, inode: u64) -> Container {
    let netns = NetnsRef { id: NetnsId { dev: 4, inode }, path: "/proc/1/ns/net".into() };
    let id = ContainerId::new(name).expect("an id");
    Container::new(id, name.to_owned(), RuntimeName::Docker, ContainerState::Running, Some(netns))
}

/// The name of the rule for each of some containers, by their names.
fn ruled(rules: &Rules, all: &[Container], now: SystemTime) -> Vec<(String, String)> {
    let resolve = |name: &str| {
        let found = all.iter().find(|one| one.name == name).cloned();
        found.ok_or_else(|| ShapingError::NotFound { name: name.to_owned(), near: Vec::new() })
    };
    let known = Known { all, resolve: &resolve };
    let Rulings { rules: rulings, errors } =
        rules.rulings(&known, &Protection::new([].into(), []), true, now);
    assert!(errors.is_empty(), "{errors:?}");
    let named = |one: &Container| {
        let rule = rulings.get(&one.netns.as_ref()?.id)?;
        Some((one.name.clone(), rule.name.to_string()))
    };
    all.iter().filter_map(named).collect()
}

fn rules(documents: impl IntoIterator<Item = Value>) -> Rules {
    Rules::of(documents.into_iter().map(|document| rule(document).expect("a rule")))
}

#[test]
fn of_rules_that_fit_the_highest_priority_wins_and_then_the_first_name() {
    let all = [container("db-1", 1), container("db-2", 2), container("web", 3)];
    let named = |name: &str, select: &str, priority: i32| json!({ "name": name, "select": select, "priority": priority, "set": { "loss": "1%" } });
    let rules = rules([named("c", "db-2", 1), named("b", "all", 0), named("a", "db-*", 0)]);
    let expected = [("db-1", "a"), ("db-2", "c"), ("web", "b")];
    let expected = expected.map(|(name, rule)| (name.to_owned(), rule.to_owned()));
    assert_eq!(ruled(&rules, &all, UNIX_EPOCH), expected);
}

#[test]
fn what_is_suspended_over_or_protected_is_not_ruled() {
    let all = [container("db-1", 1), container("weaveworks", 2)];
    let until = |text: &str| with("until", json!(text));
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let timed = rules([until("1970-01-01T00:01:00Z")]);
    assert_eq!(ruled(&timed, &all, at(59)).len(), 1);
    assert_eq!(ruled(&timed, &all, at(60)), []);
    assert_eq!(ruled(&rules([with("suspended", json!(true))]), &all, at(0)), []);
    let scope = Container { image: Some("weaveworks/scope".to_owned()), ..container("db-9", 9) };
    assert_eq!(ruled(&rules([with("select", json!("all"))]), &[scope], at(0)), []);
}

proptest! {
    #[test]
    fn each_container_has_the_rule_that_a_naive_model_says(
        listed in prop::collection::vec(("[ab]{1,2}", prop::sample::subsequence(vec!["x", "y", "z"], 1..3), -1..2_i32), 0..6),
    ) {
        let all = [container("x", 1), container("y", 2), container("z", 3)];
        let document = |(name, select, priority): &(String, Vec<&str>, i32)| {
            json!({ "name": name, "select": select, "priority": priority, "set": { "loss": "1%" } })
        };
        let rules = rules(listed.iter().map(document));
        let mut expected = Vec::new();
        for one in &all {
            let mut best: Option<(i32, &str)> = None;
            let mut seen: Vec<&str> = Vec::new();
            for (name, select, priority) in &listed {
                // Of several with one name, the first counts.
                let is_first = !seen.contains(&name.as_str());
                seen.push(name);
                if is_first && select.contains(&one.name.as_str()) {
                    let better = best.is_none_or(|(other, found)| {
                        *priority > other || *priority == other && name.as_str() < found
                    });
                    if better {
                        best = Some((*priority, name));
                    }
                }
            }
            expected.extend(best.map(|(_, name)| (one.name.clone(), name.to_owned())));
        }
        prop_assert_eq!(ruled(&rules, &all, UNIX_EPOCH), expected);
    }
}
