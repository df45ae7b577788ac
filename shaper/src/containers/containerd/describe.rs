//! Reads what containerd says of a container. Pure: a look at the network namespace is an argument.

use std::time::SystemTime;

use super::api::{self, Process, Status};
use crate::{
    containers::is_name,
    shaping::{Container, ContainerId, ContainerState, NetnsRef, RuntimeName},
};

/// The label with the name that nerdctl gives a container.
const NAME: &str = "nerdctl/name";

/// The container of a record and its task, in a namespace of containerd's. None, if it has no usable id, or is being made.
pub(super) fn container(
    namespace: &str,
    record: api::Container,
    task: Option<&Process>,
    netns: Option<NetnsRef>,
    started: Option<SystemTime>,
) -> Option<Container> {
    let state = match task.map(Process::status) {
        Some(Status::Created) => return None,
        Some(Status::Running) => ContainerState::Running,
        Some(Status::Paused | Status::Pausing) => ContainerState::Paused,
        Some(Status::Stopped | Status::Unknown) | None => ContainerState::Stopped,
    };
    let id = id(namespace, &record.id)?;
    let name = record.labels.get(NAME).filter(|name| is_name(name)).unwrap_or(&record.id).clone();
    let netns = netns.filter(|_| state != ContainerState::Stopped);
    let image = (!record.image.is_empty()).then_some(record.image);
    let labels = record.labels.into_iter().collect();
    let started = started.filter(|_| state != ContainerState::Stopped);
    Some(Container {
        started,
        image,
        labels,
        ..Container::new(id, name, RuntimeName::Containerd, state, netns)
    })
}

/// An id that no other namespace has: nerdctl's are so themselves, others may be any name.
fn id(namespace: &str, id: &str) -> Option<ContainerId> {
    let is_unique = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_unique {
        true => ContainerId::new(id),
        false => is_name(id).then(|| ContainerId::new(format!("{namespace}:{id}")))?,
    }
}

/// Tells whether a task's process can have a network namespace.
pub(super) fn has_processes(task: &Process) -> bool {
    task.pid > 0 && matches!(task.status(), Status::Running | Status::Paused | Status::Pausing)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::shaping::NetnsId;

    fn described(id: &str, name: Option<&str>, status: Option<Status>) -> Option<Container> {
        let labels = name.map(|name| (NAME.to_owned(), name.to_owned())).into_iter().collect();
        let record =
            api::Container { id: id.to_owned(), labels, image: "docker.io/library/nginx:1".to_owned() };
        let task = status.map(|status| Process { id: id.to_owned(), pid: 42, status: status.into() });
        let netns = NetnsRef { id: NetnsId { dev: 4, inode: 7 }, path: "/proc/42/ns/net".into() };
        container("default", record, task.as_ref(), Some(netns), Some(UNIX_EPOCH))
    }

    #[test]
    fn a_container_has_the_name_that_nerdctl_gave_it_or_else_its_id() {
        let id = "3f2a9c".repeat(11)[..64].to_owned();
        let web = described(&id, Some("web"), Some(Status::Running)).expect("a container");
        assert_eq!((web.id.as_str(), &*web.name), (&*id, "web"));
        assert_eq!(web.image.as_deref(), Some("docker.io/library/nginx:1"));
        let plain = described("web", None, Some(Status::Running)).expect("a container");
        assert_eq!(
            (plain.id.as_str(), &*plain.name),
            ("default:web", "web"),
            "another namespace may have it"
        );
        let hostile = described(&id, Some("we b\n"), None).expect("a container");
        assert_eq!(hostile.name, id);
        assert_eq!(described("we;b", None, None), None);
    }

    #[test]
    fn a_container_with_a_task_that_runs_has_its_netns() {
        let state = |status| described("web", None, status).map(|one| (one.state, one.netns.is_some()));
        assert_eq!(state(Some(Status::Running)), Some((ContainerState::Running, true)));
        assert_eq!(state(Some(Status::Pausing)), Some((ContainerState::Paused, true)));
        assert_eq!(state(Some(Status::Stopped)), Some((ContainerState::Stopped, false)));
        assert_eq!(state(None), Some((ContainerState::Stopped, false)));
        assert_eq!(state(Some(Status::Created)), None);
    }
}
