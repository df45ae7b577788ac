//! The packet that a classifier runs on (`struct __sk_buff`): its fields, and how they are written.

use core::ops::Deref;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_set_hash, bpf_skb_change_tail, bpf_skb_ecn_set_ce},
    programs::TcContext,
};
use shaper_common::Tally;

use crate::{RECEIVES, kernel, shared::Shared};

pub(crate) const ETHERNET_HEADER: u32 = 14;
pub(crate) const ETH_P_IP: u32 = (0x0800_u16).to_be() as u32;
pub(crate) const ETH_P_IPV6: u32 = (0x86dd_u16).to_be() as u32;
/// The `gso_size` of an skb that is a list of packets (`include/linux/skbuff.h`).
const GSO_BY_FRAGS: u32 = 0xffff;
/// `include/uapi/linux/pkt_sched.h`.
const TC_PRIO_MAX: u32 = 15;
const TC_PRIO_INTERACTIVE: u32 = 6;
const TC_PRIO_CONTROL: u32 = 7;

/// The kernel's context of one packet, which is valid for as long as the program runs.
pub(crate) struct Skb(TcContext);

impl Deref for Skb {
    type Target = TcContext;

    #[inline(always)]
    fn deref(&self) -> &TcContext {
        &self.0
    }
}

impl Skb {
    #[inline(always)]
    pub(crate) const fn new(ctx: TcContext) -> Self {
        Self(ctx)
    }

    /// Returns the pointer that functions verified by themselves take, as they take no references.
    #[inline(always)]
    pub(crate) const fn as_ptr(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }

    #[inline(always)]
    pub(crate) fn fields(&self) -> &__sk_buff {
        // SAFETY: the kernel's pointer is valid while the program runs, and only this program writes the fields.
        unsafe { &*self.as_ptr() }
    }

    #[inline(always)]
    fn fields_mut(&mut self) -> &mut __sk_buff {
        // SAFETY: as in `fields`; the verifier admits writes only to what tc may write.
        unsafe { &mut *self.as_ptr() }
    }

    /// Returns the control block's 64-bit word `number`, 0 or 1. A classifier may write it, and copies inherit it.
    #[inline(always)]
    pub(crate) fn control_word(&self, number: usize) -> Shared<u64> {
        let first: *const u64 = (&raw const self.fields().cb).cast();
        // SAFETY: the control block has 20 bytes, and starts at a multiple of 8.
        unsafe { Shared::at(first.cast_mut().wrapping_add(number)) }
    }

    /// Returns what the packet adds to a counter: its segments, 1 without GSO, and its bytes.
    #[inline(always)]
    pub(crate) fn tally(&self) -> Tally {
        let segments = self.gso_segments();
        let packets = if segments == 0 { 1 } else { segments.into() };
        Tally { packets, bytes: self.wire_bytes().into() }
    }

    /// Returns the length on the wire, with the headers of every segment (`qdisc_pkt_len_init`, Linux 6.1); on the
    /// ingress hook with those of one, of which the kernel leaves out Ethernet's (`sch_handle_ingress`).
    #[inline(always)]
    pub(crate) fn wire_bytes(&self) -> u32 {
        self.fields().wire_len + if RECEIVES.load() == 0 { 0 } else { ETHERNET_HEADER }
    }

    /// Returns the traffic control index, which the kernel carries along and does not read.
    #[inline(always)]
    pub(crate) fn traffic_index(&self) -> u16 {
        self.fields().tc_index as u16
    }

    /// Sets the traffic control index.
    #[inline(always)]
    pub(crate) fn set_traffic_index(&mut self, index: u16) {
        self.fields_mut().tc_index = index.into();
    }

    /// Returns the link layer's protocol, one of `ETH_P_*`.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u32 {
        self.0.skb.protocol()
    }

    /// Returns the number of GSO segments; 0, or 1 of TCP, for a packet without GSO.
    #[inline(always)]
    pub(crate) fn gso_segments(&self) -> u32 {
        self.fields().gso_segs
    }

    /// Returns true without GSO. How a GSO packet is segmented depends on its layout in memory.
    #[inline(always)]
    pub(crate) fn is_single(&self) -> bool {
        self.fields().gso_size == 0
    }

    /// Returns true for a list of packets (SCTP).
    ///
    /// It must not be copied: the copy shares the list, from which a receiver on this machine pulls headers
    /// (`sctp_inq_pop`, Linux 6.1), so that the second of the two is read from the wrong offset.
    #[inline(always)]
    pub(crate) fn is_list(&self) -> bool {
        self.fields().gso_size == GSO_BY_FRAGS
    }

    /// Returns the departure time that the sender set, in nanoseconds; 0 if none.
    #[inline(always)]
    pub(crate) fn stamp_ns(&self) -> u64 {
        self.fields().tstamp
    }

    /// Returns the time at which the packet is ready to be sent: now, or as its sender paces it (TCP, `SO_TXTIME`).
    #[inline(always)]
    pub(crate) fn ready_ns(&self, now_ns: u64) -> u64 {
        shaper_common::ready_ns(self.stamp_ns(), now_ns)
    }

    /// Returns whom the packet is for, one of `PACKET_*`: this machine, all, several or others.
    #[inline(always)]
    pub(crate) fn addressee(&self) -> u32 {
        self.fields().pkt_type
    }

    /// Sets whom the packet is for, which the kernel told by its address when the device received it again: it may have
    /// come by a way on which addresses do not matter (`bpf_redirect_peer`).
    #[inline(always)]
    pub(crate) fn address_to(&self, addressee: u32) {
        if self.addressee() != addressee {
            // It cannot fail: both are of those that may be changed (`skb_pkt_type_ok`, Linux 6.1).
            let _ = self.change_type(addressee);
        }
    }

    /// Sets the departure time, in nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub(crate) fn depart_at(&mut self, departure_ns: u64) {
        let fields = self.fields_mut();
        fields.tstamp = departure_ns;
        // fq sends control traffic at once, whatever its departure time (`fq_classify`, up to Linux 6.6).
        if fields.priority & TC_PRIO_MAX == TC_PRIO_CONTROL {
            fields.priority = (fields.priority & !TC_PRIO_MAX) | TC_PRIO_INTERACTIVE;
        }
    }

    /// Marks the packet CE (congestion experienced, RFC 3168). Returns false for one whose sender does not use ECN.
    #[inline(always)]
    pub(crate) fn mark(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { bpf_skb_ecn_set_ce(self.as_ptr()) == 1 }
    }

    /// Makes the packet a flow of its own in `fq`, unless it stays charged to a connected socket.
    ///
    /// `fq` keeps the order of a flow, and lets one whose first packet waits alone until that is due, even if an earlier
    /// packet comes meanwhile (`fq_flow_set_throttled`, Linux 6.1).
    #[inline(always)]
    pub(crate) fn leave_flow(&self) {
        let hash = kernel::random();
        // SAFETY: the context is valid while the program runs. It cannot fail.
        unsafe { bpf_set_hash(self.as_ptr(), hash) };
    }

    /// Cuts the packet to `length` bytes, or fills it up with zeros. Returns true if that was done.
    #[inline(always)]
    pub(crate) fn resize(&self, length: u32) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { bpf_skb_change_tail(self.as_ptr(), length, 0) == 0 }
    }
}
