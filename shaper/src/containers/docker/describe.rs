//! Reads what Docker says of a container. Pure: a look at the network namespace is an argument.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status, EventMessage};
use thiserror::Error;

use crate::shaping::{Container, ContainerId, ContainerState, NetnsRef, RuntimeName};

/// What a description of a container lacks.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("Docker's description of the container has no usable {0}")]
pub(super) struct Malformed(&'static str);

/// The container that Docker describes, or nothing: one that was never started, or is being removed, is none to us.
///
/// `netns_of` finds the network namespace of a process.
pub(super) fn container(
    inspected: &ContainerInspectResponse,
    netns_of: impl FnOnce(i64) -> Option<NetnsRef>,
) -> Result<Option<Container>, Malformed> {
    let id = inspected.id.as_deref().and_then(ContainerId::new).ok_or(Malformed("id"))?;
    let Some(state) = state(inspected)? else { return Ok(None) };
    let name = inspected.name.as_deref().map(|name| name.trim_start_matches('/'));
    let name = name.filter(|name| !name.is_empty()).ok_or(Malformed("name"))?.to_owned();
    let netns = match state {
        ContainerState::Running | ContainerState::Paused => run(inspected).pid.and_then(netns_of),
        ContainerState::Stopped => None,
    };
    Ok(Some(Container { id, name, runtime: RuntimeName::Docker, state, netns }))
}

/// One life of a container, from a start to the next end. A pid alone may be another process by now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Run<'a> {
    /// Its first process, while it has one.
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

/// The container that an event is about: a network's event names it among its attributes.
pub(super) fn subject(event: &EventMessage) -> Option<ContainerId> {
    use bollard::models::EventMessageTypeEnum as Type;
    let actor = event.actor.as_ref()?;
    let id = match event.typ? {
        Type::CONTAINER => actor.id.as_ref(),
        Type::NETWORK => actor.attributes.as_ref()?.get("container"),
        _ => None,
    };
    id.and_then(ContainerId::new)
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
        let container = container(&inspected, |pid| Some(netns(pid))).expect("well-formed")?;
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
    fn a_pid_that_docker_does_not_know_is_not_looked_up() {
        assert_eq!(described("running", 0), Some((ContainerState::Running, None)));
    }

    #[test]
    fn a_description_without_what_is_needed_is_malformed() {
        let malformed = |inspected| container(&inspected, |_| None).expect_err("malformed");
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

    fn subject_of(event: Value) -> Option<String> {
        let event = serde_json::from_value(event).expect("an event");
        subject(&event).map(|id| id.to_string())
    }

    #[test]
    fn the_events_of_a_container_and_of_its_networks_are_about_it() {
        let start = json!({ "Type": "container", "Action": "start", "Actor": { "ID": "3f2a9c", "Attributes": { "name": "web" } } });
        assert_eq!(subject_of(start), Some("3f2a9c".into()));
        let connect = json!({ "Type": "network", "Action": "connect",
            "Actor": { "ID": "77aa", "Attributes": { "container": "3f2a9c", "name": "bridge" } } });
        assert_eq!(subject_of(connect), Some("3f2a9c".into()));
        let create =
            json!({ "Type": "network", "Action": "create", "Actor": { "ID": "77aa", "Attributes": {} } });
        assert_eq!(subject_of(create), None);
    }
}
