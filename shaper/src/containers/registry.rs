//! Remembers which containers there are, and finds the one that a person means.

use std::collections::{BTreeMap, BTreeSet};

use super::Update;
use crate::shaping::{Container, ContainerId, NetnsId, RuntimeName, RuntimeStatus, ShapingError};

/// All containers that are known, of all runtimes.
///
/// A network namespace of a container may have a name, too, as Podman's have. That name is left out as long as a runtime
/// that knows more tells of the container.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By who tells of it, and its id.
    containers: BTreeMap<(RuntimeName, ContainerId), Container>,
    /// The runtimes that tell.
    runtimes: BTreeMap<RuntimeName, Teller>,
}

/// A runtime, as it is heard.
#[derive(Debug, Default)]
struct Teller {
    /// True once it has told of all its containers.
    has_listed: bool,
    problem: Option<String>,
}

/// The longest text, in bytes, that is compared with names.
const LONGEST_COMPARED: usize = 64;

/// The effect of an update.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// Each network namespace that a container of the update has, or had until now. One that nobody has any more is
    /// among them: [`Registry::sharing`] tells.
    pub(crate) netns: BTreeSet<NetnsId>,
    /// The containers that are no longer known.
    pub(crate) gone: Vec<Container>,
}

impl Registry {
    /// A registry that knows of nothing yet, and waits to hear from `runtimes`.
    pub(crate) fn awaiting(runtimes: impl IntoIterator<Item = RuntimeName>) -> Self {
        let silent = |runtime| {
            (runtime, Teller { problem: Some("it has not answered yet".to_owned()), ..Default::default() })
        };
        Self { runtimes: runtimes.into_iter().map(silent).collect(), ..Self::default() }
    }

    /// Takes in what a runtime told.
    pub(crate) fn apply(&mut self, update: Update) -> Affected {
        let mut affected = Affected::default();
        match update {
            Update::All { runtime, containers } => {
                self.runtimes.insert(runtime, Teller { has_listed: true, problem: None });
                let told: BTreeSet<_> = containers.iter().map(|c| c.id.clone()).collect();
                let silent = self.containers.keys().filter(|(of, id)| *of == runtime && !told.contains(id));
                for key in silent.cloned().collect::<Vec<_>>() {
                    self.remove(&key, &mut affected);
                }
                for container in containers {
                    self.insert(runtime, container, &mut affected);
                }
            }
            Update::One { runtime, container } => self.insert(runtime, container, &mut affected),
            Update::Gone { runtime, id } => self.remove(&(runtime, id), &mut affected),
            Update::Lost { runtime, problem } => {
                self.runtimes.entry(runtime).or_default().problem = Some(problem);
            }
        }
        affected
    }

    /// Returns true once all runtimes have told of all their containers.
    pub(crate) fn has_all(&self) -> bool {
        self.runtimes.values().all(|teller| teller.has_listed)
    }

    /// The runtimes that tell, by name.
    pub(crate) fn runtimes(&self) -> Vec<RuntimeStatus> {
        let containers = |runtime| self.containers.keys().filter(|(of, _)| *of == runtime).count();
        let status = |(&runtime, teller): (&RuntimeName, &Teller)| RuntimeStatus {
            runtime,
            containers: containers(runtime),
            problem: teller.problem.clone(),
        };
        self.runtimes.iter().map(status).collect()
    }

