//! Routes of a namespace.

use std::collections::BTreeSet;

use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage, RouteType},
};

use super::{NetlinkError, Socket};

/// The indices of the devices that default routes of the socket's namespace lead over, of IPv4 and IPv6.
///
/// # Errors
///
/// When the kernel does not list its routes.
pub(crate) fn default_route_devices(socket: &Socket) -> Result<BTreeSet<u32>, NetlinkError> {
    let answers = socket.dump("list routes", RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
    let defaults = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) if is_default(&route) => Some(route.attributes),
        _ => None,
    });
    Ok(defaults.flatten().flat_map(devices).collect())
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
}

fn devices(attribute: RouteAttribute) -> Vec<u32> {
    match attribute {
        RouteAttribute::Oif(ifindex) => vec![ifindex],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    }
}
