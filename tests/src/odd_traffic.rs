//! Traffic that kernels treat in ways of its own: lists of packets, packets that are parted late, fragments, tunnels.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt::UdpGsoSegment},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::Netns;

/// The longest that a stream may take before its ends give up.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of ESP (RFC 4303), whose packets nothing on the way can read.
const ESP: i32 = 50;
/// A group that nobody is a member of.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 7, 7, 7);

/// Two namespaces that are linked, and the addresses of their ends.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// Where packets are sent.
    pub from: &'a Netns,
    /// The sender's address.
    pub source: Ipv4Addr,
    /// Where they are received.
    pub to: &'a Netns,
    /// The receiver's address.
    pub destination: Ipv4Addr,
}

impl Path<'_> {
    /// The same path in the other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { from: self.to, source: self.destination, to: self.from, destination: self.source }
    }

    /// Sends `count` messages of `size` bytes in a stream of TCP, SCTP or MPTCP; gives how many bytes arrived.
    ///
    /// # Errors
    ///
    /// When the kernel does not have the protocol.
    ///
    /// # Panics
    ///
    /// When the receiver's thread does.
    pub fn stream(self, protocol: Protocol, count: usize, size: usize) -> Result<usize> {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)).context("open a stream");
        let any_port = SockAddr::from(SocketAddr::from((self.destination, 0)));
        let listener = self.to.enter(|| -> Result<Socket> {
            let listener = new()?;
            listener.bind(&any_port)?;
            listener.listen(1)?;
            Ok(listener)
        })?;
        let destination = listener.local_addr()?;
        let receiver = thread::spawn(move || received(&listener, count * size));
        self.from.enter(|| -> Result<()> {
            let mut sender = new()?;
            sender.set_write_timeout(Some(PATIENCE))?;
            // A stream that is shaped need not come about.
            if sender.connect_timeout(&destination, PATIENCE).is_ok() {
                let message = vec![0x5a; size];
                let _ = (0..count).try_for_each(|_| sender.write_all(&message));
            }
            Ok(())
        })?;
        Ok(receiver.join().expect("it does not panic"))
    }

    /// Sends `bytes` as one datagram of UDP, which is fragmented, or as datagrams of `segment` bytes that the kernel parts
    /// (GSO); gives how many bytes arrived.
    ///
    /// # Errors
    ///
    /// When a socket fails.
    pub fn datagram(self, bytes: usize, segment: Option<i32>) -> Result<usize> {
        let receiver = self.to.enter(|| UdpSocket::bind((self.destination, 0)))?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        let destination = receiver.local_addr()?;
        self.from.enter(|| -> Result<()> {
            let sender = UdpSocket::bind((self.source, 0))?;
            if let Some(segment) = segment {
                setsockopt(&sender, UdpGsoSegment, &segment)?;
            }
            sender.send_to(&vec![0x5a; bytes], destination)?;
            Ok(())
        })?;
        let (mut datagram, mut arrived) = (vec![0; 1 << 16], 0);
        while arrived < bytes
            && let Ok(length) = receiver.recv(&mut datagram)
        {
            arrived += length;
        }
        Ok(arrived)
    }

    /// Sends ESP's packets, short and fragmented, and datagrams to a multicast group; nobody receives them.
    ///
    /// # Errors
    ///
    /// When a socket fails.
    pub fn unread(self) -> Result<()> {
        self.from.enter(|| {
            let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(ESP)))?;
            let to = SockAddr::from(SocketAddr::from((self.destination, 0)));
            for length in [1, 7, 60, 1_400, 9_000] {
                raw.send_to(&vec![0x5a; length], &to)?;
            }
            let udp = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            udp.set_multicast_if_v4(&self.source)?;
            let group = SockAddr::from(SocketAddr::from((GROUP, 9)));
            for length in [0, 100, 20_000] {
                udp.send_to(&vec![0x5a; length], &group)?;
            }
            Ok(())
        })
    }

    /// Makes a tunnel of a kind of `ip link`, with addresses in `10.200.subnet.0/24`, between both ends.
    ///
    /// # Errors
    ///
    /// When the kernel does not have it.
    pub fn tunnel(self, kind: &str, subnet: u8) -> Result<Self> {
        let address = |host| Ipv4Addr::new(10, 200, subnet, host);
        let Self { from, source, to, destination } = self;
        let ends = [(from, source, destination, address(1)), (to, destination, source, address(2))];
        let name = format!("tunnel{subnet}");
        for (netns, local, remote, inner) in ends {
            netns.run(&format!("ip link add {name} type {kind} local {local} remote {remote}"))?;
            netns.run(&format!("ip addr add {inner}/24 dev {name}"))?;
            netns.run(&format!("ip link set {name} up"))?;
        }
        Ok(Self { from, source: address(1), to, destination: address(2) })
    }
}

/// Reads a stream until so many bytes arrived, or none did for a time.
fn received(listener: &Socket, wanted: usize) -> usize {
    // MPTCP's accept knows no time-out.
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).expect("it is short");
    if !poll(&mut ready, patience).is_ok_and(|ready| ready > 0) {
        return 0;
    }
    let Ok((mut stream, _)) = listener.accept() else { return 0 };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let (mut block, mut bytes) = (vec![0; 1 << 16], 0);
    while bytes < wanted {
        match stream.read(&mut block) {
            Ok(length @ 1..) => bytes += length,
            _ => break,
        }
    }
    bytes
}
