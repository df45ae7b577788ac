//! The losses of a TCP connection, as seen by a packet socket at its end.
//!
//! Linux numbers the packets of a connected socket one by one, whatever they carry and however often, in the
//! identification of IPv4's header (`ip_select_ident_segs`). A packet that is to be cut into segments later takes as
//! many numbers. So what is missing of them was lost, and nothing else was: not what was sent again, nor what another
//! processor brought later.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket,
        sockopt::{RcvBufForce, ReceiveTimeout},
    },
    time::{TimeVal, TimeValLike as _},
};

use crate::{frame::TCP, netns::Netns};

const ETHERNET_HEADER: usize = 14;
/// The largest packet of a veth, without the link's header.
const MTU: usize = 1500;

/// The packets of TCP that arrived, in order.
#[derive(Debug)]
pub struct Packets(Vec<Packet>);

#[derive(Clone, Copy, Debug)]
struct Packet {
    port: u16,
    first_number: u16,
    count: u16,
    length: u16,
}

/// The losses of a connection's packets; counted as they would be on a wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that arrived.
    pub arrived: u32,
    /// The lengths of the runs of losses.
    pub runs: Vec<u16>,
}

/// Looks at what `sender` sends by TCP over IPv4 while `work` runs, as it arrives in `netns`. What has
/// arrived, but is not read by then, is left out.
///
/// # Errors
///
/// Without root.
///
/// # Panics
///
/// When `work` does.
pub fn watch<T>(netns: &Netns, sender: Ipv4Addr, work: impl FnOnce() -> T) -> Result<(T, Packets)> {
    let tap = netns.enter(tap)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| read_until(&over, tap, sender));
        let done = work();
        over.store(true, Ordering::Relaxed);
        let packets = watcher.join().expect("it does not panic")?;
        Ok((done, packets))
    })
}

/// A socket that gets all packets of the calling thread's namespace.
pub(crate) fn tap() -> Result<File> {
    let tap = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("open a packet socket")?;
    // What did not fit would look as if it had been lost.
    setsockopt(&tap, RcvBufForce, &(512 << 20))?;
    setsockopt(&tap, ReceiveTimeout, &TimeVal::milliseconds(20))?;
    Ok(tap.into())
}

fn read_until(over: &AtomicBool, mut tap: File, sender: Ipv4Addr) -> Result<Packets> {
    let mut packets = Vec::new();
    // What is beyond the headers is cut off.
    let mut head = [0; 128];
    while !over.load(Ordering::Relaxed) {
        match tap.read(&mut head) {
            Ok(length) => packets.extend(parse(&head[..length], sender)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("read packets"),
        }
    }
    Ok(Packets(packets))
}

impl Packets {
    /// The longest, in bytes, with its IP header.
    #[must_use]
    pub fn longest(&self) -> u16 {
        self.0.iter().map(|packet| packet.length).max().unwrap_or(0)
    }

    /// The port that the first one came from.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        Some(self.0.first()?.port)
    }

    /// Returns the losses of the connection from a port.
    #[must_use]
    pub fn losses(&self, port: u16) -> Losses {
        let mut latest = 0;
        let packets = self.0.iter().filter(|packet| packet.port == port);
        let mut arrived: Vec<_> = packets
            .map(|packet| {
                // Numbers begin anew after the greatest; the nearest one to that of the packet before is meant.
                let ahead = i64::from(packet.first_number) - latest;
                latest += (ahead + 0x8000).rem_euclid(0x1_0000) - 0x8000;
                (latest, packet.count)
            })
            .collect();
        arrived.sort_unstable();
        let mut losses = Losses::default();
        let mut expected = arrived.first().map_or(0, |(number, _)| *number);
        for (number, count) in arrived {
            if number > expected {
                losses.runs.push(u16::try_from(number - expected).unwrap_or(u16::MAX));
            }
            losses.arrived += u32::from(count);
            expected = expected.max(number + i64::from(count));
        }
        losses
    }
}

impl Losses {
    /// Packets that were lost.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.runs.iter().map(|&run| u32::from(run)).sum()
    }

    /// Returns the mean length of the runs of losses.
    #[must_use]
    pub fn mean_run(&self) -> f64 {
        f64::from(self.lost()) / f64::from(u32::try_from(self.runs.len()).unwrap_or(u32::MAX))
    }
}

fn parse(packet: &[u8], sender: Ipv4Addr) -> Option<Packet> {
    let ip = packet.get(ETHERNET_HEADER..)?;
    let short = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let header = usize::from(ip.first()? & 0x0f) * 4;
    if packet[12..ETHERNET_HEADER] != [8, 0] || ip.get(12..16)? != sender.octets() || ip[9] != TCP {
        return None;
    }
    let tcp = ip.get(header..)?;
    let headers = header + usize::from(tcp.get(12)? >> 4) * 4;
    let length = short(ip, 2)?;
    let payload = usize::from(length).saturating_sub(headers);
    let count = u16::try_from(payload.div_ceil(MTU - headers).max(1)).ok()?;
    Some(Packet { port: short(tcp, 0)?, first_number: short(ip, 4)?, count, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    /// A packet from port 5 with a number, and so many bytes for TCP.
    fn packet(number: u16, bytes: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_HEADER + 40];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(bytes + 40).to_be_bytes());
        frame[18..20].copy_from_slice(&number.to_be_bytes());
        frame[23] = TCP;
        frame[26..30].copy_from_slice(&SENDER.octets());
        frame[35] = 5;
        frame[46] = 0x50;
        frame
    }

    fn losses(packets: &[(u16, u16)]) -> Losses {
        let parsed = packets.iter().map(|(number, bytes)| parse(&packet(*number, *bytes), SENDER));
        Packets(parsed.collect::<Option<_>>().expect("they are TCP")).losses(5)
    }

    #[test]
    fn what_is_missing_was_lost_also_where_numbers_begin_anew() {
        // 65533, 65534, 0 and 3 arrive; the second of them took two numbers.
        let seen = losses(&[(65_533, 100), (65_534, 2_000), (0, 0), (3, 1_460)]);
        assert_eq!(seen, Losses { arrived: 5, runs: vec![2] });
        assert_eq!((seen.lost(), seen.mean_run()), (2, 2.0));
    }

    #[test]
    fn what_comes_later_was_not_lost() {
        assert_eq!(losses(&[(7, 9), (65_000, 9), (8, 9), (65_001, 9)]).runs, [534 + 7]);
        assert_eq!(losses(&[(7, 9), (9, 9), (10, 9), (8, 9)]), Losses { arrived: 4, runs: vec![] });
    }

    #[test]
    fn others_packets_are_left_out() {
        let frame = packet(1, 100);
        assert!(parse(&frame, Ipv4Addr::new(10, 0, 0, 9)).is_none());
        assert!(parse(&frame[..46], SENDER).is_none(), "a packet that ends early");
        let seen = Packets(vec![parse(&frame, SENDER).expect("it is TCP")]);
        assert_eq!((seen.port(), seen.longest()), (Some(5), 140));
        assert_eq!(seen.losses(6), Losses::default());
    }
}
