//! Finds the container that is meant, and shows it.

use super::Daemon;
use crate::shaping::{
    Container, ContainerId, ContainerState, ContainerView, Direction, History, InterfaceView, NetnsId,
    NetnsRef, Refusal, RuntimeName, ShapingError, Tag, UNSEEN,
};

impl Daemon {
    pub(super) fn resolve(&self, name: &str) -> Result<Container, ShapingError> {
        let known = self.registry.lock().resolve(name).cloned();
        match known {
            Err(ShapingError::NotFound { .. }) => {
                let mut strangers = self.strangers().into_iter();
                strangers.find(|stranger| stranger.name == name).map_or(known, Ok)
            }
            known => known,
        }
    }

    /// Returns a container for each namespace with pins that could not be taken over and that no runtime tells of.
    pub(super) fn strangers(&self) -> Vec<Container> {
        let unknown = self.datapath.unknown();
        let registry = self.registry.lock();
        unknown
            .into_iter()
            .filter(|netns| registry.sharing(*netns).next().is_none())
            .filter_map(stranger)
            .collect()
    }

    /// Returns the number of network namespaces with shaping that no listed container has.
    pub(super) fn orphaned(&self) -> usize {
        let mut shaped = self.datapath.unknown();
        shaped.extend(self.datapath.shaped());
        let registry = self.registry.lock();
        for netns in registry.iter().filter_map(|container| container.netns.as_ref()) {
            shaped.remove(&netns.id);
        }
        shaped.len()
    }

    /// Refuses a change of a container whose shaping is no longer the one with this tag.
    pub(super) fn check_tag(&self, container: &Container, tag: Option<Tag>) -> Result<(), ShapingError> {
        match tag {
            Some(tag) if tag != self.view(container.clone()).tag() => {
                Err(ShapingError::Outdated { name: container.name.clone() })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn view(&self, container: Container) -> ContainerView {
        let netns = container.netns.as_ref().map(|netns| netns.id);
        let rule = netns.and_then(|netns| self.ruling.rule_in(netns));
        let rule = rule.map(|rule| rule.to_string());
        let samples = netns.and_then(|netns| self.histories.lock().get(&netns).map(History::samples));
        let interfaces = match netns {
            Some(netns) => self.datapath.view(netns),
            None if container.is_unseen() => {
                vec![InterfaceView::unknown("?".to_owned(), Direction::Egress, UNSEEN)]
            }
            None => Vec::new(),
        };
        ContainerView { interfaces, container, rule, samples: samples.unwrap_or_default() }
    }
}

fn stranger(id: NetnsId) -> Option<Container> {
    let name = format!("netns-{}", id.inode);
    let netns = Some(NetnsRef { id, path: "/proc".into() });
    let (runtime, state) = (RuntimeName::Netns, ContainerState::Running);
    Some(Container::new(ContainerId::new(name.as_str())?, name, runtime, state, netns))
}

/// Returns the namespace in which a container can be shaped.
pub(super) fn netns_of(container: &Container) -> Result<NetnsRef, ShapingError> {
    if container.state != ContainerState::Running {
        return Err(ShapingError::NotRunning { name: container.name.clone(), state: container.state });
    }
    container.netns.clone().ok_or_else(|| unseen(container))
}

pub(super) fn unseen(container: &Container) -> ShapingError {
    Refusal::Unseen { container: container.name.clone() }.into()
}
