//! Frames that no well-behaved sender makes: cut short, changed at random, with offloads that do not fit them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    libc,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use crate::{
    frame::{ECT, Spec},
    netns::Netns,
};

/// Bytes of a frame's Ethernet header, with which each begins.
pub const ETHERNET: usize = 14;
/// The longest frame of a link with an MTU of 1500.
const LONGEST: usize = ETHERNET + 1_500;
/// ICMP, IP in IP, TCP, UDP, DCCP, IPv6 in IP, GRE, ESP, AH, ICMPv6, SCTP, UDP-Lite, and one that is nobody's.
const PROTOCOLS: [u8; 13] = [1, 4, 6, 17, 33, 41, 47, 50, 51, 58, 132, 136, 255];
/// ARP, VLAN, 802.1ad, MPLS, PPPoE, MACsec, a length, and one that is nobody's.
const ETHERTYPES: [u16; 8] = [0x0806, 0x8100, 0x88a8, 0x8847, 0x8864, 0x88e5, 0x0040, 0xffff];

/// An endless sequence of frames, which a seed determines.
#[derive(Clone, Debug)]
pub struct Frames {
    random: Rng,
    ends: (Ipv4Addr, Ipv4Addr),
    macs: [u8; 12],
}

impl Frames {
    /// Returns those between two addresses; `macs` are the destination's and the source's.
    #[must_use]
    pub fn new(seed: u64, ends: (Ipv4Addr, Ipv4Addr), macs: [u8; 12]) -> Self {
        Self { random: Rng::with_seed(seed), ends, macs }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.random.u32(..end)
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> Vec<u8> {
        let mut bytes = self.template();
        let random = &mut self.random;
        if random.u8(..8) == 0 {
            let ethertype = ETHERTYPES[random.usize(..ETHERTYPES.len())];
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        }
        // A fragment of IPv4; of IPv6 these bytes belong to an address.
        if random.u8(..8) == 0 {
            random.fill(&mut bytes[ETHERNET + 6..ETHERNET + 8]);
        }
        if random.bool() {
            for _ in 0..random.u8(1..8) {
                let at = random.usize(ETHERNET..bytes.len().min(110));
                bytes[at] = random.u8(..);
            }
        }
        if random.u8(..4) == 0 {
            bytes.truncate(random.usize(ETHERNET..=bytes.len()));
        }
        bytes
    }

    fn template(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let spec = Spec {
            source: IpAddr::V4(self.ends.0),
            destination: IpAddr::V4(self.ends.1),
            protocol: PROTOCOLS[random.usize(..PROTOCOLS.len())],
            ports: (random.u16(..), random.u16(..)),
            ip_options: random.usize(..6) * 8,
            tcp_options: random.usize(..=10) * 4,
            ecn: if random.bool() { ECT } else { 0 },
            payload: if random.bool() { random.usize(..64) } else { random.usize(..1_380) },
        };
        // The longest header of IPv4 has 40 bytes of options.
        let spec = if random.bool() { spec } else { to_v6(spec) };
        let mut bytes = spec.build().bytes;
        bytes[..12].copy_from_slice(&self.macs);
        bytes.truncate(LONGEST);
        bytes
    }

    /// A header that asks for the offloads that `frame` may have, at times with numbers that do not fit it.
    pub fn next_offload(&mut self, frame: &[u8]) -> [u8; Offload::LENGTH] {
        let random = &mut self.random;
        let (v4, protocol) = match frame {
            [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, rest @ ..] => (true, rest.get(9)),
            _ => (false, frame.get(ETHERNET + 6)),
        };
        let transport = if v4 { 20 } else { 40 };
        let gso_type = match protocol {
            Some(6) => {
                if v4 {
                    1
                } else {
                    4
                }
            }
            Some(17) => 5,
            _ => 0,
        };
        let is_gso = gso_type != 0 && random.bool();
        let fits = random.u8(..4) != 0;
        let number = |random: &mut Rng, right: u16| if fits { right } else { random.u16(..2_000) };
        let start = number(random, 14 + transport);
        Offload {
            needs_checksum: is_gso || random.bool(),
            gso_type: if is_gso { gso_type } else { 0 },
            header_length: number(random, 14 + transport + 20),
            gso_size: if is_gso { random.u16(1..1_500) } else { 0 },
            checksum_start: start,
            checksum_offset: number(random, if gso_type == 5 { 6 } else { 16 }),
        }
        .bytes()
    }
}

fn to_v6(spec: Spec) -> Spec {
    let (a, b) = (Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2));
    Spec { source: IpAddr::V6(a), destination: IpAddr::V6(b), ..spec }
}

/// The work on a frame that its sender leaves to the kernel: `struct virtio_net_hdr`.
struct Offload {
    needs_checksum: bool,
    gso_type: u8,
    header_length: u16,
    gso_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl Offload {
    const LENGTH: usize = 10;

    fn bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..2].copy_from_slice(&[self.needs_checksum.into(), self.gso_type]);
        let numbers = [self.header_length, self.gso_size, self.checksum_start, self.checksum_offset];
        for (place, number) in bytes[2..].chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

/// A socket that sends frames as they are out of one device.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    device: LinkAddr,
}

impl Sender {
    /// That of a device in a namespace. Where it `offloads`, each frame is to begin with a header of [`Frames::next_offload`].
    ///
    /// # Errors
    ///
    /// Without root, or the device.
    pub fn new(netns: &Netns, device: &str, offloads: bool) -> Result<Self> {
        netns.enter(|| {
            let found = getifaddrs()?.filter(|found| found.interface_name == device);
            let device = found.filter_map(|found| found.address?.as_link_addr().copied()).next();
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            if offloads {
                set_offloads(&socket)?;
            }
            Ok(Self { socket, device: device.context("no such device")? })
        })
    }

    /// The device's own address.
    ///
    /// # Panics
    ///
    /// When it is not an Ethernet device.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.device.addr().expect("it is an Ethernet device")
    }

    /// Sends a frame; returns false where the kernel does not take it.
    ///
    /// # Errors
    ///
    /// When the device is gone, or nothing can be sent.
    pub fn send(&self, frame: &[u8]) -> Result<bool> {
        match sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::EINVAL | Errno::ENOBUFS | Errno::EMSGSIZE | Errno::ENOMEM) => Ok(false),
            Err(error) => bail!("send a frame of {} bytes: {error}", frame.len()),
        }
    }
}

fn set_offloads(socket: &OwnedFd) -> Result<()> {
    let (on, length) = (1_i32, size_of::<i32>() as libc::socklen_t);
    #[expect(unsafe_code, reason = "no library knows this option")]
    // SAFETY: the value outlives the call, which reads as many bytes as it is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            (&raw const on).cast(),
            length,
        )
    };
    Errno::result(done).map(drop).context("set PACKET_VNET_HDR")
}
