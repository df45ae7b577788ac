//! Asks a CRI runtime, and containerd by its own API for what is not in CRI.

use std::{fs, future::ready, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Code, Status};

use super::{
    api::{self, ContainerStatusRequest, Empty, PodStatusRequest, PodStatusResponse},
    describe::{self, Way},
};
use crate::{
    containers::{
        containerd,
        grpc::{Connection, is_unimplemented},
        host, netns_at,
    },
    shaping::{Container, NetnsRef, RuntimeName},
};

/// The namespace of containerd with what it runs for Kubernetes.
const KUBERNETES: &str = "k8s.io";
/// The namespace of containerd with what it runs for Docker.
const DOCKER: &str = "moby";

/// A connection to a runtime.
#[derive(Debug)]
pub(super) struct Engine {
    connection: Connection,
    runtime: RuntimeName,
    /// False of a containerd whose CRI is switched off, as Docker ships it.
    serves_cri: bool,
    /// The namespaces of containerd that others tell of; none if this is not containerd.
    skipped: Option<&'static [&'static str]>,
    /// Tells whether it is known to count processes as this daemon does.
    shares_pids: bool,
}

/// The result of a look at a pod's network namespace.
#[derive(Debug)]
pub(super) enum Look {
    /// It is there.
    Netns(NetnsRef),
    /// It cannot be seen.
    Unseen,
    /// The pod is gone.
    Nothing,
    /// This pod cannot be described, for the reason given.
    Failed(String),
}

impl Engine {
    /// Connects with the runtime at a socket, which is `expected` to be this one. What containerd runs for Docker is left
    /// out where `docker_is_watched`.
    ///
    /// # Errors
    ///
    /// When nothing answers, or it is no such runtime.
    pub(super) async fn connect(
        socket: &Path,
        expected: RuntimeName,
        docker_is_watched: bool,
    ) -> anyhow::Result<Self> {
        let connection = Connection::open(socket).await?;
        let version = connection.ask::<_, api::Version>(api::VERSION, None, Empty {}).await;
        let (runtime, serves_cri) = match version {
            Ok(version) => (runtime(&version.runtime_name, expected), true),
            Err(status) if is_unimplemented(&status) && expected == RuntimeName::Containerd => {
                (expected, false)
            }
            Err(status) => return Err(status).context("ask for the version of CRI: does it serve CRI v1?"),
        };
        let skipped: &[&str] = match (serves_cri, docker_is_watched) {
            (true, true) => &[KUBERNETES, DOCKER],
            (true, false) => &[KUBERNETES],
            (false, true) => &[DOCKER],
            (false, false) => &[],
        };
        let skipped = (runtime == RuntimeName::Containerd).then_some(skipped);
        Ok(Self { connection, runtime, serves_cri, skipped, shares_pids: host::shares_pids(socket).await })
    }

    /// The runtime, as it names itself.
    pub(super) const fn runtime(&self) -> RuntimeName {
        self.runtime
    }

    /// Tells whenever something may have changed, from about now on; never, where the runtime has no events.
    pub(super) fn events(&self) -> BoxStream<'static, Result<(), Status>> {
        if self.skipped.is_some() {
            // CRI's events come from the same, but not before containerd 1.7.
            let of_docker: &[&str] = match self.skipped.is_some_and(|skipped| skipped.contains(&DOCKER)) {
                true => &[DOCKER],
                false => &[],
            };
            return containerd::events(&self.connection, of_docker).boxed();
        }
        let events = self.connection.stream(api::EVENTS, Empty {});
        let events = events.map(|event: Result<api::Event, _>| event.map(drop));
        let end = Err(Status::unavailable("the runtime ended them"));
        let events = events.chain(stream::once(ready(end)));
        // That they end is an error, but that there are none is not.
        let is_known = |event: &Result<(), Status>| ready(!event.as_ref().is_err_and(is_unimplemented));
        events.take_while(is_known).chain(stream::pending()).boxed()
    }

    /// The pods, or none if there is no CRI.
    pub(super) async fn pods(&self) -> Result<Vec<api::PodSandbox>, Status> {
        if !self.serves_cri {
            return Ok(Vec::new());
        }
        let api::Pods { items } = self.connection.ask(api::LIST_PODS, None, Empty {}).await?;
        Ok(items)
    }

    /// The containers of pods, or none if there is no CRI.
    pub(super) async fn containers(&self) -> Result<Vec<api::Container>, Status> {
        if !self.serves_cri {
            return Ok(Vec::new());
        }
        let api::Containers { containers } =
            self.connection.ask(api::LIST_CONTAINERS, None, Empty {}).await?;
        Ok(containers)
    }

    /// The containers that are in no pod.
    pub(super) async fn others(&self) -> Result<Vec<Container>, Status> {
        let Some(skipped) = self.skipped else { return Ok(Vec::new()) };
        containerd::list(&self.connection, skipped, self.shares_pids).await
    }

    /// The name of a container's image, where it is known.
    pub(super) async fn image(&self, container: &str) -> Option<String> {
        let question = ContainerStatusRequest { container_id: container.to_owned() };
        let answer = self.connection.ask(api::CONTAINER_STATUS, None, question).await;
        let api::ContainerStatusResponse { status } = answer.ok()?;
        Some(status?.image?.image).filter(|image| !image.is_empty())
    }

    /// Looks at the network namespace of a pod, by the id of its sandbox.
    ///
    /// # Errors
    ///
    /// When the runtime itself is not to be reached; what is wrong with this one pod is in the [`Look`].
    pub(super) async fn look_at(&self, sandbox: &str) -> Result<Look, Status> {
        let way = match self.way(sandbox).await? {
            Ok(way) => way,
            Err(look) => return Ok(look),
        };
        if let Some(netns) = way.path.as_ref().and_then(|path| named(path)) {
            return Ok(Look::Netns(netns));
        }
        let Some(pid) = way.pid.filter(|pid| self.shares_pids || host::is_in_container(*pid, sandbox)) else {
            return Ok(Look::Unseen);
        };
        let Ok(netns) = netns_at(format!("/proc/{pid}/ns/net").into()) else { return Ok(Look::Unseen) };
        // Another process may have had this number by then.
        Ok(match self.way(sandbox).await? {
            Ok(again) if again == way => Look::Netns(netns),
            Ok(_) => Look::Unseen,
            Err(look) => look,
        })
    }

    async fn way(&self, sandbox: &str) -> Result<Result<Way, Look>, Status> {
        let question = PodStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: true };
        let answer: Result<PodStatusResponse, _> = self.connection.ask(api::POD_STATUS, None, question).await;
        Ok(match answer {
            Ok(status) => describe::way(&status).map_err(|error| Look::Failed(error.to_string())),
            Err(status) => match status.code() {
                Code::NotFound => Err(Look::Nothing),
                Code::Unavailable | Code::Cancelled => return Err(status),
                _ => Err(Look::Failed(status.message().to_owned())),
            },
        })
    }
}

/// The runtime that calls itself so.
fn runtime(name: &str, expected: RuntimeName) -> RuntimeName {
    match name {
        "containerd" => RuntimeName::Containerd,
        "cri-o" => RuntimeName::CriO,
        "docker" => RuntimeName::Docker,
        _ => expected,
    }
}

/// Looks at the file that names a network namespace. One that is left behind is on another file system.
fn named(path: &Path) -> Option<NetnsRef> {
    let nsfs = fs::metadata("/proc/self/ns/net").ok()?.dev();
    netns_at(path.to_owned()).ok().filter(|netns| netns.id.dev == nsfs)
}
