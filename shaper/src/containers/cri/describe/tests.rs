use std::collections::HashMap;

use super::*;
use crate::shaping::NetnsId;

fn netns() -> NetnsRef {
    NetnsRef { id: NetnsId { dev: 4, inode: 7 }, path: "/run/netns/cni-1".into() }
}

fn sandbox(id: &str, name: &str, state: api::PodState) -> api::PodSandbox {
    let metadata =
        api::PodMetadata { name: name.to_owned(), uid: "u-1".to_owned(), namespace: "shop".to_owned() };
    let labels = HashMap::from([("app".to_owned(), "db".to_owned()), ("part".to_owned(), "pod".to_owned())]);
    api::PodSandbox {
        id: id.to_owned(),
        metadata: Some(metadata),
        state: state.into(),
        labels,
        annotations: HashMap::new(),
    }
}

fn container(id: &str, pod: &str, name: &str, state: api::ContainerState, created_at: i64) -> api::Container {
    let image = api::Image { image: "sha256:beef".to_owned(), user_specified_image: String::new() };
    api::Container {
        id: id.to_owned(),
        pod_sandbox_id: pod.to_owned(),
        metadata: Some(api::ContainerMetadata { name: name.to_owned() }),
        image: Some(image),
        state: state.into(),
        created_at,
        labels: HashMap::from([("part".to_owned(), "container".to_owned())]),
    }
}

fn asked(pods: Vec<api::PodSandbox>, containers: Vec<api::Container>) -> Asked {
    let netns = pods.iter().map(|pod| (pod.id.clone(), netns())).collect();
    let images = BTreeMap::from([("c1".to_owned(), "postgres:17".to_owned())]);
    Asked { pods, containers, netns, images }
}

fn listed(asked: &Asked) -> Vec<(String, String, ContainerState, bool)> {
    let (all, _) = all(asked, RuntimeName::Containerd);
    let shown = |one: Container| (one.id.to_string(), one.name, one.state, one.netns.is_some());
    all.into_values().map(shown).collect()
}

#[test]
fn a_container_has_the_name_the_labels_and_the_network_of_its_pod() {
    use api::{ContainerState::Running, PodState::Ready};
    let asked =
        asked(vec![sandbox("s1", "db-0", Ready)], vec![container("c1", "s1", "postgres", Running, 1)]);
    let (all, malformed) = all(&asked, RuntimeName::CriO);
    assert!(malformed.is_empty());
    let one = &all[&ContainerId::new("c1").expect("an id")];
    assert_eq!((&*one.name, one.runtime), ("shop/db-0/postgres", RuntimeName::CriO));
    assert_eq!((one.image.as_deref(), one.netns.clone()), (Some("postgres:17"), Some(netns())));
    let labels: Vec<_> = one.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(labels, [("app", "db"), ("part", "container")]);
    let pod = &all[&ContainerId::new("s1").expect("an id")];
    assert_eq!((&*pod.name, pod.is_pod(), one.is_pod()), ("shop/db-0", true, false));
    assert_eq!(pod.pod, one.pod);
    assert_eq!(pod.pod.as_ref().and_then(|pod| pod.uid.as_deref()), Some("u-1"));
}

#[test]
fn a_container_that_was_started_anew_is_listed_once() {
    use api::{
        ContainerState::{Created, Exited, Running},
        PodState::Ready,
    };
    let lives = |states: &[(&str, api::ContainerState, i64)]| {
        let lives = states.iter().map(|(id, state, at)| container(id, "s1", "web", *state, *at)).collect();
        let listed = listed(&asked(vec![sandbox("s1", "a", Ready)], lives)).into_iter();
        listed.filter(|(id, ..)| id != "s1").map(|(id, _, state, _)| (id, state)).collect::<Vec<_>>()
    };
    let one = |id: &str, state| vec![(id.to_owned(), state)];
    assert_eq!(lives(&[("old", Exited, 1), ("new", Running, 2)]), one("new", ContainerState::Running));
    assert_eq!(lives(&[("new", Exited, 2), ("old", Exited, 1)]), one("new", ContainerState::Stopped));
    assert_eq!(lives(&[("old", Exited, 1), ("new", Created, 2)]), one("old", ContainerState::Stopped));
}

