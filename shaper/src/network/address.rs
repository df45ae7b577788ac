//! Addresses of a namespace's devices.

use std::net::IpAddr;

use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
};

use super::{NetlinkError, Socket};

/// The addresses of the socket's namespace that are of global scope, of IPv4 and IPv6, each with its device's index.
///
/// # Errors
///
/// When the kernel does not list them.
pub(crate) fn addresses(socket: &Socket) -> Result<Vec<(u32, IpAddr)>, NetlinkError> {
    let answers =
        socket.dump("list addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => {
                global(message).map(|address| (message.header.index, address))
            }
            _ => None,
        })
        .collect())
}

fn global(message: &AddressMessage) -> Option<IpAddr> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    // IPv6 has no local one but where there are two; then the other one is the peer's.
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}
