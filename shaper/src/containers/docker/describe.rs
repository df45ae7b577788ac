//! Reads what Docker says of a container. Pure: a look at the network namespace is an argument.

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as Status, EndpointSettings, EventMessage,
    SystemVersion,
};
use thiserror::Error;

use crate::{
    containers::is_name,
    shaping::{Container, ContainerId, ContainerState, Endpoint, NetnsRef, RuntimeName},
};

/// The part that a description of a container lacks.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("Docker's description of the container has no usable {0}")]
pub(super) struct Malformed(&'static str);

/// Who answers as Docker does.
pub(super) fn runtime(version: &SystemVersion) -> RuntimeName {
    let mut components = version.components.iter().flatten();
    match components.any(|component| component.name.starts_with("Podman")) {
        true => RuntimeName::Podman,
        false => RuntimeName::Docker,
    }
}

/// The container that Docker describes, or nothing: one that was never started, or is being removed, is none to us.
///
/// `netns_of` finds the network namespace of a process.
pub(super) fn container(
    inspected: &ContainerInspectResponse,
    runtime: RuntimeName,
    netns_of: impl FnOnce(i64) -> Option<NetnsRef>,
) -> Result<Option<Container>, Malformed> {
    let id = inspected.id.as_deref().and_then(ContainerId::new).ok_or(Malformed("id"))?;
    let Some(state) = state(inspected)? else { return Ok(None) };
    let name = inspected.name.as_deref().map(|name| name.trim_start_matches('/'));
    let is_one =
        |name: &&str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    let name = name.filter(is_one).ok_or(Malformed("name"))?.to_owned();
    let netns = match state {
        ContainerState::Running | ContainerState::Paused => run(inspected).pid.and_then(netns_of),
        ContainerState::Stopped => None,
    };
    let (image, labels) = match &inspected.config {
        Some(config) => {
            (config.image.clone(), config.labels.clone().unwrap_or_default().into_iter().collect())
        }
        None => Default::default(),
    };
    // Docker writes a time of the year 1 where there was none.
    let started = run(inspected).started_at.and_then(|text| humantime::parse_rfc3339(text).ok());
    let started = started.filter(|_| state != ContainerState::Stopped);
    let networks = networks(inspected);
    Ok(Some(Container {
        started,
        image,
        labels,
        networks,
        ..Container::new(id, name, runtime, state, netns)
    }))
}

/// The networks that Docker has connected a container to, by name; those of a container whose network it shares are that
/// one's.
fn networks(inspected: &ContainerInspectResponse) -> Vec<Endpoint> {
    let networks = inspected.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let endpoint = |(network, settings): (&String, &EndpointSettings)| {
        let addresses = [&settings.ip_address, &settings.global_ipv6_address];
        Endpoint {
            network: network.clone(),
            interface: None,
            mac: settings.mac_address.as_ref().and_then(|mac| mac.parse().ok()),
            addresses: addresses.into_iter().flatten().filter_map(|address| address.parse().ok()).collect(),
        }
    };
    let mut networks: Vec<_> =
        networks.into_iter().flatten().filter(|(name, _)| is_name(name)).map(endpoint).collect();
    networks.sort();
    networks
}

/// One life of a container, from a start to the next end. A pid alone may be another process by now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Run<'a> {
    /// The first process, while there is one.
    pid: Option<i64>,
    started_at: Option<&'a str>,
}

/// The life that Docker describes.
pub(super) fn run(inspected: &ContainerInspectResponse) -> Run<'_> {
    let Some(state) = &inspected.state else { return Run::default() };
    Run { pid: state.pid.filter(|pid| *pid > 0), started_at: state.started_at.as_deref() }
}

fn state(inspected: &ContainerInspectResponse) -> Result<Option<ContainerState>, Malformed> {
    let status = inspected.state.as_ref().and_then(|state| state.status);
    match status.ok_or(Malformed("state"))? {
        Status::RUNNING | Status::STOPPING => Ok(Some(ContainerState::Running)),
        Status::PAUSED => Ok(Some(ContainerState::Paused)),
        Status::RESTARTING | Status::EXITED | Status::DEAD => Ok(Some(ContainerState::Stopped)),
        Status::CREATED | Status::REMOVING => Ok(None),
        Status::EMPTY => Err(Malformed("state")),
    }
}

/// News of a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) about: ContainerId,
    pub(super) what: Happening,
}

