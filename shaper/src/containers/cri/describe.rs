//! Reads what a CRI runtime says of pods and containers. Pure: looks at network namespaces are arguments.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;
use thiserror::Error;

use super::{api, multus};
use crate::{
    containers::is_name,
    shaping::{Container, ContainerId, ContainerState, LABEL_PREFIX, NetnsRef, Pod, RuntimeName},
};

/// The part that a description of a pod or a container lacks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the description of the {kind} has no usable {part}")]
pub(super) struct Malformed {
    kind: &'static str,
    part: &'static str,
}

/// Everything that was asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) pods: Vec<api::PodSandbox>,
    pub(super) containers: Vec<api::Container>,
    /// The network namespaces that could be looked at, by the id of the pod's sandbox.
    pub(super) netns: BTreeMap<String, NetnsRef>,
    /// The names of images that a list of containers has by their digests only, by the id of the container.
    pub(super) images: BTreeMap<String, String>,
}

/// The pods that run and all containers, by id; and each description that cannot be used, by what names it.
pub(super) fn all(
    asked: &Asked,
    runtime: RuntimeName,
) -> (BTreeMap<ContainerId, Container>, BTreeMap<String, Malformed>) {
    let mut malformed = BTreeMap::new();
    let mut pods = BTreeMap::new();
    for sandbox in &asked.pods {
        match pod(sandbox, asked, runtime) {
            Ok(pod) => drop(pods.insert(&*sandbox.id, (sandbox, pod))),
            Err(error) => drop(malformed.insert(sandbox.id.clone(), error)),
        }
    }
    let mut lives: BTreeMap<String, Vec<(i64, Container)>> = BTreeMap::new();
    for container in &asked.containers {
        // Without its pod, it is about to go.
        let Some((sandbox, pod)) = pods.get(&*container.pod_sandbox_id) else { continue };
        match described(container, sandbox, pod, asked) {
            Ok(Some(one)) => lives.entry(one.name.clone()).or_default().push((container.created_at, one)),
            Ok(None) => {}
            Err(error) => drop(malformed.insert(container.id.clone(), error)),
        }
    }
    let containers = lives.into_values().flat_map(present);
    let ready = pods.into_values().filter(|(sandbox, _)| sandbox.state() == api::PodState::Ready);
    let all = ready.map(|(_, pod)| pod).chain(containers).map(|one| (one.id.clone(), one)).collect();
    (all, malformed)
}

/// The present life of a container that was started anew, and so has several entries: those that run, or else the last.
fn present(mut lives: Vec<(i64, Container)>) -> Vec<Container> {
    let runs = |life: &(i64, Container)| life.1.state != ContainerState::Stopped;
    match lives.iter().any(runs) {
        true => lives.retain(runs),
        false => lives = lives.into_iter().max_by_key(|(created_at, _)| *created_at).into_iter().collect(),
    }
    lives.into_iter().map(|(_, one)| one).collect()
}

/// The pod itself, as an entry.
fn pod(sandbox: &api::PodSandbox, asked: &Asked, runtime: RuntimeName) -> Result<Container, Malformed> {
    let lacks = |part| Malformed { kind: "pod", part };
    let id = ContainerId::new(&*sandbox.id).ok_or(lacks("id"))?;
    let metadata = sandbox.metadata.as_ref().ok_or(lacks("name"))?;
    let usable = |text: &str| (is_name(text) && !text.contains('/')).then(|| text.to_owned());
    let pod = Pod {
        namespace: Some(usable(&metadata.namespace).ok_or(lacks("namespace"))?),
        name: usable(&metadata.name).ok_or(lacks("name"))?,
        uid: (!metadata.uid.is_empty()).then(|| metadata.uid.clone()),
    };
    let labels = labels(sandbox).collect();
    let created_at = u64::try_from(sandbox.created_at).ok().filter(|nanoseconds| *nanoseconds > 0);
    let started = created_at.map(|nanoseconds| UNIX_EPOCH + Duration::from_nanos(nanoseconds));
    let networks = multus::networks(&sandbox.annotations, &metadata.namespace);
    let netns = asked.netns.get(&sandbox.id).cloned();
    let entry = Container::new(id, pod.full_name(), runtime, ContainerState::Running, netns);
    Ok(Container { started, pod: Some(pod), labels, networks, ..entry })
}

