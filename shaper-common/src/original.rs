//! The record of an interface before it was shaped.

use super::plain;

/// The record of an interface before it was shaped, to restore it by; written once, read by user space only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original {
    /// The transmit queue length in packets; the kernel changes a 0 when it grafts a qdisc (`qdisc_create`).
    pub tx_queue_len: u32,
    /// 1 if a clsact qdisc was there already, otherwise 0.
    pub clsact: u32,
    /// The number of segments that it took in one packet (`gso_max_segs`); it takes one while packets are to be lost.
    pub gso_max_segs: u32,
    /// 1 once the rest has been written, otherwise 0. Until then the interface has not been touched.
    pub valid: u32,
    /// Index of its veth's other end, or of the device below it, in that one's namespace; 0 if it has none.
    pub peer_ifindex: u32,
    /// The Ethernet address, padded with zeros.
    pub address: [u8; 8],
}

plain!(Original, u32, u32, u32, u32, u32, [u8; 8]);
