//! Packets made by hand, and a look at their checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERNET: usize = 14;
/// Bytes that Ethernet, IPv4 and UDP put before a datagram.
pub const UDP_HEADERS: usize = 42;
/// Protocol numbers, as in IP headers.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

/// ECN's bits in the traffic class (RFC 3168): not capable of it.
pub const NOT_ECT: u8 = 0;
/// Capable.
pub const ECT: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// The description of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// From whom.
    pub source: IpAddr,
    /// To whom; of the same family.
    pub destination: IpAddr,
    /// [`TCP`] or [`UDP`]; of any other there is no header.
    pub protocol: u8,
    /// The ports of either.
    pub ports: (u16, u16),
    /// Bytes of IPv4's options, or of IPv6's extension headers, in units of 8.
    pub ip_options: usize,
    /// Bytes of TCP's options, in units of 4.
    pub tcp_options: usize,
    /// One of [`NOT_ECT`], [`ECT`], [`CE`].
    pub ecn: u8,
    /// Bytes that it carries.
    pub payload: usize,
}

impl Spec {
    /// UDP over IPv4 with so many bytes.
    #[must_use]
    pub const fn udp(payload: usize) -> Self {
        Self {
            source: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2)),
            protocol: UDP,
            ports: (40_000, 9),
            ip_options: 0,
            tcp_options: 0,
            ecn: NOT_ECT,
            payload,
        }
    }

    /// The same over IPv6.
    #[must_use]
    pub const fn v6(self) -> Self {
        Self {
            source: IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1)),
            destination: IpAddr::V6(Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2)),
            ..self
        }
    }

    /// The packet.
    ///
    /// # Panics
    ///
    /// When it would be too long.
    #[must_use]
    pub fn build(&self) -> Frame {
        let mut bytes = vec![0; 12];
        let transport_length = self.transport_header() + self.payload;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ipv4(&mut bytes, source, destination, transport_length);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ipv6(&mut bytes, source, destination, transport_length);
            }
            mixed => panic!("addresses of two families: {mixed:?}"),
        }
        let transport = bytes.len();
        self.transport(&mut bytes, transport_length);
        let payload = bytes.len();
        // No two bytes next to one another are alike, so that nothing can be taken for another part of it.
        bytes.extend((0..self.payload).map(|at| u8::try_from(at * 7 % 251).expect("it is less")));
        let mut frame = Frame { bytes, transport, payload, protocol: self.protocol };
        frame.settle_checksum();
        frame
    }

    const fn transport_header(&self) -> usize {
        match self.protocol {
            TCP => 20 + self.tcp_options,
            UDP => 8,
            _ => 0,
        }
    }

    fn ipv4(&self, bytes: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr, length: usize) {
        let header = 20 + self.ip_options;
        bytes.extend([8, 0]);
        let words = u8::try_from(header / 4).expect("at most 15 words");
        bytes.extend([0x40 | words, self.ecn]);
        bytes.extend(u16::try_from(header + length).expect("it fits").to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        // No operation, each of one byte (RFC 791).
        bytes.extend(vec![1; self.ip_options]);
        let checksum = !sum(&bytes[ETHERNET..]);
        bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn ipv6(&self, bytes: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr, length: usize) {
        // Hop-by-hop options first, destination options then.
        let mut kinds: Vec<u8> =
            (0..self.ip_options / 8).map(|number| if number == 0 { 0 } else { 60 }).collect();
        kinds.push(self.protocol);
        bytes.extend([0x86, 0xdd, 0x60, self.ecn << 4, 0, 0]);
        bytes.extend(u16::try_from(self.ip_options + length).expect("it fits").to_be_bytes());
        bytes.extend([kinds[0], 64]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        for next in &kinds[1..] {
            // Filled up with a PadN of four bytes (RFC 8200, 4.2).
            bytes.extend([*next, 0, 1, 4, 0, 0, 0, 0]);
        }
    }

    fn transport(&self, bytes: &mut Vec<u8>, length: usize) {
        if self.protocol != TCP && self.protocol != UDP {
            return;
        }
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        if self.protocol == UDP {
            bytes.extend(u16::try_from(length).expect("it fits").to_be_bytes());
            bytes.extend([0, 0]);
            return;
        }
        let words = u8::try_from((20 + self.tcp_options) / 4).expect("at most 15 words");
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, 0x10, 0x20, 0, 0, 0, 0, 0]);
        bytes.extend(vec![1; self.tcp_options]);
    }
}

