//! Makes devices what they were.

use shaper_common::Original;

use super::{
    attachment::{Present, our_queue},
    segments,
    survey::Device,
};
use crate::network::{
    NetlinkError, Socket, delete_clsact, delete_filter, delete_root, has_filters, link_at, set_tx_queue_len,
};

/// The length that a device gets with its first qdisc (`include/net/pkt_sched.h`, `net/sched/sch_api.c`).
const DEFAULT_TX_QUEUE_LEN: u32 = 1_000;

/// Makes a device in the calling thread's namespace what it was.
///
/// # Errors
///
/// When the kernel refuses; what is not there needs no taking off.
pub(super) fn take_off(
    socket: &Socket,
    device: &Device,
    program_id: Option<u32>,
    original: Original,
) -> Result<(), NetlinkError> {
    take_queue(socket, device, original)?;
    let present = Present::read(socket, device)?;
    if let Some(filter) = program_id.and_then(|id| present.runs(id)) {
        delete_filter(socket, device.ifindex, filter)?;
    }
    let was_there = original.clsact != 0;
    if present.hook.is_some() && !was_there && !has_filters(socket, device.ifindex)? {
        delete_clsact(socket, device.ifindex)?;
    }
    restore_length(socket, device, original)?;
    segments::release(socket, device, original.gso_max_segs)
}

/// Takes our queue off a device, and what waits in it.
pub(super) fn take_queue(socket: &Socket, device: &Device, original: Original) -> Result<(), NetlinkError> {
    if our_queue(socket, device)?.is_none() {
        return Ok(());
    }
    delete_root(socket, device.ifindex)?;
    restore_length(socket, device, original)
}

/// Docker's veths have no queue length: a new qdisc, clsact too, gave them the default one (`qdisc_create`). Whoever took
/// the qdisc away, and whether that was cut short before this, the length is given back; another one is somebody's.
fn restore_length(socket: &Socket, device: &Device, original: Original) -> Result<(), NetlinkError> {
    let Some(link) = link_at(socket, device.ifindex)? else { return Ok(()) };
    if original.tx_queue_len == 0 && link.tx_queue_len == DEFAULT_TX_QUEUE_LEN {
        return set_tx_queue_len(socket, device.ifindex, 0);
    }
    Ok(())
}
