//! Remembers which containers there are, and finds the one that a person means.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, Update};
use crate::shaping::{Container, ContainerId, Endpoint, NetnsId, RuntimeName, RuntimeStatus, ShapingError};

/// All containers that are known, of all runtimes.
///
/// Several entries may have one network namespace: a container, its pod, a name, as Podman's have, and its processes. Only
/// those that know most of it are shown.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By who tells of it, and its id.
    containers: BTreeMap<(Source, ContainerId), Container>,
    /// The sources that tell, as they are heard.
    sources: BTreeMap<Source, Heard>,
}

/// A source, as it is heard.
#[derive(Debug, Default)]
struct Heard {
    /// True once it has told of all its containers.
    has_listed: bool,
    problem: Option<String>,
    /// True if it only stands for others, at sockets.
    is_elsewhere: bool,
}

impl Heard {
    fn nothing_yet() -> Self {
        Self { problem: Some("it has not answered yet".to_owned()), ..Self::default() }
    }
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
        let silent = |runtime: RuntimeName| (runtime.into(), Heard::nothing_yet());
        Self { sources: runtimes.into_iter().map(silent).collect(), ..Self::default() }
    }

    /// Takes in what a runtime told.
    pub(crate) fn apply(&mut self, update: Update) -> Affected {
        let mut affected = Affected::default();
        match update {
            Update::All { source, containers } => {
                self.sources.insert(source.clone(), Heard { has_listed: true, ..Heard::default() });
                let told: BTreeSet<_> = containers.iter().map(|c| c.id.clone()).collect();
                self.remove_where(|(of, id)| *of == source && !told.contains(id), &mut affected);
                for container in containers {
                    self.insert(&source, container, &mut affected);
                }
            }
            Update::One { source, container } => self.insert(&source, *container, &mut affected),
            Update::Gone { source, id } => self.remove(&(source, id), &mut affected),
            Update::Lost { source, problem } => {
                self.sources.entry(source).or_default().problem = Some(problem);
            }
            Update::Sockets { runtime, sockets } => {
                let own: BTreeSet<_> =
                    sockets.into_iter().map(|socket| Source::at(runtime, socket)).collect();
                let is_over = |source: &Source| {
                    source.runtime == runtime && source.socket.is_some() && !own.contains(source)
                };
                self.remove_where(|(of, _)| is_over(of), &mut affected);
                self.sources.retain(|source, _| !is_over(source));
                let problem = own.is_empty().then(|| "none of its sockets is there".to_owned());
                let is_elsewhere = !own.is_empty();
                self.sources.insert(runtime.into(), Heard { has_listed: true, problem, is_elsewhere });
                for source in own {
                    self.sources.entry(source).or_insert_with(Heard::nothing_yet);
                }
            }
        }
        affected
    }

    /// Returns true once all runtimes have told of all their containers.
    pub(crate) fn has_all(&self) -> bool {
        self.sources.values().all(|heard| heard.has_listed)
    }

    /// The runtimes that tell, by name and socket.
    pub(crate) fn runtimes(&self) -> Vec<RuntimeStatus> {
        let status = |(source, heard): (&Source, &Heard)| RuntimeStatus {
            runtime: source.runtime,
            socket: source.socket.as_ref().map(|path| path.display().to_string()),
            containers: self.containers.keys().filter(|(of, _)| of == source).count(),
            problem: heard.problem.clone(),
        };
        self.sources.iter().filter(|(_, heard)| !heard.is_elsewhere).map(status).collect()
    }

    /// All containers, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Container> {
        self.those(|_| true).into_iter()
    }

    /// The containers that `are`, by name.
    fn those(&self, are: impl Fn(&Container) -> bool) -> Vec<&Container> {
        let mut best: BTreeMap<NetnsId, Knowledge> = BTreeMap::new();
        for (netns, knowledge) in self.containers.values().filter_map(|c| Some((netns_of(c)?, knowledge(c))))
        {
            best.entry(netns).and_modify(|best| *best = knowledge.min(*best)).or_insert(knowledge);
        }
        let is_left_out = |c: &Container| netns_of(c).is_some_and(|netns| best[&netns] < knowledge(c));
        let mut found: Vec<_> = self.containers.values().filter(|c| are(c) && !is_left_out(c)).collect();
        found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        // An engine may be heard at several sockets: Podman also at Docker's.
        let mut shown = BTreeSet::new();
        found.retain(|c| shown.insert((c.runtime, &c.id)));
        found
    }

    /// Finds the container with the id `name`, else with the name `name`, else the only one whose id begins so, else the
    /// pod, or the one whose network namespace has the name `name`.
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
            None | Some([]) => {
                self.of_the_pod(name).or_else(|| self.whose_netns_is_named(name)).ok_or_else(not_found)
            }
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

    /// The connections to networks of all that have this network namespace, shown or not, in order.
    pub(crate) fn networks(&self, netns: NetnsId) -> Vec<Endpoint> {
        let sharing = self.containers.values().filter(|container| netns_of(container) == Some(netns));
        let all: BTreeSet<_> = sharing.flat_map(|container| container.networks.iter().cloned()).collect();
        all.into_iter().collect()
    }

    /// Tells whether a container has processes, but no network namespace that can be seen. Any that is shaped may be its.
    pub(crate) fn has_unseen(&self) -> bool {
        self.containers.values().any(Container::is_unseen)
    }

    /// A container that is shown in the place of the pod with this name or id.
    fn of_the_pod(&self, name: &str) -> Option<&Container> {
        let is_meant = |c: &&Container| c.is_pod() && (c.name == name || c.id.as_str() == name);
        let pod = self.containers.values().find(is_meant)?;
        self.sharing(netns_of(pod)?).next()
    }

    fn whose_netns_is_named(&self, name: &str) -> Option<&Container> {
        let named = self.containers.get(&(RuntimeName::Netns.into(), ContainerId::new(name)?))?;
        self.sharing(netns_of(named)?).next()
    }

    fn insert(&mut self, source: &Source, container: Container, affected: &mut Affected) {
        affected.netns.extend(netns_of(&container));
        let old = self.containers.insert((source.clone(), container.id.clone()), container);
        affected.netns.extend(old.as_ref().and_then(netns_of));
    }

    fn remove(&mut self, key: &(Source, ContainerId), affected: &mut Affected) {
        let Some(old) = self.containers.remove(key) else { return };
        affected.netns.extend(netns_of(&old));
        affected.gone.push(old);
    }

    fn remove_where(&mut self, is: impl Fn(&(Source, ContainerId)) -> bool, affected: &mut Affected) {
        for key in self.containers.keys().filter(|key| is(key)).cloned().collect::<Vec<_>>() {
            self.remove(&key, affected);
        }
    }
}

/// The extent of what is known of an entry beside its network namespace, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Knowledge {
    Container,
    /// A pod without the names of its containers.
    Pod,
    /// A name.
    Name,
    /// Processes.
    Processes,
}

fn knowledge(container: &Container) -> Knowledge {
    match container.runtime {
        RuntimeName::Netns => Knowledge::Name,
        RuntimeName::Process => Knowledge::Processes,
        _ if container.is_pod() => Knowledge::Pod,
        _ => Knowledge::Container,
    }
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
mod tests;
