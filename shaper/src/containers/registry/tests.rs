use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::shaping::{ContainerState, NetnsRef, Pod};

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
    Update::One { source: container.runtime.into(), container: container.into() }
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
        assert!(matches!(&found, Err(ShapingError::NotFound { name, .. }) if name == absent), "{found:?}");
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
    let affected = registry.apply(Update::All { source: RuntimeName::Docker.into(), containers: vec![] });
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
    registry.apply(Update::One { source: RuntimeName::Docker.into(), container: podman.clone().into() });
    assert_eq!(registry.iter().collect::<Vec<_>>(), [&other, &podman]);
    assert_eq!(registry.sharing(netns(1)).collect::<Vec<_>>(), [&podman]);
    assert_eq!(resolved(&registry, "netns-f958"), Ok("a1".into()), "it is the same");
    let gone = registry.apply(Update::All { source: RuntimeName::Docker.into(), containers: vec![] });
    assert_eq!(gone.gone, [podman], "whoever told of it says that it has gone");
    assert_eq!(registry.iter().collect::<Vec<_>>(), [&other, &named]);
}

#[test]
fn a_pod_is_shown_until_a_container_of_it_runs_and_found_by_its_name_in_either_case() {
    let pod = Pod { namespace: Some("shop".to_owned()), name: "db-0".to_owned(), uid: None };
    let of_pod = |id, name, inode| Container {
        pod: Some(pod.clone()),
        ..container(RuntimeName::Containerd, id, name, inode)
    };
    let sandbox = of_pod("5a", "shop/db-0", Some(1));
    let main = of_pod("c1", "shop/db-0/main", Some(1));
    let named = container(RuntimeName::Netns, "cni-1", "cni-1", Some(1));
    let process = container(RuntimeName::Process, "process-1", "db.service", Some(1));
    let mut registry = registry([process, named.clone()]);
    assert_eq!(registry.iter().collect::<Vec<_>>(), [&named]);
    registry.apply(one(sandbox.clone()));
    assert_eq!(registry.iter().collect::<Vec<_>>(), [&sandbox]);
    registry.apply(one(main.clone()));
    assert_eq!(registry.iter().collect::<Vec<_>>(), [&main]);
    assert_eq!(resolved(&registry, "shop/db-0"), Ok("c1".into()), "it is shown in its place");
    assert_eq!(resolved(&registry, "5a"), Ok("c1".into()));
    let stopped = Container { state: ContainerState::Stopped, netns: None, ..main };
    assert_eq!(registry.apply(one(stopped.clone())).netns, [netns(1)].into());
    assert_eq!(registry.iter().collect::<Vec<_>>(), [&sandbox, &stopped]);
    assert_eq!(registry.sharing(netns(1)).collect::<Vec<_>>(), [&sandbox], "its shaping stays");
}

#[test]
fn what_is_heard_at_two_sockets_is_shown_once_and_what_is_gone_with_one_is_gone() {
    let (system, user) = ("/run/podman/podman.sock", "/run/user/1000/podman/podman.sock");
    let at = |socket: &str| Source::at(RuntimeName::Podman, Path::new(socket));
    let podman = |id: &str, inode| container(RuntimeName::Podman, id, "web", Some(inode));
    let sockets = |sockets: &[&str]| Update::Sockets {
        runtime: RuntimeName::Podman,
        sockets: sockets.iter().map(|&socket| Path::new(socket).into()).collect(),
    };
    let mut registry = Registry::awaiting([RuntimeName::Podman]);
    assert!(!registry.has_all());
    registry.apply(sockets(&[]));
    assert!(registry.has_all(), "it is not there");
    registry.apply(sockets(&[system, user]));
    assert!(!registry.has_all(), "it may only be slow");
    registry.apply(Update::All { source: at(system), containers: vec![podman("a1", 1)] });
    assert!(!registry.has_all());
    registry.apply(Update::All { source: at(user), containers: vec![podman("b2", 2)] });
    assert!(registry.has_all());
    registry.apply(Update::All { source: RuntimeName::Docker.into(), containers: vec![podman("a1", 1)] });
    let ids = |registry: &Registry| registry.iter().map(|c| c.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&registry), ["a1", "b2"]);
    let status = |registry: &Registry| {
        registry.runtimes().into_iter().filter_map(|status| status.socket).collect::<Vec<_>>()
    };
    assert_eq!(status(&registry), [system, user]);
    let gone = registry.apply(sockets(&[system]));
    assert_eq!(gone, Affected { netns: [netns(2)].into(), gone: vec![podman("b2", 2)] });
    assert_eq!((ids(&registry), status(&registry)), (vec!["a1".to_owned()], vec![system.to_owned()]));
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
    let all = |runtime: RuntimeName, containers| Update::All { source: runtime.into(), containers };
    registry.apply(all(RuntimeName::Docker, vec![docker("a1", "web", 1)]));
    assert!(!registry.has_all());
    registry.apply(all(RuntimeName::Netns, vec![]));
    assert!(registry.has_all());
    registry.apply(Update::Lost { source: RuntimeName::Docker.into(), problem: "it is gone".to_owned() });
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
        any.prop_map(|c| Update::Gone { source: c.runtime.into(), id: c.id }),
        (runtime, prop::collection::btree_map("[a-c]{1,2}", prop::option::of(0..4u64), 0..4)).prop_map(
            |(runtime, all)| Update::All {
                source: runtime.into(),
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
