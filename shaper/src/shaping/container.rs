//! Containers: to us, names for network namespaces.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::Endpoint;

/// A container's identity within its runtime: a full Docker id, or the name of a named network namespace.
///
/// Never empty, and without `;` (Scope's separator), `/`, white space and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    /// Takes `id` if it can be told apart in paths, node ids and terminals.
    pub(crate) fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        let bad = |c: char| c == ';' || c == '/' || c.is_whitespace() || c.is_control();
        (!id.is_empty() && !id.contains(bad)).then_some(Self(id))
    }

    /// The whole id.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve characters, as `docker ps` shows them.
    pub(crate) fn short(&self) -> &str {
        self.0.char_indices().nth(12).map_or(&self.0, |(end, _)| &self.0[..end])
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The runtime through which a container was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeName {
    /// The Docker Engine.
    Docker,
    /// Podman, which answers as the Docker Engine does.
    Podman,
    /// containerd: what it runs for Kubernetes, and what nerdctl and others run.
    Containerd,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    CriO,
    /// Named network namespaces, as `ip netns` makes them.
    Netns,
    /// Processes with a network namespace of their own.
    Process,
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Netns => "netns",
            Self::Process => "process",
        })
    }
}

/// Runtimes that are asked in the same way, as `shaper serve --runtime` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum RuntimeKind {
    /// The Docker Engine, or Podman behind the same socket
    Docker,
    /// Podman, of the system and of each user
    Podman,
    /// containerd and CRI-O, with the pods of Kubernetes
    Cri,
    /// Named network namespaces, as `ip netns` makes them
    Netns,
    /// Processes with a network namespace that nothing else tells of: LXC, systemd-nspawn, units
    Process,
}

/// The state of a container's processes; only these three states are shown, as the old plugin did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ContainerState {
    /// It can be shaped.
    Running,
    /// Frozen.
    Paused,
    /// It has no network.
    Stopped,
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A network namespace's identity: the device and inode of its nsfs file. Numbers are used again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NetnsId {
    /// Device number of nsfs.
    pub(crate) dev: u64,
    /// Inode number, as in `net:[4026531840]`.
    pub(crate) inode: u64,
}

/// A network namespace and a file that leads to it.
///
/// The path may come to lead to another namespace (a pid is used again), so whoever opens it compares the id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetnsRef {
    /// The identity.
    pub(crate) id: NetnsId,
    /// `/proc/<pid>/ns/net` or `/run/netns/<name>`.
    pub(crate) path: PathBuf,
}

/// A pod: containers that share a network namespace, and are known to Kubernetes by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Pod {
    /// The namespace in Kubernetes; none outside of it, as with Podman's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// The name.
    pub(crate) name: String,
    /// The identity that no later pod of this name has, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
}

/// A container as its runtime describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    /// The identity.
    pub(crate) id: ContainerId,
    /// The name that people call it by.
    pub(crate) name: String,
    /// Where it was found.
    pub(crate) runtime: RuntimeName,
    /// The state of its processes.
    pub(crate) state: ContainerState,
    /// The network namespace; none while it is stopped, or if it cannot be seen.
    pub(crate) netns: Option<NetnsRef>,
    /// The start of its present life, or of its pod's.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(crate) started: Option<SystemTime>,
    /// The image as it was named when the container was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// The pod that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Pod>,
    /// The labels, and those of its pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// The networks that it, or its pod, is connected to, in order; none where the runtime tells of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) networks: Vec<Endpoint>,
}

impl Pod {
    /// The name that it is called by: `NAMESPACE/NAME`, or the name alone.
    pub(crate) fn full_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Container {
    /// A container of which no more is known than what each has.
    pub(crate) const fn new(
        id: ContainerId,
        name: String,
        runtime: RuntimeName,
        state: ContainerState,
        netns: Option<NetnsRef>,
    ) -> Self {
        let labels = BTreeMap::new();
        let networks = Vec::new();
        Self { id, name, runtime, state, netns, started: None, image: None, pod: None, labels, networks }
    }

    /// The project that it belongs to: of Docker Compose, or a stack of Docker Swarm.
    pub(crate) fn project(&self) -> Option<&str> {
        self.label(&["com.docker.compose.project", "com.docker.stack.namespace", "io.podman.compose.project"])
    }

    /// The service that it is one of: of Docker Compose, or of Docker Swarm.
    pub(crate) fn service(&self) -> Option<&str> {
        self.label(&["com.docker.compose.service", "com.docker.swarm.service.name"])
    }

    /// The first of these labels that it has.
    fn label(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.labels.get(*key)).map(String::as_str)
    }

    /// Tells whether it is a pod itself: the sandbox, which has the network while the pod's containers come and go.
    pub(crate) fn is_pod(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.full_name() == self.name)
    }

    /// The identity among the containers of all runtimes.
    pub(crate) fn key(&self) -> (RuntimeName, ContainerId) {
        (self.runtime, self.id.clone())
    }

    /// Tells whether it has processes that cannot be seen.
    pub(crate) fn is_unseen(&self) -> bool {
        self.state != ContainerState::Stopped && self.netns.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_break_a_node_id_or_a_path_are_refused() {
        for bad in ["", "a;b", "a/b", "a b", "a\n"] {
            assert_eq!(ContainerId::new(bad), None, "{bad:?}");
        }
        assert!(ContainerId::new("web-1.prod_x").is_some());
    }

    #[test]
    fn a_short_id_has_twelve_characters_at_most() {
        let id = |s| ContainerId::new(s).expect("a good id");
        assert_eq!(id("0123456789abcdef").short(), "0123456789ab");
        assert_eq!(id("web").short(), "web");
    }
}
