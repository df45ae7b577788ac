//! What is asked of and done to one packet (`struct __sk_buff`).

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{bpf_clone_redirect, bpf_sk_fullsock},
    programs::TcContext,
};
use shaper_common::Tally;

const ETHERNET_HEADER: u32 = 14;
const IPPROTO_TCP: u32 = 6;
const ETH_P_IP: u32 = (0x0800_u16).to_be() as u32;
const ETH_P_IPV6: u32 = (0x86dd_u16).to_be() as u32;
/// `include/uapi/linux/pkt_sched.h`.
const TC_PRIO_MAX: u32 = 15;
const TC_PRIO_INTERACTIVE: u32 = 6;
const TC_PRIO_CONTROL: u32 = 7;

/// What became of a packet's copy without a socket.
pub(crate) enum Orphaned {
    /// It went through the hook and into the queue.
    Sent,
    /// It went through the hook, and something behind it dropped it.
    Dropped,
    /// There is none.
    Failed,
}

#[inline(always)]
fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

/// What the packet counts for.
#[inline(always)]
pub(crate) fn tally(ctx: &TcContext) -> Tally {
    let skb = skb(ctx);
    // SAFETY: the context is valid while the program runs.
    let segments = unsafe { (*skb).gso_segs };
    // SAFETY: as above.
    let bytes = unsafe { (*skb).wire_len };
    Tally { packets: if segments == 0 { 1 } else { u64::from(segments) }, bytes: u64::from(bytes) }
}

/// The departure time the packet came with, in nanoseconds; 0 if none.
#[inline(always)]
pub(crate) fn stamp_ns(ctx: &TcContext) -> u64 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb(ctx)).tstamp }
}

/// Sets the packet's departure, in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn depart_at(ctx: &TcContext, departure_ns: u64) {
    let skb = skb(ctx);
    // SAFETY: the context is valid while the program runs, and tc may write its tstamp.
    unsafe { (*skb).tstamp = departure_ns };
    // SAFETY: as above.
    let priority = unsafe { (*skb).priority };
    // fq lets control traffic out at once, whatever its stamp (`fq_classify`, up to Linux 6.6).
    if priority & TC_PRIO_MAX == TC_PRIO_CONTROL {
        // SAFETY: as above, for priority.
        unsafe { (*skb).priority = (priority & !TC_PRIO_MAX) | TC_PRIO_INTERACTIVE };
    }
}

/// Whether a socket is charged for the packet in a way that would hold its sender back.
///
/// A pure acknowledgement is not: TCP charges its socket next to nothing for it (`__tcp_send_ack`).
#[inline(always)]
pub(crate) fn waits_on_a_socket(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (*skb(ctx)).__bindgen_anon_2 };
    // SAFETY: the union's one member; the kernel gives null where there is no socket.
    let sk = unsafe { socket.sk };
    if sk.is_null() {
        return false;
    }
    // SAFETY: the verifier has seen that it is not null; what is not a full socket (a connection just being made,
    // TIME_WAIT) gives null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return false;
    }
    // SAFETY: as above.
    let protocol = unsafe { (*sk).protocol };
    protocol != IPPROTO_TCP || tcp_payload(ctx)
}

/// Whether a TCP packet carries data; what cannot be read counts as data.
#[inline(always)]
fn tcp_payload(ctx: &TcContext) -> bool {
    let skb = skb(ctx);
    // SAFETY: the context is valid while the program runs.
    let protocol = unsafe { (*skb).protocol };
    let ip_header = match protocol {
        ETH_P_IP => {
            let Ok(first) = ctx.load::<u8>(ETHERNET_HEADER as usize) else {
                return true;
            };
            u32::from(first & 0x0f) * 4
        }
        ETH_P_IPV6 => 40,
        _ => return true,
    };
    let Ok(offset) = ctx.load::<u8>((ETHERNET_HEADER + ip_header + 12) as usize) else {
        return true;
    };
    ctx.len() > ETHERNET_HEADER + ip_header + u32::from(offset >> 4) * 4
}

/// Sends a copy of the packet, which belongs to no socket, through the same hook of the same device.
///
/// Packets that wait in fq stay charged to their socket, and TCP small queues then stop the sender; netem orphans
/// its packets for the same reason (`netem_enqueue`).
#[inline(always)]
pub(crate) fn orphan(ctx: &TcContext) -> Orphaned {
    let skb = skb(ctx);
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    // SAFETY: the context is the kernel's own.
    let sent = unsafe { bpf_clone_redirect(skb, ifindex, 0) };
    // Negative when the copy was not made or not sent, else what `dev_queue_xmit` says of it: 1 is NET_XMIT_DROP.
    match sent {
        0 | 2 => Orphaned::Sent,
        1 => Orphaned::Dropped,
        _ => Orphaned::Failed,
    }
}
