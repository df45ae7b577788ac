//! What is asked of and done to one packet (`struct __sk_buff`).

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{bpf_clone_redirect, bpf_sk_fullsock, bpf_skb_ecn_set_ce, bpf_tcp_sock},
    programs::TcContext,
};
use shaper_common::Tally;

use crate::queue;

pub(crate) const ETHERNET_HEADER: u32 = 14;
/// The longest that a copy may be on its way back here: 100 microseconds.
const COPY_TAKES_NS: u64 = 100_000;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
pub(crate) const ETH_P_IP: u32 = (0x0800_u16).to_be() as u32;
pub(crate) const ETH_P_IPV6: u32 = (0x86dd_u16).to_be() as u32;
/// What the third and fourth word of a copy's control block say: random numbers, to be told from what others left there.
const DEPARTURE: u64 = 0x5a9e_c093_71d2_4fe5;
const DUPLICATE: u64 = 0x5a9e_c093_8b06_e31f;
/// `include/uapi/linux/pkt_sched.h`.
const TC_PRIO_MAX: u32 = 15;
const TC_PRIO_INTERACTIVE: u32 = 6;
const TC_PRIO_CONTROL: u32 = 7;

/// The size of segments that says that each is a packet of a list instead (`include/linux/skbuff.h`).
const GSO_BY_FRAGS: u32 = 0xffff;

/// What became of a packet's copy without a socket.
pub(crate) enum Orphaned {
    /// It went through the hook and into the queue.
    Sent,
    /// It went through the hook, and something behind it dropped it.
    Dropped,
    /// There is none.
    Failed,
}

/// What a packet that comes here is.
pub(crate) enum Note {
    /// No copy that was made here.
    None,
    /// The copy of a packet that left its socket, which departs then.
    Departure(u64),
    /// The second one of two.
    Duplicate,
}

#[inline(always)]
pub(crate) fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

/// What the packet counts for.
#[inline(always)]
pub(crate) fn tally(ctx: &TcContext) -> Tally {
    let segments = gso_segments(ctx);
    Tally { packets: if segments == 0 { 1 } else { u64::from(segments) }, bytes: u64::from(wire_bytes(ctx)) }
}

/// How many bytes it has as the kernel counts them (`qdisc_pkt_len_init`, Linux 6.1): the headers of each segment included.
#[inline(always)]
pub(crate) fn wire_bytes(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb(ctx)).wire_len }
}

/// What the packet's link layer carries, as in its header (`ETH_P_*`).
#[inline(always)]
pub(crate) fn protocol(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb(ctx)).protocol }
}

/// How many segments a GSO packet carries; 0 or 1 is that it is none, the latter if it is of TCP.
#[inline(always)]
pub(crate) fn gso_segments(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb(ctx)).gso_segs }
}

/// Returns true for one packet, and false for several in one (GSO), whose parting depends on how they lie in memory.
#[inline(always)]
pub(crate) fn is_single(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb(ctx)).gso_size == 0 }
}

/// Returns true for a list of packets in one (SCTP).
///
/// No copy may be made of it: the copy would share the list, from which a receiver on this machine takes headers off
/// (`sctp_inq_pop`, Linux 6.1), so that the second of both would be read from the wrong place.
#[inline(always)]
pub(crate) fn is_list(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb(ctx)).gso_size == GSO_BY_FRAGS }
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

/// Whether the packet has to leave its socket before it waits for `delay_ns`, as it would hold its sender back. A list
/// of packets stays, as leaving takes a copy.
#[inline(always)]
pub(crate) fn must_leave_its_socket(ctx: &TcContext, delay_ns: u64, now_ns: u64) -> bool {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (*skb(ctx)).__bindgen_anon_2 };
    // SAFETY: the union's one member; the kernel gives null where there is no socket.
    let sk = unsafe { socket.sk };
    if sk.is_null() || is_list(ctx) {
        return false;
    }
    // SAFETY: the verifier has seen that it is not null; what is no TCP connection gives null.
    let tcp = unsafe { bpf_tcp_sock(sk) };
    if !tcp.is_null() {
        return is_retransmittable(ctx);
    }
    // SAFETY: as for TCP; what is not a full socket (a connection just being made, TIME_WAIT) gives null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    !sk.is_null() && !queue::stays_charged(ctx.len(), now_ns, delay_ns)
}

