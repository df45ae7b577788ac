//! Echo requests (ICMP) from a container, which the host's kernel answers.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt::RcvBufForce,
};
use shaper_tests::world::Container;

use crate::datagrams::breathe;

/// Headers before an answer's own bytes: IPv4's, as raw sockets give it, and ICMP's.
const HEADERS: usize = 20 + 8;
const ICMP_ECHO: u8 = 8;
const ICMP_ECHOREPLY: u8 = 0;

/// A raw socket in a container that exchanges echoes with the host.
pub(crate) struct Echo(UdpSocket);

impl Echo {
    pub(crate) fn new(container: &Container) -> Result<Self> {
        let open = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp);
        let raw = container.netns.enter(open).context("open a raw socket")?;
        setsockopt(&raw, RcvBufForce, &(64 << 20))?;
        // To the standard library any socket that sends and receives datagrams is one of UDP.
        let socket = UdpSocket::from(raw);
        socket.connect((container.host_address, 0))?;
        Ok(Self(socket))
    }

    /// Sends `count` requests, one each `interval` whether or not there were answers, and gives the times in
    /// nanoseconds from before a request is sent until its answer has been received.
    pub(crate) fn round_trips(&self, count: u32, interval: Duration) -> Result<Vec<f64>> {
        self.0.set_read_timeout(Some(Duration::from_secs(20)))?;
        let begin = Instant::now();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| (0..count).map(|_| self.receive(begin)).collect());
            for number in 0..count {
                let due = begin + number * interval;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                self.send(begin)?;
            }
            receiver.join().expect("it does not panic")
        })
    }

    /// Sends `count` requests, and says how many were answered; for a path without a delay.
    pub(crate) fn answered(&self, count: u32) -> Result<u32> {
        let begin = Instant::now();
        self.0.set_nonblocking(true)?;
        let mut answered = 0;
        for number in 0..count {
            breathe(number);
            self.send(begin)?;
            answered += self.waiting()?;
        }
        thread::sleep(Duration::from_millis(100));
        Ok(answered + self.waiting()?)
    }

    /// Takes the answers that are there.
    fn waiting(&self) -> Result<u32> {
        let mut count = 0;
        loop {
            match self.0.recv(&mut [0; 64]) {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error).context("receive an answer"),
            }
        }
    }

    /// Sends a request that carries the time since `begin`.
    fn send(&self, begin: Instant) -> Result<()> {
        let mut request = [0; 16];
        request[0] = ICMP_ECHO;
        let since = u64::try_from(begin.elapsed().as_nanos())?;
        request[8..].copy_from_slice(&since.to_be_bytes());
        let checksum = checksum(&request);
        request[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.0.send(&request).context("send a request")?;
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "no bench runs for 2^53 ns")]
    fn receive(&self, begin: Instant) -> Result<f64> {
        let mut answer = [0; 64];
        let length = self.0.recv(&mut answer).context("a request was not answered")?;
        let now = begin.elapsed().as_nanos();
        ensure!(length == HEADERS + 8 && answer[20] == ICMP_ECHOREPLY, "{length} bytes are no answer");
        let then = u64::from_be_bytes(answer[HEADERS..length].try_into()?);
        Ok((now - u128::from(then)) as f64)
    }
}

/// The Internet's checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
