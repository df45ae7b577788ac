//! Turns one bit of a packet.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{
        bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
        bpf_skb_store_bytes,
    },
    programs::TcContext,
};

use crate::{
    headers::Transport,
    packet::{ETHERNET_HEADER, is_single, skb},
};

/// `BPF_F_MARK_MANGLED_0`: a checksum of 0 stands for none, and stays.
const MARK_MANGLED_0: u64 = 1 << 5;
/// The bytes behind the Ethernet header that are taken out and put back: with the longest header up to a checksum's
/// first byte, IPv6's, one more.
const TAKEN_OUT: u32 = 64;

/// The outcome of turning a bit.
pub(crate) enum Corruption {
    /// A bit was turned.
    Done,
    /// There was no bit to turn.
    Nothing,
    /// The packet is not of a kind that may be written into.
    Skipped,
}

/// Turns a bit, that `random` chooses, of what the packet carries; of the header above IP where it carries nothing.
///
/// The checksum is made right where `fixes`; else it is wrong.
///
/// Only single packets of TCP, UDP and ICMP that are no fragments of IP are written into. Writing pulls what lies
/// before it into the head (`skb_ensure_writable`, Linux 6.1), and what is parted later by how it lies in memory must
/// stay as it lies: `skb_segment` ends the kernel with a BUG where a list of packets (SCTP) no longer has its shape.
#[inline(always)]
pub(crate) fn corrupt(ctx: &TcContext, random: u32, fixes: bool) -> Corruption {
    match turn_bit(skb(ctx), random, fixes.into()) {
        DONE => Corruption::Done,
        NOTHING => Corruption::Nothing,
        _ => Corruption::Skipped,
    }
}

const NOTHING: u32 = 0;
const DONE: u32 = 1;
const SKIPPED: u32 = 2;

/// A function that the kernel verifies by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn turn_bit(skb: *mut __sk_buff, random: u32, fixes: u32) -> u32 {
    let ctx = TcContext::new(skb);
    let transport = Transport::read(&ctx);
    if !is_single(&ctx) || !transport.is_whole_and_known() {
        SKIPPED
    } else if turn(&ctx, &transport, random, fixes != 0) {
        DONE
    } else {
        NOTHING
    }
}

#[inline(always)]
fn turn(ctx: &TcContext, transport: &Transport, random: u32, fixes: bool) -> bool {
    let length = ctx.len();
    let payload = transport.payload(ctx);
    let first = if payload < length || fixes { payload } else { transport.begin() };
    if first >= length {
        return false;
    }
    let Some(bit) = random.checked_rem((length - first) * 8) else { return false };
    let at = first + bit / 8;
    let Ok(old) = ctx.load::<u8>(at as usize) else { return false };
    let new = old ^ (1 << (bit % 8));
    let checksum = transport.checksum();
    // What a local sender has not summed up yet is trusted by the receiver, unless it is seen to be no sum.
    if !fixes && checksum != 0 {
        settle_checksum(ctx, length);
    }
    if ctx.store(at as usize, &new, 0).is_err() {
        return false;
    }
    if fixes && checksum != 0 {
        // The sum is of words of 16 bits, from the transport header on, which begins at an even byte of them.
        let shift = if (at - checksum).is_multiple_of(2) { 0 } else { 8 };
        let flags = 2 | if transport.may_lack_checksum() { MARK_MANGLED_0 } else { 0 };
        // SAFETY: the context is valid while the program runs.
        unsafe {
            bpf_l4_csum_replace(skb(ctx), checksum, u64::from(old) << shift, u64::from(new) << shift, flags)
        };
    }
    true
}

/// Has the kernel take the packet's checksum for complete, so that the receiver looks at it.
///
/// A packet from a local sender may say that its checksum is still to be computed (`CHECKSUM_PARTIAL`), which veths
/// never do, nor does the receiver look then. No helper ends that as such; but taking out the bytes that the sum would
/// begin with does (`__skb_postpull_rcsum` and `skb_postpull_rcsum`, Linux 6.1). They are put back as they were.
#[inline(always)]
fn settle_checksum(ctx: &TcContext, length: u32) {
    let skb = skb(ctx);
    let mut taken = MaybeUninit::<[u8; TAKEN_OUT as usize]>::uninit();
    // What is left has to be an IPv6 header at least.
    let longer = length < ETHERNET_HEADER + 2 * TAKEN_OUT;
    // SAFETY: the context is valid while the program runs.
    if longer && unsafe { bpf_skb_change_tail(skb, ETHERNET_HEADER + 2 * TAKEN_OUT, 0) } != 0 {
        return;
    }
    let bytes = taken.as_mut_ptr().cast();
    // SAFETY: the buffer has as many bytes.
    let loaded = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), ETHERNET_HEADER, bytes, TAKEN_OUT) };
    let out = -(TAKEN_OUT as i32);
    // SAFETY: the context is valid while the program runs.
    if loaded == 0 && unsafe { bpf_skb_adjust_room(skb, out, BPF_ADJ_ROOM_MAC, 0) } == 0 {
        // SAFETY: as above. Where it was taken out there is room for it.
        unsafe { bpf_skb_adjust_room(skb, -out, BPF_ADJ_ROOM_MAC, 0) };
        // SAFETY: the buffer has as many bytes.
        unsafe { bpf_skb_store_bytes(skb, ETHERNET_HEADER, bytes, TAKEN_OUT, 0) };
    }
    if longer {
        // SAFETY: the context is valid while the program runs.
        unsafe { bpf_skb_change_tail(skb, length, 0) };
    }
}
