//! Queueing disciplines: `fq` and `clsact`, and whatever else sits on a device.
//!
//! netlink-packet-route knows neither of the two, so their attributes are spelled out here and nowhere else.

use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2},
};

use nix::libc::{ENODEV, ENOENT};

use super::{NetlinkError, Socket};

/// The handle that our `fq` has, which tells it from anybody else's: `5a9e:`.
const FQ_HANDLE: TcHandle = TcHandle { major: 0x5a9e, minor: 0 };

// `include/uapi/linux/pkt_sched.h`.
const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_FLOW_PLIMIT: u16 = 2;
const TCA_FQ_QUANTUM: u16 = 3;
const TCA_FQ_INITIAL_QUANTUM: u16 = 4;
const TCA_FQ_RATE_ENABLE: u16 = 5;
const TCA_FQ_ORPHAN_MASK: u16 = 10;
const TCA_FQ_TIMER_SLACK: u16 = 13;
const TCA_FQ_HORIZON: u16 = 14;
const TCA_FQ_HORIZON_DROP: u16 = 15;

/// The most bytes that a flow may send before the next one is asked: 1 MiB (`fq_policy`, Linux 6.1).
const MAX_QUANTUM: u32 = 1 << 20;

/// The number of flows that packets without a socket can be of, less one; a power of two.
const MAX_ORPHAN_FLOW: u32 = (1 << 20) - 1;

/// The limits of our `fq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FqLimits {
    /// Packets, of one flow as of all: a single connection may fill the queue.
    pub(crate) packets: u32,
    /// Packets that would depart later than this from now are dropped.
    pub(crate) horizon: Duration,
}

/// A queueing discipline of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Qdisc {
    /// The kind, for example `noqueue`.
    pub(crate) kind: String,
    /// The handle; 0 if it is the kernel's default.
    pub(crate) handle: TcHandle,
    /// Packets that wait in it now.
    pub(crate) waiting: u32,
    /// Packets that it dropped.
    pub(crate) dropped: u32,
}

impl Qdisc {
    /// Returns true if it is, at a root, the one that we grafted.
    pub(crate) fn is_our_fq(&self) -> bool {
        self.kind == "fq" && self.handle == FQ_HANDLE
    }
}

/// The qdisc at a device's root; none where the device is down or has gone.
///
/// # Errors
///
/// When the kernel does not say.
pub(crate) fn root(socket: &Socket, ifindex: u32) -> Result<Option<Qdisc>, NetlinkError> {
    qdisc_at(socket, ifindex, TcHandle::ROOT)
}

/// Returns the qdisc in the place of the hook for classifiers, be it clsact or ingress; none if there is none.
///
/// # Errors
///
/// When the kernel does not say.
pub(crate) fn hook(socket: &Socket, ifindex: u32) -> Result<Option<Qdisc>, NetlinkError> {
    qdisc_at(socket, ifindex, TcHandle::CLSACT)
}

/// Asks for one qdisc: a list would be of all devices of the namespace, which on a host are many.
fn qdisc_at(socket: &Socket, ifindex: u32, parent: TcHandle) -> Result<Option<Qdisc>, NetlinkError> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = parent;
    let operation = || format!("look at the qdiscs of ifindex {ifindex}");
    match socket.one(operation, RouteNetlinkMessage::GetQueueDiscipline(message)) {
        Ok(Some(RouteNetlinkMessage::NewQueueDiscipline(message))) => Ok(Some(qdisc(&message))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.errno(), Some(ENOENT | ENODEV)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn qdisc(message: &TcMessage) -> Qdisc {
    let handle = message.header.handle;
    let mut qdisc = Qdisc { kind: String::new(), handle, waiting: 0, dropped: 0 };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => qdisc.kind.clone_from(kind),
            TcAttribute::Stats2(stats) => {
                for stat in stats {
                    if let TcStats2::Queue(queue) = stat {
                        qdisc.waiting = queue.qlen;
                        qdisc.dropped = queue.drops;
                    }
                }
            }
            _ => {}
        }
    }
    qdisc
}

