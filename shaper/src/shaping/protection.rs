//! Containers that are not shaped by accident: the daemon's own, those of its surroundings, and those that a person names.

use std::collections::BTreeSet;

use super::{Container, ContainerId, Selector};

/// The right to change containers that are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Insistence {
    /// None, as of a click on a button.
    None,
    /// That of a person who names a container by its id.
    #[default]
    ById,
    /// That of a person who asks for it in so many words.
    Force,
}

/// The reason why a container is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protected {
    /// The daemon is in it, or the runtime that the daemon asks.
    Own,
    /// It is one of Scope's.
    Scope,
    /// It is one of Kubernetes' own.
    Kubernetes,
    /// `shaper serve --protect` names it.
    Named,
}

/// The containers that are protected.
#[derive(Debug)]
pub(crate) struct Protection {
    own: BTreeSet<ContainerId>,
    others: Vec<(Selector, Protected)>,
}

/// The beginning of an id that is long enough to be no accident: as `docker ps` shows it.
const ID_LENGTH: usize = 12;

impl Protection {
    /// The protection of `own` containers, of the usual ones, and of those that a person `named`.
    ///
    /// # Panics
    ///
    /// Never: the selectors of the usual ones are good.
    pub(crate) fn new(own: BTreeSet<ContainerId>, named: impl IntoIterator<Item = Selector>) -> Self {
        let usual = [
            (
                "image:weaveworks/scope,image:weaveworks/scope-*,label:works.weave.role=system",
                Protected::Scope,
            ),
            ("ns:kube-system", Protected::Kubernetes),
        ];
        let usual = usual.map(|(text, reason)| (Selector::parse([text]).expect("a tested selector"), reason));
        let named = named.into_iter().map(|selector| (selector, Protected::Named));
        Self { own, others: usual.into_iter().chain(named).collect() }
    }

    /// The reason why a container is protected; none if it is not.
    pub(crate) fn of(&self, container: &Container) -> Option<Protected> {
        if self.own.contains(&container.id) {
            return Some(Protected::Own);
        }
        let of = self.others.iter().find(|(selector, _)| selector.fits_loosely(container));
        of.map(|(_, reason)| *reason)
    }
}

impl Insistence {
    /// Tells whether a person who called a container so may change it though it is protected.
    pub(crate) fn reaches(self, container: &Container, called: Option<&str>) -> bool {
        let id = container.id.as_str();
        // An id that is a name says nothing more than the name.
        let is_id = |name: &str| name.len() >= ID_LENGTH && id.starts_with(name) && id != container.name;
        match self {
            Self::None => false,
            Self::ById => called.is_some_and(is_id),
            Self::Force => true,
        }
    }
}

impl std::fmt::Display for Protected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own => "it runs the daemon or its container runtime",
            Self::Scope => "it is part of Scope",
            Self::Kubernetes => "it is in kube-system",
            Self::Named => "`shaper serve --protect` names it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{ContainerState, Pod, RuntimeName};

    fn container(id: &str, name: &str) -> Container {
        let id = ContainerId::new(id).expect("an id");
        Container::new(id, name.to_owned(), RuntimeName::Docker, ContainerState::Running, None)
    }

    #[test]
    fn the_daemons_surroundings_and_what_a_person_names_are_protected() {
        let own = ContainerId::new("0123456789abcdef").expect("an id");
        let named = Selector::parse(["db-*"]).expect("a selector");
        let protection = Protection::new([own].into(), [named]);
        let image = |image: &str| Container { image: Some(image.to_owned()), ..container("a1", "web") };
        let pod = Pod { namespace: Some("kube-system".to_owned()), name: "dns".to_owned(), uid: None };
        let labels = [("works.weave.role".to_owned(), "system".to_owned())].into();
        for (container, reason) in [
            (container("0123456789abcdef", "shaper"), Some(Protected::Own)),
            (container("0123456789abcdee", "shaper"), None),
            (image("weaveworks/scope:1.13.2"), Some(Protected::Scope)),
            (image("docker.io/weaveworks/scope-probe"), Some(Protected::Scope)),
            (image("weaveworks/scopes"), None),
            (Container { labels, ..container("a1", "probe") }, Some(Protected::Scope)),
            (Container { pod: Some(pod), ..container("a1", "dns") }, Some(Protected::Kubernetes)),
            (container("a1", "db-1"), Some(Protected::Named)),
            (container("a1", "db"), None),
        ] {
            assert_eq!(protection.of(&container), reason, "{container:?}");
        }
    }

    #[test]
    fn only_an_id_of_some_length_and_force_reach_what_is_protected() {
        let web = container("0123456789abcdef", "web");
        let named = container("shop-frontend", "shop-frontend");
        for (insistence, container, called, reaches) in [
            (Insistence::ById, &web, Some("0123456789abcdef"), true),
            (Insistence::ById, &web, Some("0123456789ab"), true),
            (Insistence::ById, &web, Some("0123456789a"), false),
            (Insistence::ById, &web, Some("web"), false),
            (Insistence::ById, &web, None, false),
            (Insistence::ById, &named, Some("shop-frontend"), false),
            (Insistence::None, &web, Some("0123456789abcdef"), false),
            (Insistence::Force, &web, None, true),
        ] {
            assert_eq!(insistence.reaches(container, called), reaches, "{insistence:?} {called:?}");
        }
    }
}
