//! The containers that a selection chooses among all that there are.

use std::collections::BTreeMap;

use super::{
    Completion, Container, ContainerState, Insistence, Meant, NetnsId, Order, Protected, Protection, Refusal,
    Selection, ShapingError, UNSEEN, rank,
};

/// A container that was chosen, for all that share its network namespace and so its shaping.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// The container.
    pub(crate) container: Container,
    /// The names of the others of its network namespace.
    pub(crate) shared_with: Vec<String>,
    /// Planned, unless it is left out or refused.
    pub(crate) end: Completion,
    /// The place among those that may be chosen.
    rank: u64,
}

/// All containers, and the one that a name means.
pub(crate) struct Known<'a> {
    /// All containers, by name.
    pub(crate) all: &'a [Container],
    /// Finds the container with a name.
    pub(crate) resolve: &'a dyn Fn(&str) -> Result<Container, ShapingError>,
}

impl Selection {
    /// The containers that fit, by name.
    ///
    /// # Errors
    ///
    /// When a name means none or several, or none fits.
    pub(crate) fn list<'a>(&self, known: &Known<'a>) -> Result<Vec<&'a Container>, ShapingError> {
        let (mut selected, _) = self.select(known)?;
        if let Some(count) = self.count {
            count.keep(&mut selected, |container| rank(&container.id));
        }
        Ok(selected)
    }

    /// The containers to change, by name, one for each network namespace. A container that is not running, or protected,
    /// is left out, unless it was named: then it is refused.
    ///
    /// # Errors
    ///
    /// When a name means none or several, when there is none to change, or more than may be.
    pub(crate) fn choose(
        &self,
        known: &Known<'_>,
        order: &Order,
        protection: &Protection,
    ) -> Result<Vec<Chosen>, ShapingError> {
        let (selected, meant) = self.select(known)?;
        let mut chosen: Vec<Chosen> = Vec::new();
        for group in groups(&selected) {
            chosen.push(self.judge(&group, known.all, order, protection, &meant));
        }
        if let Some(count) = self.count {
            chosen.retain(|one| !matches!(one.end, Completion::Skipped(_)));
            count.keep(&mut chosen, |one| one.rank);
        }
        let planned = chosen.iter().filter(|one| one.end == Completion::Planned).count();
        if let Some(most) = self.max_containers.filter(|most| planned > *most) {
            return Err(ShapingError::TooManyContainers { count: planned, most });
        }
        let is_left_out = |one: &&Chosen| matches!(one.end, Completion::Skipped(_));
        match chosen.iter().find(is_left_out) {
            Some(first) if !self.allow_none && chosen.iter().all(|one| is_left_out(&one)) => {
                let Completion::Skipped(reason) = &first.end else { return Ok(chosen) };
                let left_out = Some(format!("{}: {reason}", first.container.name));
                Err(ShapingError::NoneFits { selector: self.selector.to_string(), left_out })
            }
            _ => Ok(chosen),
        }
    }

    /// The containers that fit, and those that its names mean.
    fn select<'a>(&self, known: &Known<'a>) -> Result<(Vec<&'a Container>, Meant), ShapingError> {
        // Names came before selectors, and may look like one.
        if let [text] = self.selector.texts()
            && known.all.iter().any(|container| container.name == *text || container.id.as_str() == text)
        {
            let key = (known.resolve)(text)?.key();
            let container = known.all.iter().filter(|container| container.key() == key).collect();
            return Ok((container, [(text.clone(), key)].into()));
        }
        let meant = self.selector.meant(self.allow_none, known.resolve)?;
        let fits = |container: &&Container| self.selector.fits(container, &meant);
        let selected: Vec<_> = known.all.iter().filter(fits).collect();
        if selected.is_empty() && !self.allow_none {
            return Err(ShapingError::NoneFits { selector: self.selector.to_string(), left_out: None });
        }
        Ok((selected, meant))
    }

    /// Judges containers that share a network namespace, of which these were selected.
    fn judge(
        &self,
        group: &[&Container],
        all: &[Container],
        order: &Order,
        protection: &Protection,
        meant: &Meant,
    ) -> Chosen {
        let running = group.iter().find(|one| one.state == ContainerState::Running);
        let container = *running.unwrap_or(&group[0]);
        let netns = netns_of(container);
        let others: Vec<_> = all.iter().filter(|one| netns.is_some() && netns_of(one) == netns).collect();
        let obstacle = match order {
            Order::Clear => None,
            Order::Set(_) if container.state != ContainerState::Running => {
                Some(Obstacle::State(container.state))
            }
            Order::Set(_) if container.is_unseen() => Some(Obstacle::Unseen),
            Order::Set(_) if self.insists_on(group, meant) => None,
            Order::Set(_) => {
                others.iter().chain([&container]).find_map(|one| protection.of(one)).map(Obstacle::Protected)
            }
        };
        let end = match obstacle {
            None => Completion::Planned,
            Some(obstacle) if self.names_one_of(group, meant) => {
                Completion::Refused(obstacle.refusal(&container.name).beside(&container.name))
            }
            Some(obstacle) => Completion::Skipped(obstacle.to_string()),
        };
        let others = others.iter().filter(|other| other.key() != container.key());
        Chosen {
            shared_with: others.map(|other| other.name.clone()).collect(),
            rank: group.iter().map(|one| rank(&one.id)).min().unwrap_or_default(),
            container: container.clone(),
            end,
        }
    }

    /// Tells whether one of some containers was named in such a way that it may be changed though it is protected.
    fn insists_on(&self, group: &[&Container], meant: &Meant) -> bool {
        let insistence = if self.force { Insistence::Force } else { Insistence::ById };
        group.iter().any(|one| insistence.reaches(one, called(one, meant)))
    }

    /// Tells whether one of some containers was named, and not only fits.
    fn names_one_of(&self, group: &[&Container], meant: &Meant) -> bool {
        let is_asked = |name: &str| {
            self.selector.asked_names().any(|asked| asked == name)
                || self.selector.texts() == [name.to_owned()]
        };
        group.iter().any(|one| called(one, meant).is_some_and(is_asked))
    }
}

