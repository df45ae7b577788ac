//! Asks containerd, by its own API, for what it runs outside of Kubernetes: for nerdctl, and for whoever else uses it.
//!
//! Knows nothing of CRI, which containerd serves at the same socket.

mod api;
mod describe;

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::Status;

use self::api::{Containers, Empty, Envelope, Namespaces, Process, SubscribeRequest, TaskExit, Tasks};
use super::{grpc::Connection, host, netns_at};
use crate::shaping::{Container, NetnsRef};

/// The most looks at tasks that are restarted meanwhile.
const LOOKS: usize = 3;
/// The events that change a container or what runs in it.
const TOPICS: [&str; 8] = [
    "/containers/create",
    "/containers/update",
    "/containers/delete",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/delete",
    "/tasks/paused",
    "/tasks/resumed",
];

/// The containers of all namespaces but some.
///
/// Unless containerd `shares_pids` with this daemon, a process must have a cgroup that names its container.
///
/// # Errors
///
/// When containerd does not answer.
pub(super) async fn list(
    connection: &Connection,
    skipped: &[&str],
    shares_pids: bool,
) -> Result<Vec<Container>, Status> {
    let all: Namespaces = connection.ask(api::LIST_NAMESPACES, None, Empty {}).await?;
    let mut containers = Vec::new();
    for namespace in all.namespaces.iter().map(|namespace| &*namespace.name) {
        if skipped.contains(&namespace) {
            continue;
        }
        let records: Containers = connection.ask(api::LIST_CONTAINERS, Some(namespace), Empty {}).await?;
        let (tasks, netns) = tasks(connection, namespace, shares_pids).await?;
        let described = records.containers.into_iter().filter_map(|record| {
            let (task, netns) = (tasks.get(&record.id), netns.get(&record.id).cloned());
            let started = task.filter(|_| netns.is_some()).and_then(|task| host::started(task.pid));
            describe::container(namespace, record, task, netns, started)
        });
        containers.extend(described);
    }
    Ok(containers)
}

/// The tasks of a namespace, and their network namespaces, by container.
///
/// A process found by its pid is a container's only if the container still runs as before afterwards.
async fn tasks(
    connection: &Connection,
    namespace: &str,
    shares_pids: bool,
) -> Result<(BTreeMap<String, Process>, BTreeMap<String, NetnsRef>), Status> {
    let ask = async || -> Result<BTreeMap<String, Process>, Status> {
        let Tasks { tasks } = connection.ask(api::LIST_TASKS, Some(namespace), Empty {}).await?;
        Ok(tasks.into_iter().map(|task| (task.id.clone(), task)).collect())
    };
    let mut before = ask().await?;
    for look in 1.. {
        let seen = before.iter().filter_map(|(id, task)| {
            let is_its = shares_pids || host::is_in_container(task.pid.into(), id);
            let path = format!("/proc/{}/ns/net", task.pid).into();
            (is_its && describe::has_processes(task)).then(|| Some((id.clone(), netns_at(path).ok()?)))?
        });
        let mut seen: BTreeMap<_, _> = seen.collect();
        let after = ask().await?;
        if after == before || look == LOOKS {
            seen.retain(|id, _| after.get(id) == before.get(id));
            return Ok((after, seen));
        }
        before = after;
    }
    unreachable!("the last look returns")
}

/// Tells whenever something may have changed in a namespace that is not skipped, from about now on.
pub(super) fn events(
    connection: &Connection,
    skipped: &'static [&'static str],
) -> impl Stream<Item = Result<(), Status>> + Send + use<> {
    let filters = TOPICS.iter().map(|topic| format!("topic==\"{topic}\"")).collect();
    let events = connection.stream(api::SUBSCRIBE, SubscribeRequest { filters });
    events.filter_map(move |event: Result<Envelope, _>| async move {
        let is_news = |event: &Envelope| !skipped.contains(&&*event.namespace) && !is_of_an_exec(event);
        event.map(|event| is_news(&event).then_some(())).transpose()
    })
}

/// Tells whether an event is the end of a process that was started later in a container, as probes are.
fn is_of_an_exec(event: &Envelope) -> bool {
    let exit = event.event.as_ref().filter(|_| event.topic == "/tasks/exit");
    let exit = exit.and_then(|any| TaskExit::decode(&*any.value).ok());
    exit.is_some_and(|exit| !exit.id.is_empty() && exit.id != exit.container_id)
}