/// A packet, and where its parts begin.
#[derive(Clone, Debug)]
pub struct Frame {
    /// All of it, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Where the header above IP begins.
    pub transport: usize,
    /// Where what it carries begins.
    pub payload: usize,
    protocol: u8,
}

impl Frame {
    /// Where the checksum above IP is.
    #[must_use]
    pub const fn checksum_at(&self) -> usize {
        self.transport + if self.protocol == TCP { 16 } else { 6 }
    }

    fn settle_checksum(&mut self) {
        if self.protocol == TCP || self.protocol == UDP {
            let checksum = match !self.transport_sum(&self.bytes) {
                // That would say that there is none (RFC 768).
                0 => 0xffff,
                checksum => checksum,
            };
            let at = self.checksum_at();
            self.bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Returns true if the checksum above IP of `bytes`, which begin as this packet does, is right.
    #[must_use]
    pub fn is_right(&self, bytes: &[u8]) -> bool {
        self.transport_sum(bytes) == 0xffff
    }

    /// The sum of the header above IP, of what it carries, and of what IP says of it (RFC 768, RFC 8200 8.1).
    fn transport_sum(&self, bytes: &[u8]) -> u16 {
        let addresses = match bytes[12] {
            8 => ETHERNET + 12..ETHERNET + 20,
            _ => ETHERNET + 8..ETHERNET + 40,
        };
        let length = u16::try_from(bytes.len() - self.transport).expect("it fits");
        let mut summed = bytes[addresses].to_vec();
        summed.extend(length.to_be_bytes());
        summed.extend([0, self.protocol]);
        summed.extend(&bytes[self.transport..]);
        sum(&summed)
    }

    /// ECN's bits in `bytes`, which begin as this packet does.
    #[must_use]
    pub fn ecn(bytes: &[u8]) -> u8 {
        match bytes[12] {
            8 => bytes[ETHERNET + 1] & 3,
            _ => bytes[ETHERNET + 1] >> 4 & 3,
        }
    }

    /// Returns true if the checksum of the IPv4 header of `bytes` is right; IPv6 has none.
    #[must_use]
    pub fn has_right_header(bytes: &[u8]) -> bool {
        let words = usize::from(bytes[ETHERNET] & 15);
        bytes[12] != 8 || sum(&bytes[ETHERNET..ETHERNET + words * 4]) == 0xffff
    }

    /// The bits, counted from the beginning, in which `bytes` differ.
    ///
    /// # Panics
    ///
    /// When they are not as long.
    #[must_use]
    pub fn turned(&self, bytes: &[u8]) -> Vec<usize> {
        assert_eq!(bytes.len(), self.bytes.len(), "the packet is as long as it was");
        let differ = |(at, (old, new)): (usize, (&u8, &u8))| {
            let turned = old ^ new;
            (turned != 0)
                .then(|| (0..8).filter(move |bit| turned >> bit & 1 == 1).map(move |bit| at * 8 + bit))
        };
        self.bytes.iter().zip(bytes).enumerate().filter_map(differ).flatten().collect()
    }
}

/// The sum of words of 16 bits that checksums are made of (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut total: u32 = bytes.chunks(2).map(word).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("it was folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_right_checksums_and_lengths() {
        let udp = Spec::udp(33);
        let tcp = Spec { protocol: TCP, tcp_options: 12, ..udp };
        for (spec, length) in [
            (udp, 14 + 20 + 8 + 33),
            (Spec { ip_options: 8, ..udp }, 14 + 28 + 8 + 33),
            (udp.v6(), 14 + 40 + 8 + 33),
            (tcp, 14 + 20 + 32 + 33),
            (Spec { ip_options: 16, ..tcp.v6() }, 14 + 56 + 32 + 33),
        ] {
            let frame = spec.build();
            assert_eq!((frame.bytes.len(), frame.payload), (length, length - 33), "{spec:?}");
            assert!(frame.is_right(&frame.bytes) && Frame::has_right_header(&frame.bytes), "{spec:?}");
            let mut wrong = frame.bytes.clone();
            wrong[frame.payload + 3] ^= 4;
            assert!(!frame.is_right(&wrong));
            assert_eq!(frame.turned(&wrong), [(frame.payload + 3) * 8 + 2]);
        }
    }

    #[test]
    fn the_ecn_bits_are_where_they_belong() {
        for spec in [Spec::udp(1), Spec::udp(1).v6()] {
            assert_eq!(Frame::ecn(&Spec { ecn: ECT, ..spec }.build().bytes), ECT);
        }
    }
}
