//! The reasons why a container or its host does not admit a shaping.

use std::path::PathBuf;

use thiserror::Error;

use super::Protected;

/// A reason, with what to do about it.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// Nothing connects the container to the outside.
    #[error("it has no network interface that leads out of it: it has {}", listed(left_out))]
    NoInterface {
        /// The interfaces that there are, with their kinds.
        left_out: Vec<String>,
    },
    /// No interface of the container is among those that were chosen.
    #[error("it has no interface {chosen}: it has {}", listed(has))]
    NoSuchInterface {
        /// The choice.
        chosen: String,
        /// The interfaces that there are.
        has: Vec<String>,
    },
    /// Networks were chosen for a container of which no runtime tells any.
    #[error(
        "no runtime tells which networks it is connected to, so {chosen} cannot be found: choose its interfaces by name \
         (--interface NAME)"
    )]
    NoNetworks {
        /// The choice.
        chosen: String,
    },
    /// More interfaces than there can be.
    #[error(
        "{count} of its interfaces were to be shaped, and at most {most} can be: choose some with --interface NAME, for \
         example --interface {example}"
    )]
    TooManyInterfaces {
        /// The number of interfaces.
        count: usize,
        /// The most that can be shaped.
        most: usize,
        /// One of them.
        example: String,
    },
    /// The container's network is the host's.
    #[error(
        "it shares the host's network (--network host): shaping it would shape the whole host. Give it a network of its \
         own"
    )]
    HostNetwork,
    /// The daemon is not in the network of the container's host.
    #[error(
        "not its host's network: the other ends of its veths are in the first process's network namespace, and this \
         daemon is in another. Start it with --net=host (Kubernetes: hostNetwork: true)"
    )]
    OtherHost,
    /// The processes of the container cannot be seen.
    #[error("container {container}: {UNSEEN}")]
    Unseen {
        /// The container.
        container: String,
    },
    /// The container is one that is not shaped by accident.
    // Scope shows the first 24 characters beside the buttons.
    #[error("protected: {reason}. To shape {container} nevertheless, write its id, or --force")]
    Protected {
        /// The container.
        container: String,
        /// The reason.
        reason: Protected,
    },
    /// There are as many rules as there may be.
    #[error("there are {most} rules, and may not be more: `shaper rules remove` takes some away")]
    TooManyRules {
        /// The bound.
        most: usize,
    },
    /// The rule is in a file.
    #[error("rule {name} is in {}: change it there", file.display())]
    RuleOfFile {
        /// The rule.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// The daemon does not see what it has to.
    #[error("{reason}")]
    Blind {
        /// The reason, with the options that help.
        reason: String,
    },
    /// There is nowhere to pin.
    #[error(
        "no bpffs is mounted at {}, where shaping is pinned: `mount -t bpf -o mode=0700 bpf /sys/fs/bpf`",
        pins.display()
    )]
    NoBpffs {
        /// The pin directory.
        pins: PathBuf,
    },
    /// Another daemon pins there.
    #[error("another shaper daemon pins in {}: stop it, or give each its own --pin-dir", pins.display())]
    PinsTaken {
        /// The pin directory.
        pins: PathBuf,
    },
    /// Other users could change what is pinned.
    #[error("the pin directory {} is not safe: {reason}, or give another --pin-dir", pins.display())]
    PinsUnsafe {
        /// The pin directory.
        pins: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The pins there belong to another host.
    #[error(
        "not the host of the pins: what {} has was pinned in {recorded}, and this daemon is in {own}. Start it with \
         {options}. If that host has ended, remove {}",
        pins.display(),
        record.display()
    )]
    PinsOfOtherHost {
        /// The pin directory.
        pins: PathBuf,
        /// The host's namespaces.
        recorded: String,
        /// The daemon's namespaces.
        own: String,
        /// The options that start it in the host's.
        options: String,
        /// The file that records them.
        record: PathBuf,
    },
    /// The kernel has no `fq`.
    // Scope shows the first 24 characters beside the buttons.
    #[error("no fq: modprobe sch_fq (CONFIG_NET_SCH_FQ). A delay needs this queue, a loss alone does not")]
    NoFq,
    /// Our queue's handle is another qdisc's.
    #[error("a qdisc of {device} has the handle that ours needs: `tc qdisc show dev {device}`")]
    HandleTaken {
        /// The device.
        device: String,
    },
    /// Another qdisc is where clsact would be.
    #[error(
        "{device} has a qdisc {kind} where the clsact hook would be: remove it (`tc qdisc del dev {device} {kind}`)"
    )]
    HookTaken {
        /// The device.
        device: String,
        /// The qdisc's kind.
        kind: String,
    },
    /// Another classifier has the first priority.
    #[error(
        "{device} has a {kind} classifier at priority {priority}, before which ours cannot run: give it another \
         priority (`tc filter show dev {device} egress`)"
    )]
    PriorityTaken {
        /// The device.
        device: String,
        /// The classifier's kind.
        kind: String,
        /// The first priority.
        priority: u16,
    },
    /// A delay would replace a root qdisc of somebody else.
    #[error(
        "{device} already has a root qdisc, {kind} {major:x}:, and a delay would replace it. Remove it (`tc qdisc del \
         dev {device} root`), or ask for loss alone"
    )]
    QueueTaken {
        /// The device.
        device: String,
        /// The qdisc's kind.
        kind: String,
        /// The first part of its handle.
        major: u16,
    },
    /// Packets reach the container and not the classifier.
    #[error(
        "packets do not reach the classifier on {device}, as an XDP program on the interface takes them: detach it (`ip \
         link show`), or shape what the container's peers send"
    )]
    Bypassed {
        /// The device.
        device: String,
    },
    /// A TCX program would run before a classifier.
    #[error(
        "{device}: {program} runs before any classifier and may keep ours from running: detach it (`bpftool net \
         show`), or have the daemon use the same hook (`shaper serve --hook tcx`), then clear and set again"
    )]
    TcxFirst {
        /// The device.
        device: String,
        /// The program.
        program: String,
    },
    /// A host's name in a target stands for no address.
    #[error(
        "host:{host} has no address by which packets could be told: {reason}. Names are looked up in /etc/hosts and \
         from the name servers of /etc/resolv.conf, where the daemon runs"
    )]
    NoAddress {
        /// The name.
        host: String,
        /// The reason.
        reason: String,
    },
}

/// The reason why a container whose processes cannot be seen is not shaped.
pub(crate) const UNSEEN: &str = "its processes cannot be seen from here: run the daemon with --pid=host (Kubernetes: \
                                 hostPID: true) and CAP_SYS_PTRACE";

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
}
