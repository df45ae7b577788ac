//! The headers of a packet: addresses, ports, and the offset of the payload.

use shaper_common::policy::{Address, Ports};

use crate::skb::{ETH_P_IP, ETH_P_IPV6, ETHERNET_HEADER, Skb};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
/// The bits of the IPv4 header's fragment field (RFC 791).
const FRAGMENT_OFFSET: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;
const IPV6_HEADER: u32 = 40;
/// The most extension headers that are skipped: the kinds of RFC 8200, each once.
const EXTENSION_HEADERS: u32 = 4;

/// The transport layer of a packet.
pub(crate) struct Transport {
    /// The protocol; 0 where there is no IP.
    pub(crate) protocol: u8,
    /// The offset of its header; without one, of the payload.
    at: u32,
    /// False for later fragments, and where there is no IP.
    has_header: bool,
    /// True for each fragment of IP, the first one included.
    is_fragment: bool,
    /// The identification that the fragments of a datagram share.
    pub(crate) identification: u32,
}

impl Transport {
    /// Reads the headers up to the transport layer. A truncated header counts as payload.
    #[inline(always)]
    pub(crate) fn read(skb: &Skb) -> Self {
        let none = Self {
            protocol: 0,
            at: ETHERNET_HEADER,
            has_header: false,
            is_fragment: false,
            identification: 0,
        };
        match skb.protocol() {
            ETH_P_IP => Self::read_ipv4(skb, none),
            ETH_P_IPV6 => Self::read_ipv6(skb, none),
            _ => none,
        }
    }

    #[inline(always)]
    fn read_ipv4(skb: &Skb, none: Self) -> Self {
        let Ok(header) = skb.load::<[u8; 10]>(ETHERNET_HEADER as usize) else { return none };
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        Self {
            protocol: header[9],
            at: ETHERNET_HEADER + u32::from(header[0] & 0x0f) * 4,
            has_header: fragment & FRAGMENT_OFFSET == 0,
            is_fragment: fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0,
            identification: u16::from_be_bytes([header[4], header[5]]).into(),
        }
    }

    #[inline(always)]
    fn read_ipv6(skb: &Skb, none: Self) -> Self {
        let Ok(protocol) = skb.load::<u8>(ETHERNET_HEADER as usize + 6) else { return none };
        let at = ETHERNET_HEADER + IPV6_HEADER;
        let mut this = Self { protocol, at, has_header: true, is_fragment: false, identification: 0 };
        for _ in 0..EXTENSION_HEADERS {
            if !matches!(this.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
                break;
            }
            let Ok([next, units, high, low]) = skb.load::<[u8; 4]>(this.at as usize) else {
                return Self { has_header: false, ..this };
            };
            if this.protocol == FRAGMENT {
                this.is_fragment = true;
                this.has_header &= u16::from_be_bytes([high, low]) & 0xfff8 == 0;
                this.identification = skb.load::<u32>(this.at as usize + 4).unwrap_or(0);
                this.at += 8;
            } else {
                this.at += (u32::from(units) + 1) * 8;
            }
            this.protocol = next;
        }
        this
    }

    /// Returns the ports, of a protocol that has them; the peer's is the source port where `peer_sends`.
    #[inline(always)]
    pub(crate) fn ports(&self, skb: &Skb, peer_sends: bool) -> Ports {
        let none = Ports { known: false, peer: 0, local: 0 };
        if !self.has_header || !matches!(self.protocol, TCP | UDP | DCCP | SCTP | UDP_LITE) {
            return none;
        }
        let Ok([a, b, c, d]) = skb.load::<[u8; 4]>(self.at as usize) else { return none };
        let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if peer_sends {
            Ports { known: true, peer: source, local: destination }
        } else {
            Ports { known: true, peer: destination, local: source }
        }
    }

    /// Returns true for the fragment with the header.
    #[inline(always)]
    pub(crate) const fn is_first_fragment(&self) -> bool {
        self.is_fragment && self.has_header
    }

    /// Returns true for the fragments behind that one.
    #[inline(always)]
    pub(crate) const fn is_later_fragment(&self) -> bool {
        self.is_fragment && !self.has_header
    }

    /// Returns true for TCP, UDP and ICMP that are not in fragments.
    #[inline(always)]
    pub(crate) const fn is_whole_and_known(&self) -> bool {
        !self.is_fragment && matches!(self.protocol, ICMP | ICMPV6 | TCP | UDP)
    }

    /// Returns the offset of its header.
    #[inline(always)]
    pub(crate) const fn begin(&self) -> u32 {
        self.at
    }

    /// Returns the offset of the payload.
    #[inline(always)]
    pub(crate) fn payload(&self, skb: &Skb) -> u32 {
        let header = match self.protocol {
            _ if !self.has_header => 0,
            TCP => skb.load::<u8>(self.at as usize + 12).map_or(0, |offset| u32::from(offset >> 4) * 4),
            UDP | UDP_LITE => 8,
            _ => 0,
        };
        self.at + header
    }

    /// Returns the offset of its checksum; 0 if it has none, or an unknown one.
    #[inline(always)]
    pub(crate) const fn checksum(&self) -> u32 {
        match self.protocol {
            TCP if self.has_header => self.at + 16,
            UDP if self.has_header => self.at + 6,
            _ => 0,
        }
    }

    /// Returns true where a checksum of 0 stands for none.
    #[inline(always)]
    pub(crate) const fn may_lack_checksum(&self) -> bool {
        self.protocol == UDP
    }
}

/// Returns the source or the destination address of an IP packet.
#[inline(always)]
pub(crate) fn address(skb: &Skb, source: bool) -> Option<Address> {
    match skb.protocol() {
        ETH_P_IP => {
            let at = ETHERNET_HEADER + if source { 12 } else { 16 };
            let [a, b, c, d] = skb.load(at as usize).ok()?;
            Some(Address { bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] })
        }
        ETH_P_IPV6 => {
            let at = ETHERNET_HEADER + if source { 8 } else { 24 };
            Some(Address { bytes: skb.load(at as usize).ok()? })
        }
        _ => None,
    }
}
