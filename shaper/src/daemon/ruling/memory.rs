//! Remembers what rules and people did in network namespaces. Pure.

use std::collections::BTreeMap;

use super::decision::{Exemption, Held};
use crate::shaping::{Container, NetnsId, Rule};

/// The memory, and the part of it that has been written.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The shaping of rules and the exemptions that there are.
    pub(super) held: BTreeMap<NetnsId, Held>,
    /// The rules that are about to be carried out.
    intended: BTreeMap<NetnsId, Rule>,
    kept: BTreeMap<NetnsId, Held>,
}

impl Memory {
    /// The memory that was written.
    pub(super) fn of(held: BTreeMap<NetnsId, Held>) -> Self {
        Self { kept: held.clone(), held, intended: BTreeMap::new() }
    }

    /// Notes the rules that are about to be carried out, and no others.
    pub(super) fn intend(&mut self, rules: BTreeMap<NetnsId, Rule>) {
        self.intended = rules;
    }

    /// Notes that a person has shaped a container by hand, or cleared it.
    pub(super) fn by_hand(&mut self, container: &Container, is_cleared: bool) {
        let Some(netns) = &container.netns else { return };
        self.intended.remove(&netns.id);
        let rule = match self.held.remove(&netns.id) {
            Some(Held::Ruled(rule)) if is_cleared => rule.name.clone(),
            Some(Held::Exempt(exemption)) if is_cleared => exemption.rule,
            _ => return,
        };
        self.held.insert(netns.id, Held::Exempt(Exemption::new(rule, container, netns)));
    }

    /// Forgets a namespace that no container has any more.
    pub(super) fn forget(&mut self, netns: NetnsId) {
        self.held.remove(&netns);
    }

    /// Forgets the namespaces that no container has any more, and exemptions of containers that have restarted, by those
    /// that are `present`. Until every runtime `has_told` of its containers, one that is not seen is not gone.
    pub(super) fn compare(&mut self, present: &BTreeMap<NetnsId, Vec<&Container>>, has_told: bool) {
        self.held.retain(|netns, held| match (held, present.get(netns)) {
            (Held::Exempt(exemption), Some(present)) => exemption.holds(present, has_told),
            (_, present) => present.is_some() || !has_told,
        });
    }

    /// The part that the next daemon is to know if this one ends now.
    ///
    /// Of a namespace with an older rule's shaping it is that rule, as the new one's may not be there yet.
    pub(super) fn to_keep(&self) -> BTreeMap<NetnsId, Held> {
        let is_ruled = |netns: &NetnsId| matches!(self.held.get(netns), Some(Held::Ruled(_)));
        let intended = self.intended.iter().filter(|(netns, _)| !is_ruled(netns));
        let intended = intended.map(|(netns, rule)| (*netns, Held::Ruled(Box::new(rule.clone()))));
        self.held.clone().into_iter().chain(intended).collect()
    }

    /// Tells whether that has been written.
    pub(super) fn is_kept(&self) -> bool {
        self.to_keep() == self.kept
    }

    /// Notes what has been written.
    pub(super) fn keep(&mut self, kept: BTreeMap<NetnsId, Held>) {
        self.kept = kept;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shaping::{NetnsRef, RuleDocument, fake};

    fn rule(name: &str) -> Rule {
        let document = json!({ "name": name, "select": "all", "set": { "loss": "1%" } });
        let document: RuleDocument = serde_json::from_value(document).expect("a document");
        document.try_into().expect("a rule")
    }

    fn ruled(name: &str) -> Held {
        Held::Ruled(Box::new(rule(name)))
    }

    fn id(inode: u64) -> NetnsId {
        NetnsId { dev: 4, inode }
    }

    fn container(inode: u64) -> Container {
        let netns = NetnsRef { id: id(inode), path: format!("/proc/{inode}/ns/net").into() };
        Container { netns: Some(netns), ..fake::web().container }
    }

    fn exempt(name: &str, inode: u64) -> Held {
        let container = container(inode);
        let netns = container.netns.as_ref().expect("it has one");
        Held::Exempt(Exemption::new(rule(name).name, &container, netns))
    }

    #[test]
    fn the_next_daemon_knows_whose_shaping_it_finds_whenever_this_one_ends() {
        let [fresh, older, spared] = [1, 2, 3];
        let before = [(id(older), ruled("a")), (id(spared), exempt("a", spared))];
        let mut memory = Memory::of(before.clone().into());
        assert!(memory.is_kept());
        memory.intend([fresh, older, spared].map(|inode| (id(inode), rule("b"))).into());
        assert!(!memory.is_kept());
        let mut expected =
            BTreeMap::from([(id(fresh), ruled("b")), (id(older), ruled("a")), (id(spared), ruled("b"))]);
        assert_eq!(memory.to_keep(), expected);
        assert_eq!(memory.held, before.into(), "nothing is done yet");
        memory.keep(memory.to_keep());
        assert!(memory.is_kept());
        memory.by_hand(&container(fresh), false);
        expected.remove(&id(fresh));
        assert_eq!(memory.to_keep(), expected);
        assert!(!memory.is_kept());
    }

    #[test]
    fn only_a_rule_that_was_in_force_is_one_to_be_exempt_from() {
        let (web, mut memory) = (container(1), Memory::default());
        memory.by_hand(&web, true);
        assert_eq!(memory.held, [].into());
        memory.held.insert(id(1), ruled("a"));
        for _ in 0..2 {
            memory.by_hand(&web, true);
            assert_eq!(memory.held, [(id(1), exempt("a", 1))].into());
        }
        memory.by_hand(&web, false);
        assert_eq!(memory.held, [].into());
    }

    #[test]
    fn what_is_gone_is_forgotten_once_every_runtime_has_told() {
        let held = [(id(1), ruled("a")), (id(2), exempt("a", 2)), (id(3), ruled("a"))];
        let mut memory = Memory::of(held.clone().into());
        let third = container(3);
        let present = [(id(3), vec![&third])].into();
        memory.compare(&present, false);
        assert_eq!(memory.held, held.clone().into());
        memory.compare(&present, true);
        assert_eq!(memory.held, held[2..].iter().cloned().collect());
    }
}