/// Whether TCP would send the packet again: it carries data, or begins or ends a connection. What cannot be read counts.
///
/// Small queues (`tcp_small_queue_check`, Linux 6.1) would stop the connection while it waits, and TCP does not send again
/// what it sees wait in the host (`skb_still_in_host_queue`), as it cannot in a network. A pure acknowledgement is
/// charged next to nothing (`__tcp_send_ack`).
#[inline(always)]
fn is_retransmittable(ctx: &TcContext) -> bool {
    let ip_header = match protocol(ctx) {
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

/// Takes the note off the packet that it came with, if it is a copy that was just made here.
#[inline(always)]
pub(crate) fn take_note(ctx: &TcContext) -> Note {
    // SAFETY: as in `came_at_ns`; the second number lies behind the first.
    let mark = unsafe { control_block(ctx).wrapping_add(1).read() };
    if mark != DEPARTURE && mark != DUPLICATE {
        return Note::None;
    }
    // SAFETY: as in `came_at_ns`.
    let departure_ns = unsafe { control_block(ctx).read() };
    write_note(ctx, 0, 0);
    if mark == DUPLICATE { Note::Duplicate } else { Note::Departure(departure_ns) }
}

/// Has copies of the packet come here with a note, until it is taken back: what they are, and when they depart.
#[inline(always)]
fn write_note(ctx: &TcContext, departure_ns: u64, mark: u64) {
    // Volatile, or both would become one call of memset, which may not write here.
    // SAFETY: as in `came_at_ns`; a classifier may write the control block, and copies have it, too.
    unsafe { control_block(ctx).write_volatile(departure_ns) };
    // SAFETY: as above.
    unsafe { control_block(ctx).wrapping_add(1).write_volatile(mark) };
}

#[inline(always)]
fn control_block(ctx: &TcContext) -> *mut u64 {
    // SAFETY: as for any field of the context; only its address is taken.
    unsafe { (&raw mut (*skb(ctx)).cb).cast() }
}

/// When the packet is ready to be sent: now, or as its sender paces it (TCP, `SO_TXTIME`).
#[inline(always)]
pub(crate) fn ready_ns(ctx: &TcContext, now_ns: u64) -> u64 {
    shaper_common::ready_ns(stamp_ns(ctx), now_ns)
}

/// Sends the packet a second time, through the same hook of the same device; says whether that could be.
#[inline(always)]
pub(crate) fn duplicate(ctx: &TcContext) -> bool {
    write_note(ctx, 0, DUPLICATE);
    let sent = send_copy(ctx);
    write_note(ctx, 0, 0);
    !matches!(sent, Orphaned::Failed)
}

/// Marks the packet with CE (congestion experienced), if its sender can be told so (ECN, RFC 3168); says whether it did.
#[inline(always)]
pub(crate) fn mark(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { bpf_skb_ecn_set_ce(skb(ctx)) == 1 }
}

/// Sends a copy of the packet, which belongs to no socket, in its place; it is decided that it departs then.
#[inline(always)]
pub(crate) fn replace(ctx: &TcContext, departure_ns: u64) -> Orphaned {
    write_note(ctx, departure_ns, DEPARTURE);
    let sent = send_copy(ctx);
    if matches!(sent, Orphaned::Failed) {
        write_note(ctx, 0, 0);
    }
    sent
}

/// Sends a copy of the packet, which belongs to no socket and is still to be decided on, in its place.
///
/// Packets that wait in fq stay charged to their socket, and TCP small queues then stop the sender; netem orphans
/// its packets for the same reason (`netem_enqueue`).
#[inline(always)]
pub(crate) fn orphan(ctx: &TcContext, now_ns: u64) -> Orphaned {
    // SAFETY: as in `came_at_ns`; a classifier may write the control block, and the copy has it, too.
    unsafe { control_block(ctx).write(now_ns) };
    send_copy(ctx)
}

/// Sends a copy through the same hook of the same device.
#[inline(always)]
fn send_copy(ctx: &TcContext) -> Orphaned {
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
