//! What is asked of and done to one packet (`struct __sk_buff`).

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{bpf_clone_redirect, bpf_sk_fullsock, bpf_tcp_sock},
    programs::TcContext,
};
use shaper_common::{Policy, Tally};

use crate::queue;

const ETHERNET_HEADER: u32 = 14;
/// The longest that a copy may be on its way back here: 100 microseconds.
const COPY_TAKES_NS: u64 = 100_000;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
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

/// Whether the packet has to leave its socket before it waits, as it would hold its sender back.
#[inline(always)]
pub(crate) fn must_leave_its_socket(ctx: &TcContext, policy: &Policy, now_ns: u64) -> bool {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (*skb(ctx)).__bindgen_anon_2 };
    // SAFETY: the union's one member; the kernel gives null where there is no socket.
    let sk = unsafe { socket.sk };
    if sk.is_null() {
        return false;
    }
    // SAFETY: the verifier has seen that it is not null; what is no TCP connection gives null.
    let tcp = unsafe { bpf_tcp_sock(sk) };
    if !tcp.is_null() {
        return is_retransmittable(ctx);
    }
    // SAFETY: as for TCP; what is not a full socket (a connection just being made, TIME_WAIT) gives null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    !sk.is_null() && !queue::stays_charged(ctx.len(), now_ns, policy.delay_ns)
}

/// Whether TCP would send the packet again: it carries data, or begins or ends a connection. What cannot be read counts.
///
/// Small queues (`tcp_small_queue_check`, Linux 6.1) would stop the connection while it waits, and TCP does not send again
/// what it sees wait in the host (`skb_still_in_host_queue`), as it cannot in a network. A pure acknowledgement is
/// charged next to nothing (`__tcp_send_ack`).
#[inline(always)]
fn is_retransmittable(ctx: &TcContext) -> bool {
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
    let Ok([offset, flags]) = ctx.load::<[u8; 2]>((ETHERNET_HEADER + ip_header + 12) as usize) else {
        return true;
    };
    flags & (TCP_FIN | TCP_SYN) != 0 || ctx.len() > ETHERNET_HEADER + ip_header + u32::from(offset >> 4) * 4
}

/// When the packet came here first, where it comes again as the copy of one that left its socket; else `now_ns`.
///
/// Making the copy takes some microseconds, which are no part of the delay. What others left in the packet's control
/// block is no time that has just been.
#[inline(always)]
pub(crate) fn came_at_ns(ctx: &TcContext, now_ns: u64) -> u64 {
    // SAFETY: the context is valid while the program runs, and its control block has 20 bytes from a multiple of 8 on.
    let noted_ns = unsafe { control_block(ctx).read() };
    if now_ns.wrapping_sub(noted_ns) < COPY_TAKES_NS { noted_ns } else { now_ns }
}

#[inline(always)]
fn control_block(ctx: &TcContext) -> *mut u64 {
    // SAFETY: as for any field of the context; only its address is taken.
    unsafe { (&raw mut (*skb(ctx)).cb).cast() }
}

/// Sends a copy of the packet, which belongs to no socket, through the same hook of the same device.
///
/// Packets that wait in fq stay charged to their socket, and TCP small queues then stop the sender; netem orphans
/// its packets for the same reason (`netem_enqueue`).
#[inline(always)]
pub(crate) fn orphan(ctx: &TcContext, now_ns: u64) -> Orphaned {
    let skb = skb(ctx);
    // SAFETY: as in `came_at_ns`; a classifier may write the control block, and the copy has it, too.
    unsafe { control_block(ctx).write(now_ns) };
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