    /// All containers, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Container> {
        self.those(|_| true).into_iter()
    }

    /// The containers that `are`, by name.
    fn those(&self, are: impl Fn(&Container) -> bool) -> Vec<&Container> {
        let better_known: BTreeSet<_> =
            self.containers.values().filter(|c| !is_only_a_name(c)).filter_map(netns_of).collect();
        let is_left_out = |c: &Container| {
            is_only_a_name(c) && netns_of(c).is_some_and(|netns| better_known.contains(&netns))
        };
        let mut found: Vec<_> = self.containers.values().filter(|c| are(c) && !is_left_out(c)).collect();
        found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        found
    }

    /// Finds the container with the id `name`, else with the name `name`, else the only one whose id begins so, else the
    /// one whose network namespace has the name `name`.
    ///
    /// # Errors
    ///
    /// [`ShapingError::NotFound`], or [`ShapingError::Ambiguous`] with all that it may be.
    pub(crate) fn resolve(&self, name: &str) -> Result<&Container, ShapingError> {
        let not_found = || ShapingError::NotFound { name: name.to_owned(), near: self.near(name) };
        if name.is_empty() {
            return Err(not_found());
        }
        let matches: [&dyn Fn(&Container) -> bool; 3] =
            [&|c| c.id.as_str() == name, &|c| c.name == name, &|c| c.id.as_str().starts_with(name)];
        let found = matches.iter().map(|is| self.those(is));
        match found.into_iter().find(|found| !found.is_empty()).as_deref() {
            None | Some([]) => self.whose_netns_is_named(name).ok_or_else(not_found),
            Some([one]) => Ok(one),
            Some(several) => Err(ShapingError::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(|c| candidate(c)).collect(),
            }),
        }
    }

    /// Up to three names that resemble `name`, the nearest first.
    fn near(&self, name: &str) -> Vec<String> {
        // Nothing that is longer resembles a name, and comparing takes time.
        if name.len() > LONGEST_COMPARED {
            return Vec::new();
        }
        let distance = |known: &str| strsim::damerau_levenshtein(name, known);
        let known = self.iter().map(|container| (distance(&container.name), container.name.as_str()));
        let mut near: Vec<_> =
            known.filter(|(distance, known)| *distance <= known.chars().count().div_ceil(3)).collect();
        near.sort_unstable();
        near.dedup();
        near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
    }

    /// The containers that have this network namespace, by name.
    pub(crate) fn sharing(&self, netns: NetnsId) -> impl Iterator<Item = &Container> {
        self.those(|c| netns_of(c) == Some(netns)).into_iter()
    }

    /// Tells whether a container has processes, but no network namespace that can be seen. Any that is shaped may be its.
    pub(crate) fn has_unseen(&self) -> bool {
        self.containers.values().any(Container::is_unseen)
    }

    fn whose_netns_is_named(&self, name: &str) -> Option<&Container> {
        let named = self.containers.get(&(RuntimeName::Netns, ContainerId::new(name)?))?;
        self.sharing(netns_of(named)?).next()
    }

    fn insert(&mut self, runtime: RuntimeName, container: Container, affected: &mut Affected) {
        affected.netns.extend(netns_of(&container));
        let old = self.containers.insert((runtime, container.id.clone()), container);
        affected.netns.extend(old.as_ref().and_then(netns_of));
    }

    fn remove(&mut self, key: &(RuntimeName, ContainerId), affected: &mut Affected) {
        let Some(old) = self.containers.remove(key) else { return };
        affected.netns.extend(netns_of(&old));
        affected.gone.push(old);
    }
}

fn is_only_a_name(container: &Container) -> bool {
    container.runtime == RuntimeName::Netns
}

fn netns_of(container: &Container) -> Option<NetnsId> {
    container.netns.as_ref().map(|netns| netns.id)
}