/// The labels of a pod, and its annotations that say its own shaping: labels of Kubernetes have no room for words.
fn labels(sandbox: &api::PodSandbox) -> impl Iterator<Item = (String, String)> {
    let said = sandbox.annotations.iter().filter(|(key, _)| key.starts_with(LABEL_PREFIX));
    sandbox.labels.iter().chain(said).map(|(key, value)| (key.clone(), value.clone()))
}

/// A container of a pod, or nothing: one that was never started is none to us.
fn described(
    container: &api::Container,
    sandbox: &api::PodSandbox,
    pod: &Container,
    asked: &Asked,
) -> Result<Option<Container>, Malformed> {
    let lacks = |part| Malformed { kind: "container", part };
    let state = match container.state() {
        api::ContainerState::Created => return Ok(None),
        api::ContainerState::Running => ContainerState::Running,
        api::ContainerState::Exited | api::ContainerState::Unknown => ContainerState::Stopped,
    };
    let id = ContainerId::new(&*container.id).ok_or(lacks("id"))?;
    let name = container.metadata.as_ref().map(|metadata| &*metadata.name);
    let name = name.filter(|name| is_name(name) && !name.contains('/')).ok_or(lacks("name"))?;
    let netns = pod.netns.clone().filter(|_| state != ContainerState::Stopped);
    let labels = labels(sandbox).chain(container.labels.clone()).collect();
    let entry = Container::new(id, format!("{}/{name}", pod.name), pod.runtime, state, netns);
    let image = asked.images.get(&container.id).cloned().or_else(|| image(container));
    let started = pod.started.filter(|_| state != ContainerState::Stopped);
    Ok(Some(Container {
        started,
        image,
        labels,
        pod: pod.pod.clone(),
        networks: pod.networks.clone(),
        ..entry
    }))
}

/// The image's name as a list of containers has it.
fn image(container: &api::Container) -> Option<String> {
    let image = container.image.as_ref()?;
    let named = [&image.user_specified_image, &image.image];
    named.into_iter().find(|name| !name.is_empty()).cloned()
}

/// Tells whether a list of containers has only the digest of the image.
pub(super) fn lacks_image(container: &api::Container) -> bool {
    image(container).is_none_or(|image| image.starts_with("sha256:"))
}

/// The way to a pod's network namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// The file that names the namespace; none on the host's network.
    pub(super) path: Option<PathBuf>,
    /// The sandbox's process, where it has one.
    pub(super) pid: Option<i64>,
}

/// The `info` that containerd and CRI-O add to a verbose status of a sandbox.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    pid: i64,
    runtime_spec: Option<Spec>,
}

/// The specification of the sandbox's container, as the Open Container Initiative has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    r#type: String,
    path: PathBuf,
}

/// Reads the way to the network namespace from a verbose status.
///
/// # Errors
///
/// When what is there is not JSON, or not of the shape that all runtimes give it.
pub(super) fn way(status: &api::PodStatusResponse) -> Result<Way, serde_json::Error> {
    let Some(info) = status.info.get("info") else { return Ok(Way::default()) };
    let Info { pid, runtime_spec } = serde_json::from_str(info)?;
    let namespaces = runtime_spec.map(|spec| spec.linux.namespaces).unwrap_or_default();
    let network = namespaces.into_iter().find(|namespace| namespace.r#type == "network");
    let path = network.map(|namespace| namespace.path).filter(|path| path.is_absolute());
    // Where it is mounted for containers, and the older name leads nowhere.
    let path = path.map(|path| match path.strip_prefix("/var/run") {
        Ok(below) => PathBuf::from("/run").join(below),
        Err(_) => path,
    });
    Ok(Way { path, pid: (pid > 0).then_some(pid) })
}

#[cfg(test)]
mod tests;
