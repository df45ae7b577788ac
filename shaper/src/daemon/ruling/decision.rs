//! Decides what a rule makes of a network namespace. Pure.

use crate::shaping::{Rule, RuleName};

/// The memory of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It was given the shaping of this rule.
    Ruled(Box<Rule>),
    /// A person cleared the shaping of the rule with this name.
    Exempt(RuleName),
}

/// An action on a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is as it should be.
    Nothing,
    /// It is to be given the shaping of the rule.
    Set,
    /// The shaping of a rule is to end.
    Clear,
    /// There is nothing to be remembered any more.
    Forget,
}

/// Decides what is to be done where this rule fits, if any, and `is_shaped` tells whether anything is in force.
pub(super) fn action(rule: Option<&Rule>, held: Option<&Held>, is_shaped: bool) -> Action {
    match (rule, held) {
        (None, None) => Action::Nothing,
        (None, Some(Held::Ruled(_))) if is_shaped => Action::Clear,
        (None, Some(_)) => Action::Forget,
        (Some(rule), Some(Held::Ruled(last))) if **last == *rule && is_shaped => Action::Nothing,
        (Some(_), Some(Held::Ruled(_))) => Action::Set,
        (Some(rule), Some(Held::Exempt(name))) if *name == rule.name => Action::Nothing,
        // By hand.
        (Some(_), None | Some(Held::Exempt(_))) if is_shaped => Action::Nothing,
        (Some(_), None | Some(Held::Exempt(_))) => Action::Set,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shaping::RuleDocument;

    fn rule(name: &str, loss: &str) -> Rule {
        let document = json!({ "name": name, "select": "all", "set": { "loss": loss } });
        let document: RuleDocument = serde_json::from_value(document).expect("a document");
        document.try_into().expect("a rule")
    }

    #[test]
    fn what_a_person_did_counts_for_more_than_a_rule() {
        let (a, changed, b) = (rule("a", "1%"), rule("a", "2%"), rule("b", "1%"));
        let ruled = Held::Ruled(Box::new(a.clone()));
        let exempt = Held::Exempt(a.name.clone());
        for (wanted, held, is_shaped, expected) in [
            (None, None, false, Action::Nothing),
            (None, None, true, Action::Nothing),
            (None, Some(&ruled), true, Action::Clear),
            (None, Some(&ruled), false, Action::Forget),
            (None, Some(&exempt), true, Action::Forget),
            (Some(&a), None, false, Action::Set),
            (Some(&a), None, true, Action::Nothing),
            (Some(&a), Some(&ruled), true, Action::Nothing),
            (Some(&a), Some(&ruled), false, Action::Set),
            (Some(&changed), Some(&ruled), true, Action::Set),
            (Some(&b), Some(&ruled), true, Action::Set),
            (Some(&a), Some(&exempt), false, Action::Nothing),
            (Some(&changed), Some(&exempt), false, Action::Nothing),
            (Some(&b), Some(&exempt), false, Action::Set),
            (Some(&b), Some(&exempt), true, Action::Nothing),
        ] {
            assert_eq!(action(wanted, held, is_shaped), expected, "{wanted:?} {held:?} {is_shaped}");
        }
    }
}
