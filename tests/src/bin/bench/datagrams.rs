//! Numbered datagrams (UDP) from a container to the host.

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use shaper_tests::world::{Container, World};

/// Both ends. The receiver has room for a burst, so that nobody need read meanwhile.
pub(crate) struct Datagrams {
    sender: UdpSocket,
    receiver: UdpSocket,
}

/// The fate of some datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// The number that arrived.
    pub(crate) arrived: u32,
    /// The number that arrived once more.
    pub(crate) again: u32,
}

impl Datagrams {
    pub(crate) fn new(container: &Container, world: &World) -> Result<Self> {
        let receiver = world.host().enter(|| UdpSocket::bind((container.host_address, 0)))?;
        setsockopt(&receiver, RcvBufForce, &(512 << 20))?;
        let sender = container.netns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        sender.connect(receiver.local_addr()?)?;
        Ok(Self { sender, receiver })
    }

    /// Sends one of 64 bytes.
    pub(crate) fn send(&self, number: u32) -> Result<()> {
        let mut datagram = [0; 64];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        self.sender.send(&datagram).context("send a datagram")?;
        Ok(())
    }

    /// Returns the fate of the first `count`, once none has arrived for `patience`.
    pub(crate) fn fate(&self, count: u32, patience: Duration) -> Result<Fate> {
        Fate::of(&self.copies(count, patience)?)
    }

    /// Returns the number of times that each of the first `count` arrived, once none has arrived for `patience`.
    pub(crate) fn copies(&self, count: u32, patience: Duration) -> Result<Vec<u32>> {
        let mut copies = self.copies_while(|| false, patience)?;
        copies.resize(usize::try_from(count)?, 0);
        Ok(copies)
    }

    /// Reads while `goes_on`, and then until none has arrived for `patience`; returns the number of times that each arrived,
    /// up to the last one.
    pub(crate) fn copies_while(&self, goes_on: impl Fn() -> bool, patience: Duration) -> Result<Vec<u32>> {
        self.receiver.set_read_timeout(Some(patience))?;
        let mut copies = Vec::new();
        let mut datagram = [0; 64];
        loop {
            match self.receiver.recv(&mut datagram) {
                Ok(_) => {
                    let [a, b, c, d, ..] = datagram;
                    let number = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
                    if copies.len() <= number {
                        copies.resize(number + 1, 0);
                    }
                    copies[number] += 1;
                }
                Err(_) if goes_on() => {}
                Err(_) => return Ok(copies),
            }
        }
    }
}

impl Fate {
    /// The fate of datagrams of which so many copies arrived.
    pub(crate) fn of(copies: &[u32]) -> Result<Self> {
        let arrived = copies.iter().filter(|copies| **copies > 0).count();
        Ok(Self {
            arrived: u32::try_from(arrived)?,
            again: copies.iter().map(|it| it.saturating_sub(1)).sum(),
        })
    }
}

/// Waits now and then, for the sake of a path without a delay: the kernel puts off receiving to a thread when there is
/// much to receive, and drops what comes meanwhile beyond 1,000 packets (`net.core.netdev_max_backlog`).
pub(crate) fn breathe(number: u32) {
    if number.is_multiple_of(100) {
        thread::sleep(Duration::from_millis(1));
    }
}
