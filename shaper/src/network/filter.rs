//! Classifiers on a device's clsact hook.

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};

use super::{NetlinkError, Socket};

const ETH_P_ALL: u16 = 0x0003;

/// A side of a device, each of which has a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The packets that leave by it.
    Egress,
    /// The packets that it receives.
    Ingress,
}

impl Side {
    const fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Egress => TcHandle::MIN_EGRESS,
            Self::Ingress => TcHandle::MIN_INGRESS,
        };
        TcHandle { major: 0xffff, minor }
    }
}

/// A classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The kind, for example `bpf`.
    pub(crate) kind: String,
    /// Lower ones run first.
    pub(crate) priority: u16,
    /// The protocol it sees, in host order; `ETH_P_ALL` is 3.
    pub(crate) protocol: u16,
    /// The number among those that share a priority.
    pub(crate) handle: TcHandle,
    /// The name that its BPF program was given; empty if it has none.
    pub(crate) name: String,
    /// The BPF program it runs, if it is one.
    pub(crate) program_id: Option<u32>,
}

impl Filter {
    /// Returns true if a BPF classifier for all packets can be put at the same priority, in front of it.
    pub(crate) fn shares_priority_with_bpf(&self) -> bool {
        self.kind == "bpf" && self.protocol == ETH_P_ALL
    }
}

/// Returns true if anything sits on either hook of a device.
///
/// # Errors
///
/// The same as those of [`filters`].
pub(crate) fn has_filters(socket: &Socket, ifindex: u32) -> Result<bool, NetlinkError> {
    Ok(!filters(socket, ifindex, Side::Egress)?.is_empty()
        || !filters(socket, ifindex, Side::Ingress)?.is_empty())
}

/// The classifiers on the hook of a device's side, first things first.
///
/// # Errors
///
/// When the kernel does not list them; none are listed where there is no clsact.
pub(crate) fn filters(socket: &Socket, ifindex: u32, side: Side) -> Result<Vec<Filter>, NetlinkError> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = side.parent();
    let answers = socket.dump("list classifiers", RouteNetlinkMessage::GetTrafficFilter(message))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            // A handle of 0 stands for the priority itself, not for a classifier.
            RouteNetlinkMessage::NewTrafficFilter(message) if message.header.handle != TcHandle::UNSPEC => {
                Some(filter(&message))
            }
            _ => None,
        })
        .collect())
}

fn filter(message: &TcMessage) -> Filter {
    let info = message.header.info;
    let mut filter = Filter {
        kind: String::new(),
        priority: (info >> 16) as u16,
        protocol: u16::from_be((info & 0xffff) as u16),
        handle: message.header.handle,
        name: String::new(),
        program_id: None,
    };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => filter.kind.clone_from(kind),
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program_id = Some(*id),
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name.clone_from(name),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    filter
}

/// Removes a classifier from the hook of a device's side.
///
/// # Errors
///
/// When it is not there.
pub(crate) fn delete_filter(
    socket: &Socket,
    ifindex: u32,
    side: Side,
    filter: &Filter,
) -> Result<(), NetlinkError> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = side.parent();
    message.header.handle = filter.handle;
    message.header.info = (u32::from(filter.priority) << 16) | u32::from(filter.protocol.to_be());
    message.attributes.push(TcAttribute::Kind(filter.kind.clone()));
    let operation = || format!("delete the classifier of ifindex {ifindex}");
    socket.change(operation, RouteNetlinkMessage::DelTrafficFilter(message), 0)
}
