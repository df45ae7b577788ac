//! The socket that a packet is charged to.

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_sk_fullsock};

use crate::{
    queue,
    skb::{ETH_P_IP, ETH_P_IPV6, ETHERNET_HEADER, Skb},
};

const IPPROTO_TCP: u32 = 6;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const IPV6_HEADER: u32 = 40;

impl Skb {
    /// Returns true for a packet that would hold its sender back while it waits until `departure_ns`, or that follows one
    /// that did. A list of packets never does, as taking it from its socket takes a copy.
    #[inline(always)]
    pub(crate) fn must_be_orphaned(&self, departure_ns: u64, now_ns: u64) -> bool {
        let Some(socket) = self.full_socket() else { return false };
        if self.is_list() {
            false
        } else if socket.protocol == IPPROTO_TCP {
            is_retransmittable(self)
        } else {
            !queue::stays_charged(self.len(), now_ns, departure_ns)
        }
    }

    /// Returns true if it is charged to a socket.
    #[inline(always)]
    pub(crate) fn is_charged(&self) -> bool {
        !self.socket().is_null()
    }

    /// Returns the socket that it is charged to, whose fields can be read: none of a connection that is being made, or in
    /// TIME_WAIT.
    #[inline(always)]
    fn full_socket(&self) -> Option<&bpf_sock> {
        if !self.is_charged() {
            return None;
        }
        // SAFETY: the pointer is the packet's, and not null.
        let full = unsafe { bpf_sk_fullsock(self.socket()) };
        // SAFETY: it is valid as long as the packet is, or null.
        unsafe { full.as_ref() }
    }

    #[inline(always)]
    fn socket(&self) -> *mut bpf_sock {
        // SAFETY: the union has this member only.
        unsafe { self.fields().__bindgen_anon_2.sk }
    }
}

/// Returns true for a packet that TCP would retransmit: it carries data, SYN or FIN, or cannot be read.
///
/// TCP small queues (`tcp_small_queue_check`, Linux 6.1) would stop the connection while it waits; TCP does not retransmit
/// a packet that waits in its own host (`skb_still_in_host_queue`); and even behind a single short packet that is charged,
/// it keeps the last small message until that has left (`tcp_should_autocork`). A pure acknowledgement is charged next to
/// nothing (`__tcp_send_ack`).
#[inline(always)]
fn is_retransmittable(skb: &Skb) -> bool {
    let ip_header = match skb.protocol() {
        ETH_P_IP => {
            let Ok(first) = skb.load::<u8>(ETHERNET_HEADER as usize) else {
                return true;
            };
            u32::from(first & 0x0f) * 4
        }
        ETH_P_IPV6 => IPV6_HEADER,
        _ => return true,
    };
    let Ok([offset, flags]) = skb.load::<[u8; 2]>((ETHERNET_HEADER + ip_header + 12) as usize) else {
        return true;
    };
    flags & (TCP_FIN | TCP_SYN) != 0 || skb.len() > ETHERNET_HEADER + ip_header + u32::from(offset >> 4) * 4
}
