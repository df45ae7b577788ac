//! What an interface was before it was shaped.

use super::plain;

/// What to give back to an interface when its shaping is cleared; written once, read by user space only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original {
    /// The transmit queue length in packets; the kernel changes a 0 when it grafts a qdisc (`qdisc_create`).
    pub tx_queue_len: u32,
    /// Whether a clsact qdisc was there already: 0 or 1.
    pub clsact: u32,
    /// How many segments it took in one packet; it takes one while packets are to be lost.
    pub gso_max_segs: u32,
    /// Whether the rest has been written: 0 or 1. Until then the interface has not been touched.
    pub valid: u32,
    /// Index of its veth's other end, or of the device below it, in that one's namespace; 0 if it has none.
    pub peer_ifindex: u32,
    /// Its Ethernet address, filled up with zeros.
    pub address: [u8; 8],
}

plain!(Original, u32, u32, u32, u32, u32, [u8; 8]);
