//! Flips one bit of a packet.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    programs::TcContext,
};

use crate::{
    headers::Transport,
    skb::{ETHERNET_HEADER, Skb},
};

/// `BPF_F_MARK_MANGLED_0`: a checksum of 0 stands for none, and is kept.
const MARK_MANGLED_0: u64 = 1 << 5;
/// The bytes behind the Ethernet header that are removed and put back: more than the longest header in front of a
/// checksummed range, IPv6's.
const TAKEN_OUT: u32 = 64;

/// The outcome of corrupting a packet.
pub(crate) enum Corruption {
    /// A bit was flipped.
    Done,
    /// There was no bit to flip.
    Nothing,
    /// The packet must not be written to.
    Skipped,
}

impl Skb {
    /// Flips one bit, chosen by `random`, of the payload; of the transport header where there is no payload.
    ///
    /// The checksum is corrected if `fixes`; else it is wrong.
    ///
    /// Only TCP, UDP and ICMP without GSO and fragmentation are written to. A write pulls the bytes before it into the
    /// head (`skb_ensure_writable`, Linux 6.1), and `skb_segment` ends the kernel with a BUG where a list of packets
    /// (SCTP) no longer has the layout that it had.
    #[inline(always)]
    pub(crate) fn corrupt(&self, random: u32, fixes: bool) -> Corruption {
        match flip_bit(self.as_ptr(), random, fixes.into()) {
            DONE => Corruption::Done,
            NOTHING => Corruption::Nothing,
            _ => Corruption::Skipped,
        }
    }
}

const NOTHING: u32 = 0;
const DONE: u32 = 1;
const SKIPPED: u32 = 2;

/// A global function, which the kernel verifies by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn flip_bit(skb: *mut __sk_buff, random: u32, fixes: u32) -> u32 {
    let skb = Skb::new(TcContext::new(skb));
    let transport = Transport::read(&skb);
    if !skb.is_single() || !transport.is_whole_and_known() {
        SKIPPED
    } else if flip(&skb, &transport, random, fixes != 0) {
        DONE
    } else {
        NOTHING
    }
}

#[inline(always)]
fn flip(skb: &Skb, transport: &Transport, random: u32, fixes: bool) -> bool {
    let length = skb.len();
    let payload = transport.payload(skb);
    let first = if payload < length || fixes { payload } else { transport.begin() };
    if first >= length {
        return false;
    }
    let Some(bit) = random.checked_rem((length - first) * 8) else { return false };
    let at = first + bit / 8;
    let Ok(old) = skb.load::<u8>(at as usize) else { return false };
    let new = old ^ (1 << (bit % 8));
    let checksum = transport.checksum();
    // The receiver trusts a checksum that a local sender has not computed yet, unless it is settled first.
    if !fixes && checksum != 0 {
        settle_checksum(skb, length);
    }
    if skb.store(at as usize, &new, 0).is_err() {
        return false;
    }
    if fixes && checksum != 0 {
        // The checksum is of 16-bit words from the transport header on, which starts at an even offset.
        let shift = if (at - checksum).is_multiple_of(2) { 0 } else { 8 };
        let flags = 2 | if transport.may_lack_checksum() { MARK_MANGLED_0 } else { 0 };
        let (from, to) = (u64::from(old) << shift, u64::from(new) << shift);
        // It cannot fail: the checksum has just been written beside.
        let _ = skb.l4_csum_replace(checksum as usize, from, to, flags);
    }
    true
}

/// Has the kernel take the packet's checksum for complete, so that the receiver checks it.
///
/// A packet from a local sender may carry a checksum that is still to be computed (`CHECKSUM_PARTIAL`), which veths
/// never do, nor does the receiver check it then. No helper ends that state, but removing the bytes at the start of the
/// checksummed range does (`__skb_postpull_rcsum` and `skb_postpull_rcsum`, Linux 6.1). They are put back afterwards.
#[inline(always)]
fn settle_checksum(skb: &Skb, length: u32) {
    // An IPv6 header has to remain, at least.
    let longer = length < ETHERNET_HEADER + 2 * TAKEN_OUT;
    if longer && !skb.resize(ETHERNET_HEADER + 2 * TAKEN_OUT) {
        return;
    }
    let out = TAKEN_OUT as i32;
    if let Ok(bytes) = skb.load::<[u64; TAKEN_OUT as usize / 8]>(ETHERNET_HEADER as usize)
        && skb.adjust_room(-out, BPF_ADJ_ROOM_MAC, 0).is_ok()
    {
        // The room was there a moment ago.
        let _ = skb.adjust_room(out, BPF_ADJ_ROOM_MAC, 0);
        let _ = skb.store(ETHERNET_HEADER as usize, &bytes, 0);
    }
    if longer {
        skb.resize(length);
    }
}
