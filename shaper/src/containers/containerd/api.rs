//! The part of containerd's own API that is used: messages of `containerd.services` and `containerd.events`, with the
//! fields that are read.
//!
//! Declared here, as the published crate generates all of the API with `protoc` when it is built.

use std::collections::HashMap;

pub(super) const LIST_NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
pub(super) const LIST_CONTAINERS: &str = "/containerd.services.containers.v1.Containers/List";
pub(super) const LIST_TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
pub(super) const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";

/// A question without an argument.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Empty {}

/// `ListNamespacesResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    pub(super) namespaces: Vec<Namespace>,
}

/// `Namespace`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Namespace {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `ListContainersResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<Container>,
}

/// `Container`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(map = "string, string", tag = "2")]
    pub(super) labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub(super) image: String,
}

/// `ListTasksResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Tasks {
    #[prost(message, repeated, tag = "1")]
    pub(super) tasks: Vec<Process>,
}

/// `Process`; a task's `id` is that of its container.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Process {
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    #[prost(enumeration = "Status", tag = "4")]
    pub(super) status: i32,
}

/// `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Status {
    Unknown = 0,
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
    Pausing = 5,
}

/// `SubscribeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) filters: Vec<String>,
}

/// `Envelope`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Envelope {
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) topic: String,
    #[prost(message, optional, tag = "4")]
    pub(super) event: Option<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `TaskExit`, also of a process that was started later in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskExit {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(string, tag = "2")]
    pub(super) id: String,
}
