//! Pairs of devices that lead from one to the other.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
};
use nix::libc::{EAFNOSUPPORT, ENODEV};

use super::{NetlinkError, Socket};

/// The longest packet that a veth takes (`ETH_MAX_MTU`).
const LONGEST: u32 = 65_535;

/// Adds a pair of veths with these names in the socket's namespace, takes them into service, and says beside each that
/// it is there for `purpose`. No packet is sent on them by itself, and none is too long for them.
///
/// # Errors
///
/// `EEXIST` when there is a device with one of the names.
pub(crate) fn add_pair(socket: &Socket, names: [&str; 2], purpose: &str) -> Result<(), NetlinkError> {
    let [first, second] = names;
    let mut message = end(first);
    let veth = InfoData::Veth(InfoVeth::Peer(end(second)));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(veth)]));
    let operation = || format!("add the devices {first} and {second}");
    socket.change(operation, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
    for name in names {
        // Without an address of its own it announces none.
        let quiet = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![quiet]));
        let operation = || format!("keep {name} from sending");
        match socket.change(operation, RouteNetlinkMessage::SetLink(message), 0) {
            // The kernel has no IPv6, or the namespace does not.
            Err(error) if error.errno() != Some(EAFNOSUPPORT) => return Err(error),
            _ => {}
        }
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::IfAlias(purpose.to_owned()));
        let operation = || format!("take {name} into service");
        socket.change(operation, RouteNetlinkMessage::SetLink(message), 0)?;
    }
    Ok(())
}

/// Removes a device of the socket's namespace, and the other end of a pair with it; one that has gone is no error.
///
/// # Errors
///
/// When the kernel refuses.
pub(crate) fn delete_link(socket: &Socket, ifindex: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let operation = || format!("remove the device with ifindex {ifindex}");
    match socket.change(operation, RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if error.errno() != Some(ENODEV) => Err(error),
        _ => Ok(()),
    }
}

fn end(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(LONGEST),
        // As many as there are processors by default.
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    message
}