/// Returns the text that tells a container from others of the same name: an id that is a name is not cut short.
fn candidate(container: &Container) -> String {
    if container.id.as_str() == container.name {
        container.name.clone()
    } else {
        format!("{} ({})", container.id.short(), container.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shaping::{ContainerState, NetnsRef};

    fn container(runtime: RuntimeName, id: &str, name: &str, inode: Option<u64>) -> Container {
        let id = ContainerId::new(id).expect("a good id");
        let path = |inode| format!("/proc/{inode}/ns/net").into();
        let netns = inode.map(|inode| NetnsRef { id: netns(inode), path: path(inode) });
        Container::new(id, name.into(), runtime, ContainerState::Running, netns)
    }

    fn docker(id: &str, name: &str, inode: u64) -> Container {
        container(RuntimeName::Docker, id, name, Some(inode))
    }

    fn netns(inode: u64) -> NetnsId {
        NetnsId { dev: 4, inode }
    }

    fn registry(containers: impl IntoIterator<Item = Container>) -> Registry {
        let mut registry = Registry::default();
        for container in containers {
            registry.apply(one(container));
        }
        registry
    }

    fn one(container: Container) -> Update {
        Update::One { runtime: container.runtime, container }
    }

    fn resolved(registry: &Registry, name: &str) -> Result<String, String> {
        registry.resolve(name).map(|c| c.id.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn an_id_wins_over_a_name_and_a_name_over_the_beginning_of_an_id() {
        let registry = registry([docker("ab", "first", 1), docker("abc", "ab", 2), docker("abcd", "a", 3)]);
        assert_eq!(resolved(&registry, "ab"), Ok("ab".into()));
        assert_eq!(resolved(&registry, "a"), Ok("abcd".into()));
        assert_eq!(resolved(&registry, "abcd"), Ok("abcd".into()));
        assert_eq!(resolved(&registry, "first"), Ok("ab".into()));
    }

    #[test]
    fn the_beginning_of_several_ids_names_them_all() {
        let registry = registry([docker("a1", "web", 1), docker("a2", "db", 2), docker("b1", "cache", 3)]);
        assert_eq!(
            resolved(&registry, "a"),
            Err("\"a\" may be any of a2 (db), a1 (web): write more of the id".into())
        );
        assert_eq!(resolved(&registry, "b"), Ok("b1".into()));
    }

    #[test]
    fn what_does_not_exist_is_not_found() {
        let registry = registry([docker("a1", "web", 1)]);
        for absent in ["", "x", "we", "a12"] {
            let found = registry.resolve(absent);
            assert!(
                matches!(&found, Err(ShapingError::NotFound { name, .. }) if name == absent),
                "{found:?}"
            );
        }
    }

    #[test]
    fn names_that_resemble_what_does_not_exist_are_told() {
        let registry = registry([docker("a1", "web", 1), docker("a2", "web-2", 2), docker("b1", "cache", 3)]);
        for (absent, said) in [
            ("wbe", "no container is called \"wbe\"; did you mean web?"),
            ("web-1", "no container is called \"web-1\"; did you mean web-2?"),
            ("Cache", "no container is called \"Cache\"; did you mean cache?"),
            (
                "nosuch",
                "no container is called \"nosuch\", and no id starts with it: `shaper list` shows all containers",
            ),
        ] {
            assert_eq!(resolved(&registry, absent), Err(said.to_owned()));
        }
    }

    #[test]
    fn a_container_that_loses_its_netns_affects_the_netns_it_had() {
        let mut registry = registry([docker("a1", "web", 1), docker("b1", "sidecar", 1)]);
        let stopped = container(RuntimeName::Docker, "a1", "web", None);
        assert_eq!(registry.apply(one(stopped)).netns, [netns(1)].into());
        assert_eq!(registry.sharing(netns(1)).map(|c| c.name.as_str()).collect::<Vec<_>>(), ["sidecar"]);
    }

    #[test]
    fn a_container_that_gets_another_netns_affects_both() {
        let mut registry = registry([docker("a1", "web", 1)]);
        let affected = registry.apply(one(docker("a1", "web", 2)));
        assert_eq!(affected, Affected { netns: [netns(1), netns(2)].into(), gone: vec![] });
    }

    #[test]
    fn a_container_of_one_runtime_outlives_the_list_of_another() {
        let named = container(RuntimeName::Netns, "blue", "blue", Some(2));
        let mut registry = registry([docker("a1", "web", 1), named.clone()]);
        let affected = registry.apply(Update::All { runtime: RuntimeName::Docker, containers: vec![] });
        assert_eq!(affected, Affected { netns: [netns(1)].into(), gone: vec![docker("a1", "web", 1)] });
        assert_eq!(registry.iter().collect::<Vec<_>>(), [&named]);
    }

    #[test]
    fn a_netns_of_a_container_that_a_runtime_tells_of_is_left_out() {
        let named = container(RuntimeName::Netns, "netns-f958", "netns-f958", Some(1));
        let other = container(RuntimeName::Netns, "blue", "blue", Some(2));
        let podman = Container { runtime: RuntimeName::Podman, ..docker("a1", "web", 1) };
        let mut registry = registry([named.clone(), other.clone()]);
        assert_eq!(registry.iter().collect::<Vec<_>>(), [&other, &named]);
        registry.apply(Update::One { runtime: RuntimeName::Docker, container: podman.clone() });
        assert_eq!(registry.iter().collect::<Vec<_>>(), [&other, &podman]);
        assert_eq!(registry.sharing(netns(1)).collect::<Vec<_>>(), [&podman]);
        assert_eq!(resolved(&registry, "netns-f958"), Ok("a1".into()), "it is the same");
        let gone = registry.apply(Update::All { runtime: RuntimeName::Docker, containers: vec![] });
        assert_eq!(gone.gone, [podman], "whoever told of it says that it has gone");
        assert_eq!(registry.iter().collect::<Vec<_>>(), [&other, &named]);
    }

    #[test]
    fn a_runtime_is_told_of_with_what_is_wrong_with_it() {
        let mut registry = Registry::awaiting([RuntimeName::Docker, RuntimeName::Netns]);
        let shown = |registry: &Registry| {
            let runtimes = registry.runtimes().into_iter();
            let text = |status: RuntimeStatus| {
                format!("{} {} {}", status.runtime, status.containers, status.problem.unwrap_or_default())
            };
            runtimes.map(text).collect::<Vec<_>>()
        };
        assert_eq!(shown(&registry), ["docker 0 it has not answered yet", "netns 0 it has not answered yet"]);
        let all = |runtime, containers| Update::All { runtime, containers };
        registry.apply(all(RuntimeName::Docker, vec![docker("a1", "web", 1)]));
        assert!(!registry.has_all());
        registry.apply(all(RuntimeName::Netns, vec![]));
        assert!(registry.has_all());
        registry.apply(Update::Lost { runtime: RuntimeName::Docker, problem: "it is gone".to_owned() });
        assert_eq!(shown(&registry), ["docker 1 it is gone", "netns 0 "]);
        assert!(registry.has_all(), "what was told stays true");
        registry.apply(all(RuntimeName::Docker, vec![]));
        assert_eq!(shown(&registry), ["docker 0 ", "netns 0 "]);
    }

    fn any_update() -> impl Strategy<Value = Update> {
        let runtime = prop_oneof![Just(RuntimeName::Docker), Just(RuntimeName::Netns)];
        let any = (runtime.clone(), "[a-c]{1,2}", "[a-c]", prop::option::of(0..4u64))
            .prop_map(|(runtime, id, name, inode)| container(runtime, &id, &name, inode));
        prop_oneof![
            any.clone().prop_map(one),
            any.prop_map(|c| Update::Gone { runtime: c.runtime, id: c.id }),
            (runtime, prop::collection::btree_map("[a-c]{1,2}", prop::option::of(0..4u64), 0..4)).prop_map(
                |(runtime, all)| Update::All {
                    runtime,
                    containers: all.iter().map(|(id, inode)| container(runtime, id, "n", *inode)).collect(),
                }
            ),
        ]
    }

    fn by_netns(registry: &Registry) -> BTreeMap<u64, Vec<String>> {
        let sharing = |inode| registry.sharing(netns(inode)).map(|c| format!("{c:?}")).collect();
        (0..4).map(|inode| (inode, sharing(inode))).collect()
    }

    proptest! {
        #[test]
        fn no_netns_changes_hands_unless_the_update_says_so(updates in prop::collection::vec(any_update(), 1..20)) {
            let mut registry = Registry::default();
            for update in updates {
                let before = by_netns(&registry);
                let affected = registry.apply(update);
                for (inode, sharing) in by_netns(&registry) {
                    prop_assert!(affected.netns.contains(&netns(inode)) || before[&inode] == sharing);
                }
            }
        }

        #[test]
        fn every_container_is_found_by_its_id_in_the_order_of_names(updates in prop::collection::vec(any_update(), 1..20)) {
            let mut registry = Registry::default();
            for update in updates {
                registry.apply(update);
            }
            prop_assert!(registry.iter().map(|c| &c.name).is_sorted());
            for container in registry.iter() {
                match registry.resolve(container.id.as_str()) {
                    Ok(found) => prop_assert_eq!(found, container),
                    Err(ShapingError::Ambiguous { candidates, .. }) => prop_assert_eq!(candidates.len(), 2),
                    Err(error) => prop_assert!(false, "{}", error),
                }
            }
        }
    }
}