#[test]
fn a_pod_that_has_ended_is_none_and_what_still_runs_in_it_has_its_network() {
    use api::{
        ContainerState::{Exited, Running},
        PodState::NotReady,
    };
    let pods = vec![sandbox("s1", "a", NotReady)];
    let all = vec![container("c1", "s1", "web", Running, 1), container("c2", "s1", "job", Exited, 1)];
    let expected = [
        ("c1".to_owned(), "shop/a/web".to_owned(), ContainerState::Running, true),
        ("c2".to_owned(), "shop/a/job".to_owned(), ContainerState::Stopped, false),
    ];
    assert_eq!(listed(&asked(pods, all)), expected);
}

#[test]
fn a_container_whose_pod_is_not_listed_is_gone() {
    let of_nobody = container("c1", "s9", "web", api::ContainerState::Running, 1);
    assert_eq!(listed(&asked(Vec::new(), vec![of_nobody])), []);
}

#[test]
fn names_that_would_break_a_line_or_pass_for_others_are_left_out() {
    use api::{ContainerState::Running, PodState::Ready};
    let long = "a".repeat(254);
    let bad = ["", "a b", "a\nb", "\u{1b}[31ma", "other/pod", &long];
    for name in bad {
        let (all, malformed) = all(&asked(vec![sandbox("s1", name, Ready)], Vec::new()), RuntimeName::CriO);
        assert!(all.is_empty(), "{name:?}");
        assert_eq!(malformed["s1"].to_string(), "the description of the pod has no usable name");
        let inside = vec![container("c1", "s1", name, Running, 1), container("c2", "s1", "fine", Running, 1)];
        let asked = asked(vec![sandbox("s1", "pod", Ready)], inside);
        let names: Vec<_> = listed(&asked).into_iter().map(|(_, name, ..)| name).collect();
        assert_eq!(names, ["shop/pod/fine", "shop/pod"], "{name:?}");
    }
    let nameless = api::PodSandbox { metadata: None, ..sandbox("s1", "a", Ready) };
    let odd = api::PodSandbox { id: "a;<container>".to_owned(), ..sandbox("s2", "b", Ready) };
    assert_eq!(listed(&asked(vec![nameless, odd], Vec::new())), []);
}

fn way_of(info: &str) -> Result<Way, serde_json::Error> {
    let info = HashMap::from([("info".to_owned(), info.to_owned())]);
    way(&api::PodStatusResponse { status: None, info })
}

#[test]
fn the_way_to_a_pods_network_is_its_file_or_its_process() {
    let spec =
        |namespaces| format!(r#"{{"pid": 42, "runtimeSpec": {{"linux": {{"namespaces": {namespaces}}}}}}}"#);
    let named = spec(r#"[{"type": "pid"}, {"type": "network", "path": "/var/run/netns/cni-1"}]"#);
    let expected = Way { path: Some("/run/netns/cni-1".into()), pid: Some(42) };
    assert_eq!(way_of(&named).expect("JSON"), expected);
    let on_host = spec(r#"[{"type": "pid"}]"#);
    assert_eq!(way_of(&on_host).expect("JSON"), Way { path: None, pid: Some(42) });
    assert_eq!(way_of(r#"{"pid": 0}"#).expect("JSON"), Way::default(), "CRI-O without a process for the pod");
    let relative = spec(r#"[{"type": "network", "path": "../../proc/1/ns/net"}]"#);
    assert_eq!(way_of(&relative).expect("JSON").path, None);
    assert_eq!(way(&api::PodStatusResponse::default()).expect("nothing"), Way::default());
    for odd in ["", "{", r#"{"pid": "42"}"#, r#"{"runtimeSpec": {"linux": {"namespaces": 7}}}"#] {
        assert!(way_of(odd).is_err(), "{odd:?}");
    }
}