/// Adds the hook for classifiers, where there is none.
///
/// # Errors
///
/// `EEXIST` when there is one, or an ingress qdisc in its place.
pub(crate) fn add_clsact(socket: &Socket, ifindex: u32) -> Result<(), NetlinkError> {
    let message =
        message(ifindex, TcHandle::CLSACT, TcHandle { major: 0xffff, minor: 0 }, "clsact", Vec::new());
    let operation = || format!("add a clsact qdisc to ifindex {ifindex}");
    socket.change(operation, RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes the hook, and with it all classifiers on it.
///
/// # Errors
///
/// When there is none, or the device has gone.
pub(crate) fn delete_clsact(socket: &Socket, ifindex: u32) -> Result<(), NetlinkError> {
    let message =
        message(ifindex, TcHandle::CLSACT, TcHandle { major: 0xffff, minor: 0 }, "clsact", Vec::new());
    let operation = || format!("delete the clsact qdisc of ifindex {ifindex}");
    socket.change(operation, RouteNetlinkMessage::DelQueueDiscipline(message), 0)
}

/// Makes `fq`, with our handle, the device's root in place of the kernel's default.
///
/// # Errors
///
/// `ENOENT` when the kernel has no `fq`, `EEXIST` when another qdisc has the handle.
pub(crate) fn add_fq(socket: &Socket, ifindex: u32, limits: FqLimits) -> Result<(), NetlinkError> {
    let operation = || format!("add an fq qdisc to ifindex {ifindex}");
    let message = message(ifindex, TcHandle::ROOT, FQ_HANDLE, "fq", fq_options(limits));
    socket.change(operation, RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes our `fq`, and with it what waits in it; the kernel puts its default in its place.
///
/// # Errors
///
/// When it is not there.
pub(crate) fn delete_root(socket: &Socket, ifindex: u32) -> Result<(), NetlinkError> {
    let operation = || format!("delete the fq qdisc of ifindex {ifindex}");
    let message = message(ifindex, TcHandle::ROOT, FQ_HANDLE, "fq", Vec::new());
    socket.change(operation, RouteNetlinkMessage::DelQueueDiscipline(message), 0)
}

fn fq_options(limits: FqLimits) -> Vec<TcOption> {
    let horizon_us = u32::try_from(limits.horizon.as_micros()).unwrap_or(u32::MAX);
    let u32s = [
        (TCA_FQ_PLIMIT, limits.packets),
        (TCA_FQ_FLOW_PLIMIT, limits.packets),
        // A flow that is due sends all that is due before the next one does: order matters here, fairness does not.
        (TCA_FQ_QUANTUM, MAX_QUANTUM),
        (TCA_FQ_INITIAL_QUANTUM, MAX_QUANTUM),
        // fq would mark every socket it sees as paced by fq, and not pace what has left its socket.
        (TCA_FQ_RATE_ENABLE, 0),
        // A packet that may overtake others is a flow of its own, and must not share that of one that waits.
        (TCA_FQ_ORPHAN_MASK, MAX_ORPHAN_FLOW),
        (TCA_FQ_TIMER_SLACK, 0),
        (TCA_FQ_HORIZON, horizon_us),
    ];
    let mut options: Vec<_> =
        u32s.into_iter().map(|(kind, value)| DefaultNla::new(kind, value.to_ne_bytes().to_vec())).collect();
    options.push(DefaultNla::new(TCA_FQ_HORIZON_DROP, vec![1]));
    options.into_iter().map(TcOption::Other).collect()
}

fn message(
    ifindex: u32,
    parent: TcHandle,
    handle: TcHandle,
    kind: &str,
    options: Vec<TcOption>,
) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = parent;
    message.header.handle = handle;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    if !options.is_empty() {
        message.attributes.push(TcAttribute::Options(options));
    }
    message
}
