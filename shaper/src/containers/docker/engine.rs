//! Asks the Docker Engine.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use bollard::{
    API_DEFAULT_VERSION,
    errors::Error,
    query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder},
};
use futures_util::{Stream, StreamExt};

use super::{
    Place,
    describe::{self, News},
};
use crate::{
    containers::{host, netns_at},
    shaping::{Container, ContainerId, RuntimeName},
};

/// The longest time until Docker begins an answer, in seconds: it holds a container's lock while it works on it.
const TIMEOUT: u64 = 10;
/// The most looks at a container that is restarted meanwhile.
const LOOKS: usize = 3;
/// The events that change a container or its interfaces. `remove` is Podman's `destroy`; `cleanup` follows its `die`,
/// and `sync` is in the place of both when Podman finds out late.
const EVENTS: [&str; 14] = [
    "start",
    "unpause",
    "pause",
    "die",
    "stop",
    "kill",
    "restart",
    "rename",
    "destroy",
    "remove",
    "cleanup",
    "sync",
    "connect",
    "disconnect",
];

/// A connection to the engine.
#[derive(Debug)]
pub(super) struct Engine {
    docker: bollard::Docker,
    runtime: RuntimeName,
    /// Tells whether it is known to count processes as this daemon does.
    shares_pids: bool,
    /// The user that it runs for, if it is not the superuser.
    owner: Option<u32>,
}

/// News of a container, if that is what an event is.
pub(super) type Event = anyhow::Result<Option<News>>;

/// The result of a look at a container.
#[derive(Debug)]
pub(super) enum Look {
    /// It is there.
    Container(Box<Container>),
    /// It is gone, or was never started.
    Nothing,
    /// This one cannot be described, for the reason given.
    Failed(String),
}

impl Engine {
    /// Connects, and agrees on a version of the API.
    pub(super) async fn connect(place: &Place) -> anyhow::Result<Self> {
        let Place { socket, owner } = place;
        let path = socket.to_str().context("connect to Docker: the path of its socket must be UTF-8")?;
        let docker = bollard::Docker::connect_with_unix(path, TIMEOUT, API_DEFAULT_VERSION);
        let docker = docker.context("connect to Docker: is it running?")?;
        let docker =
            docker.negotiate_version().await.context("ask Docker for its version: is it running?")?;
        let version = docker.version().await.context("ask Docker for its version")?;
        Ok(Self {
            docker,
            runtime: describe::runtime(&version),
            shares_pids: host::shares_pids(socket).await,
            owner: *owner,
        })
    }

    /// Docker, or what answers as it does.
    pub(super) const fn runtime(&self) -> RuntimeName {
        self.runtime
    }

    /// The containers that something happens to, from now on.
    pub(super) fn events(&self) -> impl Stream<Item = Event> + Send + 'static {
        let filters = HashMap::from([("type", vec!["container", "network"]), ("event", EVENTS.to_vec())]);
        // Docker answers before it has subscribed us (getEventsStream in its api/server/router/system): what happens
        // meanwhile it only repeats when told since when.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let options = EventsOptionsBuilder::new().since(&now.to_string()).filters(&filters).build();
        let events = self.docker.events(Some(options));
        events.map(|event| Ok(describe::news(&event.context("read Docker's events")?)))
    }

    /// The ids of all containers, started or not.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<ContainerId>> {
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let all = self.docker.list_containers(Some(all)).await.context("list Docker's containers")?;
        Ok(all.into_iter().filter_map(|container| container.id.and_then(ContainerId::new)).collect())
    }

    /// Looks at a container.
    ///
    /// # Errors
    ///
    /// When Docker itself is not to be reached; what is wrong with this one container is in the [`Look`].
    pub(super) async fn look_at(&self, id: &ContainerId) -> anyhow::Result<Look> {
        match self.try_look_at(id).await {
            Ok(look) => Ok(look),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(Look::Nothing),
            Err(
                error @ (Error::DockerResponseServerError { .. }
                | Error::JsonDataError { .. }
                | Error::JsonSerdeError { .. }
                | Error::RequestTimeoutError),
            ) => Ok(Look::Failed(error.to_string())),
            Err(error) => Err(error).with_context(|| format!("inspect Docker's container {id}")),
        }
    }

    /// A process found by its pid is the container's only if the container still runs as before afterwards.
    async fn try_look_at(&self, id: &ContainerId) -> Result<Look, Error> {
        let mut inspected = self.inspect(id).await?;
        for _ in 0..LOOKS {
            let look = match describe::container(&inspected, self.runtime, |pid| {
                let is_its = (self.shares_pids || host::is_in_container(pid, id.as_str()))
                    && self.owner.is_none_or(|uid| host::is_mapped_to(pid, uid));
                is_its.then(|| netns_at(format!("/proc/{pid}/ns/net").into()).ok())?
            }) {
                Ok(Some(container)) => Look::Container(container.into()),
                Ok(None) => return Ok(Look::Nothing),
                Err(malformed) => return Ok(Look::Failed(malformed.to_string())),
            };
            let again = self.inspect(id).await?;
            if describe::run(&again) == describe::run(&inspected) {
                return Ok(look);
            }
            inspected = again;
        }
        Ok(Look::Failed("it is restarted again and again".into()))
    }

    async fn inspect(&self, id: &ContainerId) -> Result<bollard::models::ContainerInspectResponse, Error> {
        self.docker.inspect_container(id.as_str(), None::<InspectContainerOptions>).await
    }
}