/// The name that a container was called by, if it was.
fn called<'a>(container: &Container, meant: &'a Meant) -> Option<&'a str> {
    let key = container.key();
    meant.iter().find(|(_, meant)| **meant == key).map(|(name, _)| name.as_str())
}

/// The reason why a container is not shaped.
enum Obstacle {
    State(ContainerState),
    Unseen,
    Protected(Protected),
}

impl Obstacle {
    fn refusal(self, name: &str) -> ShapingError {
        let name = name.to_owned();
        match self {
            Self::State(state) => ShapingError::NotRunning { name, state },
            Self::Unseen => Refusal::Unseen { container: name }.into(),
            Self::Protected(reason) => Refusal::Protected { container: name, reason }.into(),
        }
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::State(state) => write!(f, "it is {state}"),
            Self::Unseen => f.write_str(UNSEEN),
            Self::Protected(reason) => write!(f, "protected: {reason}"),
        }
    }
}

/// Containers by network namespace, in the order of the first ones.
fn groups<'a>(containers: &[&'a Container]) -> Vec<Vec<&'a Container>> {
    let mut groups: Vec<Vec<&Container>> = Vec::new();
    let mut places = BTreeMap::new();
    for container in containers {
        let place = netns_of(container).map(|netns| *places.entry(netns).or_insert(groups.len()));
        match place.and_then(|place| groups.get_mut(place)) {
            Some(group) => group.push(container),
            None => groups.push(vec![container]),
        }
    }
    groups
}

