//! Makes pods and containers through CRI v1, as the kubelet does.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use hyper::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::FULL_IMAGE;

/// A client of CRI.
#[derive(Debug)]
pub struct Pods {
    runtime: Runtime,
    channel: Channel,
}

/// A pod that runs, until it is removed.
#[derive(Debug)]
pub struct Pod {
    /// The id of its sandbox.
    pub id: String,
    config: PodConfig,
}

impl Pods {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket: Arc<Path> = socket.into();
        let connector = service_fn(move |_| {
            let socket = Arc::clone(&socket);
            async move { io::Result::Ok(TokioIo::new(UnixStream::connect(&*socket).await?)) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime.block_on(endpoint.connect_with_connector(connector));
        let channel = channel.context("connect with containerd")?;
        Ok(Self { runtime, channel })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ask::<_, Nothing>("ListPodSandbox", Nothing {}).is_ok()
    }

    /// Starts a pod without containers, on the bridge or on the host's network.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn run(&self, namespace: &str, name: &str, labels: &[(&str, &str)], on_host: bool) -> Result<Pod> {
        // The mode of the node's network is 2.
        let options = NamespaceOption { network: if on_host { 2 } else { 0 } };
        let security_context = Some(SecurityContext { namespace_options: Some(options) });
        let linux = Some(LinuxPod { security_context });
        self.run_as(namespace, name, PodConfig { labels: owned(labels), linux, ..PodConfig::default() })
    }

    /// Starts a pod without containers, with annotations, on the bridge.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn run_annotated(&self, namespace: &str, name: &str, annotations: &[(&str, &str)]) -> Result<Pod> {
        let annotations = owned(annotations);
        self.run_as(namespace, name, PodConfig { annotations, ..PodConfig::default() })
    }

    fn run_as(&self, namespace: &str, name: &str, config: PodConfig) -> Result<Pod> {
        let metadata = PodMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: namespace.to_owned(),
        };
        let config = PodConfig { metadata: Some(metadata), ..config };
        let question = RunPod { config: Some(config.clone()) };
        let PodId { id } = self.ask("RunPodSandbox", question)?;
        Ok(Pod { id, config })
    }

    /// Starts a container in a pod, which sleeps, and returns its id.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(&self, pod: &Pod, name: &str, attempt: u32, labels: &[(&str, &str)]) -> Result<String> {
        self.start_as(pod, name, attempt, owned(labels), "sleep 1000000")
    }

    /// Starts a container in a pod, which runs a line of shell, and returns its id.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start_running(&self, pod: &Pod, name: &str, line: &str) -> Result<String> {
        self.start_as(pod, name, 0, owned(&[]), line)
    }

    fn start_as(
        &self,
        pod: &Pod,
        name: &str,
        attempt: u32,
        labels: HashMap<String, String>,
        line: &str,
    ) -> Result<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt }),
            image: Some(Image { image: FULL_IMAGE.to_owned() }),
            command: ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
            labels,
        };
        let question = CreateContainer {
            pod: pod.id.clone(),
            config: Some(config),
            pod_config: Some(pod.config.clone()),
        };
        let Id { id } = self.ask("CreateContainer", question)?;
        self.ask::<_, Nothing>("StartContainer", Id { id: id.clone() })?;
        Ok(id)
    }

    /// Kills a container, of which an entry stays.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn stop(&self, container: &str) -> Result<()> {
        self.ask::<_, Nothing>("StopContainer", Id { id: container.to_owned() }).map(drop)
    }

    /// Removes a pod with all its containers.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove(&self, pod: &Pod) -> Result<()> {
        let id = || PodId { id: pod.id.clone() };
        self.ask::<_, Nothing>("StopPodSandbox", id())?;
        self.ask::<_, Nothing>("RemovePodSandbox", id()).map(drop)
    }

    fn ask<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &str,
        question: Q,
    ) -> Result<A> {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"))?;
        let answer = self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await?;
            let answer = client.unary(Request::new(question), path, ProstCodec::default()).await?;
            anyhow::Ok(answer.into_inner())
        });
        answer.with_context(|| format!("{method} of containerd"))
    }
}

fn owned(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Any message of which nothing is read or written.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "7")]
    annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPod>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPod {
    #[prost(message, optional, tag = "2")]
    security_context: Option<SecurityContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
}
