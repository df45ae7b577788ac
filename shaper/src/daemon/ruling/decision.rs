//! Decides what a rule makes of a network namespace. Pure.

use std::path::PathBuf;

use crate::shaping::{Container, ContainerId, NetnsRef, Rule, RuleName};

/// The memory of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It was given the shaping of this rule.
    Ruled(Box<Rule>),
    /// A person cleared the shaping of a rule.
    Exempt(Exemption),
}

/// An exemption of a container from a rule, until it restarts.
///
/// The number of its network namespace may be used again at once: what the runtime says leads there tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exemption {
    /// The rule.
    pub(super) rule: RuleName,
    /// The container.
    pub(super) container: ContainerId,
    /// The path of its network namespace.
    pub(super) path: PathBuf,
}

impl Exemption {
    pub(super) fn new(rule: RuleName, container: &Container, netns: &NetnsRef) -> Self {
        Self { rule, container: container.id.clone(), path: netns.path.clone() }
    }

    /// Tells whether it is still that of the namespace which `present` containers have. Until every runtime `has_told` of
    /// its containers, one that is not seen is not gone.
    pub(super) fn holds(&self, present: &[&Container], has_told: bool) -> bool {
        let is_same = |one: &&Container| one.netns.as_ref().is_some_and(|netns| netns.path == self.path);
        present.iter().any(is_same) || !has_told && present.iter().all(|one| one.id != self.container)
    }
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
        (Some(rule), Some(Held::Exempt(exemption))) if exemption.rule == rule.name => Action::Nothing,
        // By hand.
        (Some(_), None | Some(Held::Exempt(_))) if is_shaped => Action::Nothing,
        (Some(_), None | Some(Held::Exempt(_))) => Action::Set,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shaping::{ContainerState, NetnsId, RuleDocument, RuntimeName};

    fn rule(name: &str, loss: &str) -> Rule {
        let document = json!({ "name": name, "select": "all", "set": { "loss": loss } });
        let document: RuleDocument = serde_json::from_value(document).expect("a document");
        document.try_into().expect("a rule")
    }

    fn container(id: &str, path: &str) -> Container {
        let id = ContainerId::new(id).expect("an id");
        let netns = NetnsRef { id: NetnsId { dev: 4, inode: 1 }, path: path.into() };
        Container::new(id, "web".to_owned(), RuntimeName::Docker, ContainerState::Running, Some(netns))
    }

    fn exemption(name: &str) -> Exemption {
        let container = container("c0ffee", "/proc/42/ns/net");
        Exemption::new(rule(name, "1%").name, &container, container.netns.as_ref().expect("it has one"))
    }

    #[test]
    fn an_exemption_holds_until_the_container_restarts() {
        let (same, restarted) =
            (container("c0ffee", "/proc/42/ns/net"), container("c0ffee", "/proc/43/ns/net"));
        let (sharing, other) = (container("beef", "/proc/42/ns/net"), container("beef", "/proc/43/ns/net"));
        for (present, has_told, expected) in [
            (&[&same][..], true, true),
            (&[&other, &same], true, true),
            (&[&restarted], true, false),
            (&[&restarted], false, false),
            (&[&sharing], true, true),
            (&[&other], true, false),
            (&[&other], false, true),
            (&[], true, false),
            (&[], false, true),
        ] {
            assert_eq!(exemption("a").holds(present, has_told), expected, "{present:?} {has_told}");
        }
    }

    #[test]
    fn what_a_person_did_counts_for_more_than_a_rule() {
        let (a, changed, b) = (rule("a", "1%"), rule("a", "2%"), rule("b", "1%"));
        let ruled = Held::Ruled(Box::new(a.clone()));
        let exempt = Held::Exempt(exemption("a"));
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