fn netns_of(container: &Container) -> Option<NetnsId> {
    container.netns.as_ref().map(|netns| netns.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{ContainerId, NetnsRef, Request, RuntimeName, Selector};

    fn container(name: &str, state: ContainerState, inode: Option<u64>) -> Container {
        let id = ContainerId::new(format!("{name}-0123456789ab")).expect("an id");
        let netns =
            inode.map(|inode| NetnsRef { id: NetnsId { dev: 4, inode }, path: "/proc/1/ns/net".into() });
        Container::new(id, name.to_owned(), RuntimeName::Docker, state, netns)
    }

    /// Four that run, of which two share a namespace, one that does not, and one that cannot be seen.
    fn all() -> Vec<Container> {
        use ContainerState::{Paused, Running};
        vec![
            container("db", Running, Some(1)),
            container("guard", Running, Some(2)),
            container("old", Paused, Some(3)),
            container("sidecar", Running, Some(2)),
            container("unseen", Running, None),
            container("web", Running, Some(4)),
        ]
    }

    fn chosen(selection: &Selection, order: &Order) -> Result<Vec<String>, ShapingError> {
        let all = all();
        let resolve = |name: &str| {
            let is = |one: &&Container| one.name == name || one.id.as_str().starts_with(name);
            let found = all.iter().find(is).cloned();
            found.ok_or_else(|| ShapingError::NotFound { name: name.to_owned(), near: Vec::new() })
        };
        let protection = Protection::new([].into(), [Selector::parse(["guard"]).expect("a selector")]);
        let chosen = selection.choose(&Known { all: &all, resolve: &resolve }, order, &protection)?;
        let end = |end: &Completion| match end {
            Completion::Planned => "",
            Completion::Skipped(_) => " skipped",
            Completion::Refused(_) => " refused",
            other => panic!("not at this time: {other:?}"),
        };
        let text = |one: &Chosen| {
            let names: Vec<_> =
                [&one.container.name].into_iter().chain(&one.shared_with).map(String::as_str).collect();
            format!("{}{}", names.join("="), end(&one.end))
        };
        Ok(chosen.iter().map(text).collect())
    }

    fn set() -> Order {
        Order::Set(Box::new(Request::of_loss(None)))
    }

    fn of(texts: &[&str]) -> Selection {
        Selection::of(Selector::parse(texts.iter().copied()).expect("a selector"))
    }

    #[test]
    fn what_fits_is_left_out_and_what_is_named_is_refused() {
        for (texts, names) in [
            (&["all"][..], &["db", "guard=sidecar skipped", "old skipped", "unseen skipped", "web"][..]),
            (&["*,old"], &["db", "guard=sidecar skipped", "old refused", "unseen skipped", "web"]),
            (&["web", "sidecar"], &["sidecar=guard refused", "web"]),
            (&["web", "sidecar-0123456789ab"], &["sidecar=guard", "web"]),
            (&["web", "sidecar-0"], &["sidecar=guard refused", "web"]),
            (&["web,all+!guard+!old"], &["db", "sidecar=guard skipped", "unseen skipped", "web"]),
            (&["web", "unseen"], &["unseen refused", "web"]),
        ] {
            assert_eq!(chosen(&of(texts), &set()).expect("a choice"), names, "{texts:?}");
        }
        let forced = Selection { force: true, ..of(&["all"]) };
        let names = ["db", "guard=sidecar", "old skipped", "unseen skipped", "web"];
        assert_eq!(chosen(&forced, &set()).expect("a choice"), names);
        let cleared = ["db", "guard=sidecar", "old", "unseen", "web"];
        assert_eq!(chosen(&of(&["all"]), &Order::Clear).expect("a choice"), cleared);
    }

    #[test]
    fn a_name_that_looks_like_a_selector_is_one_only_where_nothing_has_it() {
        let all = vec![container("a+b", ContainerState::Running, Some(1))];
        let known = Known { all: &all, resolve: &|_| Ok(all[0].clone()) };
        assert_eq!(of(&["a+b"]).list(&known).expect("it is there"), [&all[0]]);
    }

    #[test]
    fn choices_of_nobody_and_of_too_many_are_errors() {
        let error = |selection: &Selection| chosen(selection, &set()).expect_err("an error").to_string();
        assert_eq!(error(&of(&["x*"])), "no container fits \"x*\": `shaper list` shows all containers");
        assert_eq!(error(&of(&["o*"])), "no container fits \"o*\" and can be changed: old: it is paused");
        let most = Selection { max_containers: Some(1), ..of(&["all"]) };
        assert_eq!(error(&most), "2 containers would be changed, and at most 1 may be (--max-containers)");
        let allowed = Selection { allow_none: true, ..of(&["x*", "nobody"]) };
        assert_eq!(chosen(&allowed, &set()).expect("nothing"), [""; 0]);
        let two = Selection { max_containers: Some(2), ..of(&["all"]) };
        assert_eq!(chosen(&two, &set()).expect("no more").len(), 5);
    }

    #[test]
    fn a_count_is_of_those_that_can_be_changed() {
        let count = |text: &str| Selection { count: Some(text.parse().expect("a count")), ..of(&["all"]) };
        assert_eq!(chosen(&count("100%"), &set()).expect("a choice"), ["db", "web"]);
        assert_eq!(chosen(&count("1"), &set()).expect("a choice").len(), 1);
    }
}
