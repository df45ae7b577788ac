//! The record of an interface before it was shaped.

use super::plain;

/// The record of an interface before it was shaped, to restore it by; written once, read by user space only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original {
    /// The transmit queue length in packets; the kernel changes a 0 when it grafts a qdisc (`qdisc_create`).
    pub tx_queue_len: u32,
    /// The hook: [`Self::OWN_CLSACT`], [`Self::FOREIGN_CLSACT`] or [`Self::TCX`].
    pub hook: u32,
    /// The number of segments that it took in one packet (`gso_max_segs`); it takes one while packets are to be lost.
    pub gso_max_segs: u32,
    /// 1 once the rest has been written, otherwise 0. Until then the interface has not been touched.
    pub valid: u32,
    /// Index of its veth's other end, or of the device below it, in that one's namespace; 0 if it has none.
    pub peer_ifindex: u32,
    /// The Ethernet address, padded with zeros.
    pub address: [u8; 8],
}

impl Original {
    /// The program is a classifier under a clsact qdisc that was added for it, and goes with it.
    pub const OWN_CLSACT: u32 = 0;
    /// The program is a classifier under a clsact qdisc that was there already.
    pub const FOREIGN_CLSACT: u32 = 1;
    /// The program is on the TCX hook, which needs no qdisc.
    pub const TCX: u32 = 2;
}

plain!(Original, u32, u32, u32, u32, u32, [u8; 8]);