/// An event in a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// The start of its processes.
    Start,
    /// The end of its processes, which Podman may still not know when it is asked.
    End,
    /// Something about it or its networks has changed.
    Change,
}

/// The container that an event is about, and what has happened. A network's event names the container among its
/// attributes; Podman's has it in the place of the network.
pub(super) fn news(event: &EventMessage) -> Option<News> {
    use bollard::models::EventMessageTypeEnum as Type;
    let (actor, action) = (event.actor.as_ref()?, event.action.as_deref()?);
    let (id, what) = match (event.typ?, action) {
        (Type::CONTAINER, "start") => (actor.id.as_ref(), Happening::Start),
        (Type::CONTAINER, "die") => (actor.id.as_ref(), Happening::End),
        (Type::CONTAINER, _) => (actor.id.as_ref(), Happening::Change),
        (Type::NETWORK, "connect" | "disconnect") => {
            let named = actor.attributes.as_ref().and_then(|attributes| attributes.get("container"));
            (named.or(actor.id.as_ref()), Happening::Change)
        }
        _ => return None,
    };
    Some(News { about: ContainerId::new(id?)?, what })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::shaping::NetnsId;

    fn netns(pid: i64) -> NetnsRef {
        NetnsRef { id: NetnsId { dev: 4, inode: 7 }, path: format!("/proc/{pid}/ns/net").into() }
    }

    fn inspected(name: &str, state: Value) -> ContainerInspectResponse {
        let inspected = json!({ "Id": "3f2a9c", "Name": name, "State": state, "HostConfig": {} });
        serde_json::from_value(inspected).expect("what Docker says")
    }

    fn described(status: &str, pid: i64) -> Option<(ContainerState, Option<NetnsRef>)> {
        let inspected = inspected("/web", json!({ "Status": status, "Pid": pid }));
        let container = container(&inspected, RuntimeName::Docker, |pid| Some(netns(pid)));
        let container = container.expect("well-formed")?;
        assert_eq!((container.id.as_str(), container.name.as_str()), ("3f2a9c", "web"));
        Some((container.state, container.netns))
    }

    #[test]
    fn a_container_with_a_process_has_its_netns() {
        assert_eq!(described("running", 42), Some((ContainerState::Running, Some(netns(42)))));
        assert_eq!(described("paused", 42), Some((ContainerState::Paused, Some(netns(42)))));
        assert_eq!(described("stopping", 42), Some((ContainerState::Running, Some(netns(42)))));
    }

    #[test]
    fn a_container_has_its_image_its_labels_and_who_composed_it() {
        let mut inspected = inspected("/shop-web-1", json!({ "Status": "running", "Pid": 42 }));
        let labels = json!({ "com.docker.compose.project": "shop", "com.docker.compose.service": "web" });
        inspected.state = serde_json::from_value(
            json!({ "Status": "running", "Pid": 42, "StartedAt": "1970-01-01T00:00:01.5+00:00" }),
        )
        .expect("a state");
        let config = json!({ "Image": "nginx:1.27", "Labels": labels });
        inspected.config = serde_json::from_value(config).expect("a configuration");
        let container = container(&inspected, RuntimeName::Docker, |_| None).expect("well-formed");
        let container = container.expect("a container");
        assert_eq!(container.image.as_deref(), Some("nginx:1.27"));
        assert_eq!((container.project(), container.service()), (Some("shop"), Some("web")));
    }

    #[test]
    fn a_container_has_the_networks_that_it_is_connected_to_in_order() {
        let networks = |networks: Value| {
            let mut inspected = inspected("/web", json!({ "Status": "running", "Pid": 42 }));
            let settings = json!({ "Networks": networks });
            inspected.network_settings = serde_json::from_value(settings).expect("settings");
            let container = container(&inspected, RuntimeName::Docker, |_| None).expect("well-formed");
            serde_json::to_value(container.expect("a container").networks).expect("JSON")
        };
        let bridge = json!({
            "MacAddress": "02:42:ac:12:00:02", "IPAddress": "172.18.0.2", "GlobalIPv6Address": "fd00::2", "IPPrefixLen": 16
        });
        let ipvlan = json!({ "MacAddress": "", "IPAddress": "192.0.2.7", "GlobalIPv6Address": "" });
        let expected = json!([
            { "network": "back", "addresses": ["192.0.2.7"] },
            { "network": "front", "mac": "02:42:ac:12:00:02", "addresses": ["172.18.0.2", "fd00::2"] },
        ]);
        assert_eq!(networks(json!({ "front": bridge, "back": ipvlan })), expected);
        assert_eq!(
            networks(json!({ "none": { "MacAddress": "", "IPAddress": "" } })),
            json!([{ "network": "none" }])
        );
        assert_eq!(networks(json!({})), json!([]), "another container's network");
        let odd = json!({ "MacAddress": "zz:42", "IPAddress": "here" });
        assert_eq!(
            networks(json!({ "a\nb": bridge, "\u{1b}[31m": bridge, "c": odd })),
            json!([{ "network": "c" }])
        );
    }

    #[test]
    fn a_container_without_a_process_is_stopped_and_has_no_netns() {
        for status in ["exited", "dead", "restarting"] {
            assert_eq!(described(status, 0), Some((ContainerState::Stopped, None)), "{status}");
        }
    }

    #[test]
    fn a_container_that_never_ran_or_is_being_removed_is_none() {
        for status in ["created", "removing"] {
            assert_eq!(described(status, 0), None, "{status}");
        }
    }

    #[test]
    fn a_name_that_would_break_a_line_is_none() {
        let running = || json!({ "Status": "running", "Pid": 42 });
        for name in ["/", "/we b", "/web\n3f2a9c is no longer shaped", "/\u{1b}[31mweb"] {
            let described = container(&inspected(name, running()), RuntimeName::Docker, |_| None);
            assert_eq!(described, Err(Malformed("name")), "{name:?}");
        }
    }

    #[test]
    fn a_pid_that_docker_does_not_know_is_not_looked_up() {
        assert_eq!(described("running", 0), Some((ContainerState::Running, None)));
    }

    #[test]
    fn a_description_without_what_is_needed_is_malformed() {
        let malformed =
            |inspected| container(&inspected, RuntimeName::Docker, |_| None).expect_err("malformed");
        let running = json!({ "Status": "running", "Pid": 42 });
        assert_eq!(malformed(inspected("/", running.clone())), Malformed("name"));
        assert_eq!(malformed(inspected("/web", json!({ "Status": "" }))), Malformed("state"));
        assert_eq!(malformed(inspected("/web", json!({}))), Malformed("state"));
        let nameless = json!({ "Id": "a;b", "Name": "/web", "State": running });
        assert_eq!(malformed(serde_json::from_value(nameless).expect("JSON")), Malformed("id"));
    }

    #[test]
    fn a_restart_is_another_run_even_with_the_same_pid() {
        let at = |time| inspected("/web", json!({ "Status": "running", "Pid": 42, "StartedAt": time }));
        let (first, second) = (at("2024-01-01T00:00:00Z"), at("2024-01-01T00:00:01Z"));
        assert_eq!(run(&first), run(&first.clone()));
        assert_ne!(run(&first), run(&second));
    }

    fn news_of(typ: &str, action: &str, id: &str, attributes: Value) -> Option<(String, Happening)> {
        let actor = json!({ "ID": id, "Attributes": attributes });
        let event = json!({ "Type": typ, "Action": action, "Actor": actor });
        let news = news(&serde_json::from_value(event).expect("an event"))?;
        Some((news.about.to_string(), news.what))
    }

    #[test]
    fn the_events_of_a_container_and_of_its_networks_are_about_it() {
        let about = |what| Some(("3f2a9c".to_owned(), what));
        let name = json!({ "name": "web" });
        assert_eq!(news_of("container", "start", "3f2a9c", name.clone()), about(Happening::Start));
        assert_eq!(news_of("container", "die", "3f2a9c", name.clone()), about(Happening::End));
        assert_eq!(news_of("container", "cleanup", "3f2a9c", name.clone()), about(Happening::Change));
        let docker = json!({ "container": "3f2a9c", "name": "bridge" });
        assert_eq!(news_of("network", "connect", "77aa", docker), about(Happening::Change));
        assert_eq!(news_of("network", "disconnect", "3f2a9c", name), about(Happening::Change), "Podman");
        assert_eq!(news_of("network", "create", "77aa", json!({})), None);
    }

    #[test]
    fn podman_is_told_from_docker_by_its_engine() {
        let answered = |engine: &str| {
            let components =
                json!([{ "Name": engine, "Version": "4.3.1" }, { "Name": "Conmon", "Version": "2" }]);
            runtime(&serde_json::from_value(json!({ "Components": components })).expect("a version"))
        };
        assert_eq!(answered("Podman Engine"), RuntimeName::Podman);
        assert_eq!(answered("Engine"), RuntimeName::Docker);
    }
}
