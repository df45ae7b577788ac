//! The clsact qdisc that is added for classifiers, and the queue length that a device gets with it.

use shaper_common::Original;

use super::device::Device;
use crate::network::{NetlinkError, Socket, delete_clsact, has_filters, hook, link_at, set_tx_queue_len};

/// The length that a device gets with its first qdisc (`include/net/pkt_sched.h`, `net/sched/sch_api.c`).
pub(super) const DEFAULT_TX_QUEUE_LEN: u32 = 1_000;

/// Takes the clsact that was added for a classifier off a device, unless there is another classifier.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn take_off(socket: &Socket, device: &Device, original: Original) -> Result<(), NetlinkError> {
    let is_own = original.hook == Original::OWN_CLSACT;
    if is_own && hook(socket, device.ifindex)?.is_some() && !has_filters(socket, device.ifindex)? {
        delete_clsact(socket, device.ifindex)?;
    }
    restore_length(socket, device, original)
}

/// Docker's veths have no queue length: a new qdisc, clsact too, gave them the default one (`qdisc_create`). Whoever took
/// the qdisc away, and whether that was cut short before this, the length is given back; another one is somebody's.
pub(super) fn restore_length(
    socket: &Socket,
    device: &Device,
    original: Original,
) -> Result<(), NetlinkError> {
    let Some(link) = link_at(socket, device.ifindex)? else { return Ok(()) };
    if original.tx_queue_len == 0 && link.tx_queue_len == DEFAULT_TX_QUEUE_LEN {
        return set_tx_queue_len(socket, device.ifindex, 0);
    }
    Ok(())
}
