//! Which packets of a TCP connection were lost on their way, as seen from its end.
//!
//! Linux numbers the packets of a connected socket one by one, whatever they carry and however often, in the
//! identification of IPv4's header (`ip_select_ident_segs`). A packet that is to be cut into segments later takes as
//! many numbers. So what is missing between two that arrived was lost, and nothing else was.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket,
        sockopt::{RcvBufForce, ReceiveTimeout},
    },
    time::TimeVal,
};
use shaper_tests::netns::Netns;

const ETHERNET_HEADER: usize = 14;
const IPPROTO_TCP: u8 = 6;
/// What a veth's packets may have at most, without the link's header.
const MTU: usize = 1500;

/// A packet socket that has seen all that arrived since it was made.
pub(crate) struct Capture {
    socket: File,
    source: Ipv4Addr,
}

/// The packets of TCP that arrived, in order.
pub(crate) struct Packets(Vec<Packet>);

struct Packet {
    port: u16,
    first_number: u16,
    count: u16,
}

/// What was lost of a connection's packets; counted as they would be on a wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// Packets that arrived.
    pub(crate) arrived: u32,
    /// How many were lost in a row, each time.
    pub(crate) runs: Vec<u16>,
}

impl Capture {
    /// Captures what arrives in a namespace from an address.
    pub(crate) fn new(netns: &Netns, source: Ipv4Addr) -> Result<Self> {
        let all = SockProtocol::EthAll;
        let open = || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all);
        let socket = netns.enter(open).context("open a packet socket")?;
        setsockopt(&socket, RcvBufForce, &(512 << 20))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 100_000))?;
        Ok(Self { socket: File::from(socket), source })
    }

    /// Reads until it is `over` and there are no more.
    pub(crate) fn read_until(mut self, over: &AtomicBool) -> Result<Packets> {
        let mut packets = Vec::new();
        // What is beyond the headers is cut off.
        let mut head = [0; 128];
        loop {
            // Looked at before reading, so that what arrived until then is read.
            let last = over.load(Ordering::Relaxed);
            match self.socket.read(&mut head) {
                Ok(length) => packets.extend(parse(&head[..length], self.source)),
                Err(error) if error.kind() == ErrorKind::WouldBlock && last => return Ok(Packets(packets)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("read captured packets"),
            }
        }
    }
}

impl Packets {
    /// What was lost of the connection from a port.
    pub(crate) fn losses(&self, port: u16) -> Losses {
        let mut losses = Losses::default();
        let mut expected = None;
        for packet in self.0.iter().filter(|packet| packet.port == port) {
            let missing = expected.map_or(0, |expected| packet.first_number.wrapping_sub(expected));
            if missing > 0 {
                losses.runs.push(missing);
            }
            losses.arrived += u32::from(packet.count);
            expected = Some(packet.first_number.wrapping_add(packet.count));
        }
        losses
    }
}

impl Losses {
    /// Packets that were lost.
    pub(crate) fn lost(&self) -> u32 {
        self.runs.iter().map(|&run| u32::from(run)).sum()
    }
}

fn parse(packet: &[u8], source: Ipv4Addr) -> Option<Packet> {
    let ip = packet.get(ETHERNET_HEADER..)?;
    let short = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let header = usize::from(ip.first()? & 0x0f) * 4;
    if ip.get(12..16)? != source.octets() || *ip.get(9)? != IPPROTO_TCP {
        return None;
    }
    let tcp = ip.get(header..)?;
    let headers = header + usize::from(tcp.get(12)? >> 4) * 4;
    let payload = usize::from(short(ip, 2)?).saturating_sub(headers);
    let count = u16::try_from(payload.div_ceil(MTU - headers).max(1)).ok()?;
    Some(Packet { port: short(tcp, 0)?, first_number: short(ip, 4)?, count })
}
