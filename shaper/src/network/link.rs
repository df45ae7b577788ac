//! Network devices.

use std::os::fd::AsRawFd as _;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, Stats64,
    },
    nsid::{NsidAttribute, NsidMessage},
};
use nix::libc::{EINVAL, ENODEV};

use super::{NetlinkError, Netns, Socket};

/// Asks about a device of the namespace with this number (`include/uapi/linux/if_link.h`).
const IFLA_TARGET_NETNSID: u16 = 46;

/// The device at the other end of a veth, or below a macvlan or ipvlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The index in its own namespace.
    pub(crate) ifindex: u32,
    /// The number of its namespace as seen from the link's; none if it is the same namespace.
    pub(crate) nsid: Option<i32>,
}

/// A network device of the namespace that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The index, unique in its namespace only.
    pub(crate) ifindex: u32,
    /// The name.
    pub(crate) name: String,
    /// The kind of its driver; none for hardware.
    pub(crate) kind: Option<InfoKind>,
    /// True if it is an Ethernet-like device and no loopback.
    pub(crate) is_ethernet: bool,
    /// The link-layer address, which stays with it wherever it goes.
    pub(crate) address: Vec<u8>,
    /// Whom it is linked to.
    pub(crate) peer: Option<Peer>,
    /// The bridge or the like that it is a port of, by its index.
    pub(crate) master: Option<u32>,
    /// In packets; 0 is kept by devices that never had a queue.
    pub(crate) tx_queue_len: u32,
    /// The number of segments that it takes in one packet, to part them behind its hooks (GSO).
    pub(crate) gso_max_segs: u32,
    /// An operator's number for several devices; 0 by default.
    group: u32,
}

impl Link {
    /// Returns true for an end of a pair of devices, each of which receives what the other one sends.
    pub(crate) fn is_end_of_pair(&self) -> bool {
        matches!(self.kind, Some(InfoKind::Veth | InfoKind::Netkit))
    }
}

/// All devices of the socket's namespace.
///
/// # Errors
///
/// When the kernel does not list them.
pub(crate) fn links(socket: &Socket) -> Result<Vec<Link>, NetlinkError> {
    let answers = socket.dump("list network devices", RouteNetlinkMessage::GetLink(brief()))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(link(message)),
            _ => None,
        })
        .collect())
}

/// The device with this index in the socket's namespace, if there is one.
///
/// # Errors
///
/// When the kernel does not say.
pub(crate) fn link_at(socket: &Socket, ifindex: u32) -> Result<Option<Link>, NetlinkError> {
    let mut message = brief();
    message.header.index = ifindex;
    let operation = || format!("look at the network device with ifindex {ifindex}");
    match socket.one(operation, RouteNetlinkMessage::GetLink(message)) {
        Ok(Some(RouteNetlinkMessage::NewLink(message))) => Ok(Some(link(message))),
        Ok(_) => Ok(None),
        Err(error) if error.errno() == Some(ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The packets that a device of the socket's namespace has sent; none if it has gone.
///
/// # Errors
///
/// When the kernel does not say.
pub(crate) fn packets_sent(socket: &Socket, ifindex: u32) -> Result<Option<u64>, NetlinkError> {
    Ok(statistics(socket, ifindex, None)?.map(|statistics| statistics.tx_packets))
}

/// The packets that a device's peer, which may be in another namespace, has received; none if it has gone.
///
/// # Errors
///
/// The same as those of [`packets_sent`].
pub(crate) fn packets_received(socket: &Socket, peer: Peer) -> Result<Option<u64>, NetlinkError> {
    Ok(statistics(socket, peer.ifindex, peer.nsid)?.map(|statistics| statistics.rx_packets))
}

fn statistics(socket: &Socket, ifindex: u32, nsid: Option<i32>) -> Result<Option<Stats64>, NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    if let Some(nsid) = nsid {
        let target = DefaultNla::new(IFLA_TARGET_NETNSID, nsid.to_ne_bytes().to_vec());
        message.attributes.push(LinkAttribute::Other(target));
    }
    let operation = || format!("read the counters of the network device with ifindex {ifindex}");
    let message = match socket.one(operation, RouteNetlinkMessage::GetLink(message)) {
        Ok(Some(RouteNetlinkMessage::NewLink(message))) => message,
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.errno(), Some(ENODEV | EINVAL)) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(message.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(statistics) => Some(statistics),
        _ => None,
    }))
}

/// A question that leaves out what is counted, most of the answer.
fn brief() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn link(message: LinkMessage) -> Link {
    let header = &message.header;
    let mut link = Link {
        ifindex: header.index,
        name: String::new(),
        kind: None,
        is_ethernet: header.link_layer_type == LinkLayerType::Ether
            && !header.flags.contains(LinkFlags::Loopback),
        address: Vec::new(),
        peer: None,
        master: None,
        tx_queue_len: 0,
        gso_max_segs: 0,
        group: 0,
    };
    let (mut peer_ifindex, mut peer_nsid) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(address) => link.address = address,
            LinkAttribute::TxQueueLen(length) => link.tx_queue_len = length,
            LinkAttribute::GsoMaxSegs(segments) => link.gso_max_segs = segments,
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Controller(ifindex) => link.master = Some(ifindex),
            LinkAttribute::Link(ifindex) => peer_ifindex = Some(ifindex),
            LinkAttribute::LinkNetNsId(nsid) => peer_nsid = Some(nsid),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link.peer = peer_ifindex.map(|ifindex| Peer { ifindex, nsid: peer_nsid });
    link
}

/// The number by which the socket's namespace knows `netns`, if it knows it.
///
/// # Errors
///
/// When the kernel does not say.
pub(crate) fn netns_id_of(socket: &Socket, netns: &Netns) -> Result<Option<i32>, NetlinkError> {
    let mut message = NsidMessage::default();
    #[expect(clippy::cast_sign_loss, reason = "an open descriptor is not negative")]
    message.attributes.push(NsidAttribute::Fd(netns.file().as_raw_fd() as u32));
    let answer = socket
        .one(|| "ask for a network namespace's number".to_owned(), RouteNetlinkMessage::GetNsId(message))?;
    let Some(RouteNetlinkMessage::NewNsId(message)) = answer else { return Ok(None) };
    Ok(message.attributes.iter().find_map(|attribute| match attribute {
        // NETNSA_NSID_NOT_ASSIGNED is -1.
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    }))
}

/// Sets a device's transmit queue length, in packets.
///
/// # Errors
///
/// When the device has gone.
pub(crate) fn set_tx_queue_len(socket: &Socket, ifindex: u32, length: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(LinkAttribute::TxQueueLen(length));
    let operation = || format!("set the transmit queue length of ifindex {ifindex} to {length}");
    socket.change(operation, RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets how many segments a device takes in one packet, for connections that there are, too.
///
/// # Errors
///
/// When the device has gone, or does not take so many.
pub(crate) fn set_gso_max_segs(socket: &Socket, link: &Link, segments: u32) -> Result<(), NetlinkError> {
    let ifindex = link.ifindex;
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(LinkAttribute::GsoMaxSegs(segments));
    // A connection looks at the limit when it looks up its route (sk_setup_caps), which it does again once something
    // about the device has changed. The limit is not such a thing; the group is, even if it stays (do_setlink).
    message.attributes.push(LinkAttribute::Group(link.group));
    let operation = || format!("let ifindex {ifindex} take {segments} segments in one packet");
    socket.change(operation, RouteNetlinkMessage::SetLink(message), 0)
}
