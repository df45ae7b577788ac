//! What comes by of a TCP connection, and what is missing from it, seen by a packet socket.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
            sockopt::{RcvBufForce, ReceiveTimeout},
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use crate::netns::Netns;

/// What Ethernet and IPv4 put before TCP, at the least.
const ETHERNET: usize = 14;

/// What came by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The longest packet, in bytes, with its IP header.
    pub longest: usize,
    /// The lengths, in bytes, of what was missing where later data came first.
    pub gaps: Vec<u32>,
    /// Where the data ended that was furthest ahead.
    end: Option<u32>,
}

impl Seen {
    /// How many packets of `size` bytes were lost in a row, on average.
    #[must_use]
    pub fn mean_run(&self, size: u32) -> f64 {
        let lost: u32 = self.gaps.iter().map(|gap| gap.div_ceil(size)).sum();
        f64::from(lost) / f64::from(u32::try_from(self.gaps.len()).unwrap_or(u32::MAX))
    }

    /// Takes a frame: its beginning, and its whole length. None if it is no TCP over IPv4 from `sender`.
    fn take(&mut self, frame: &[u8], length: usize, sender: Ipv4Addr) -> Option<()> {
        let ip = frame.get(ETHERNET..)?;
        let is_tcp = frame.get(12..ETHERNET)? == [8, 0] && *ip.get(9)? == 6;
        if !is_tcp || ip.get(12..16)? != sender.octets() {
            return None;
        }
        let tcp = ip.get(4 * usize::from(ip[0] & 0xf)..)?;
        let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let headers = 4 * usize::from(ip[0] & 0xf) + 4 * usize::from(*tcp.get(12)? >> 4);
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let next = sequence.wrapping_add(u32::try_from(total.checked_sub(headers)?).ok()?);
        self.longest = self.longest.max(length - ETHERNET);
        let end = *self.end.get_or_insert(next);
        // Numbers wrap around: what is less than half the way ahead is ahead (RFC 9293, 3.4).
        let ahead = |number: u32| number.wrapping_sub(end).cast_signed();
        if ahead(sequence) > 0 {
            self.gaps.push(sequence.wrapping_sub(end));
        }
        if ahead(next) > 0 {
            self.end = Some(next);
        }
        Some(())
    }
}

/// Looks at the one TCP connection over IPv4 that `sender` sends through while `work` runs, as it arrives in `netns`.
///
/// # Errors
///
/// Without root.
///
/// # Panics
///
/// When `work` does.
pub fn watch<T>(netns: &Netns, sender: Ipv4Addr, work: impl FnOnce() -> T) -> Result<(T, Seen)> {
    let tap = netns.enter(tap)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| look(&tap, sender, &over));
        let done = work();
        over.store(true, Ordering::Relaxed);
        let seen = watcher.join().expect("it does not panic").context("look at packets")?;
        Ok((done, seen))
    })
}

/// A socket that gets all packets of the calling thread's namespace.
fn tap() -> Result<OwnedFd> {
    let tap = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("open a packet socket")?;
    // What did not fit would look as if it had been lost.
    setsockopt(&tap, RcvBufForce, &(256 << 20))?;
    setsockopt(&tap, ReceiveTimeout, &TimeVal::milliseconds(20))?;
    Ok(tap)
}

fn look(tap: &OwnedFd, sender: Ipv4Addr, over: &AtomicBool) -> nix::Result<Seen> {
    let mut seen = Seen::default();
    let mut frame = [0; 128];
    while !over.load(Ordering::Relaxed) {
        // With this flag it says how long the whole frame was.
        match recv(tap.as_raw_fd(), &mut frame, MsgFlags::MSG_TRUNC) {
            Ok(length) => {
                seen.take(&frame[..length.min(frame.len())], length, sender);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment with so many bytes at a sequence number.
    fn segment(sequence: u32, bytes: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 40 + usize::from(bytes)];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(bytes + 40).to_be_bytes());
        frame[23] = 6;
        frame[26..30].copy_from_slice(&[10, 0, 0, 2]);
        frame[38..42].copy_from_slice(&sequence.to_be_bytes());
        frame[46] = 0x50;
        frame
    }

    #[test]
    fn gaps_are_found_where_later_data_came_first() {
        let mut seen = Seen::default();
        let start = u32::MAX - 150;
        // The second is missing and comes later; the fifth and sixth never come.
        for number in [0, 2, 3, 1, 6] {
            let frame = segment(start.wrapping_add(100 * number), 100);
            seen.take(&frame, frame.len(), Ipv4Addr::new(10, 0, 0, 2)).expect("it is TCP");
        }
        assert_eq!(seen.take(&segment(0, 900), 954, Ipv4Addr::new(10, 0, 0, 9)), None);
        assert_eq!((seen.longest, &seen.gaps[..]), (140, &[100, 200][..]));
        assert!((seen.mean_run(100) - 1.5).abs() < f64::EPSILON);
    }
}
