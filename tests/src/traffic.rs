//! Traffic between namespaces, and what became of it.

use std::{
    io::{IoSliceMut, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt},
    time::TimeSpec,
};

use crate::netns::Netns;

/// The report of `ping`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pings {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Least round-trip time, of those that came back.
    pub least: Duration,
    /// Mean round-trip time, of those that came back.
    pub mean: Duration,
    /// Standard deviation of the round-trip times.
    pub deviation: Duration,
}

/// Pings `to` from `from`.
///
/// # Errors
///
/// When `ping` is missing or writes what it does not usually.
pub fn ping(from: &Netns, to: Ipv4Addr, count: u32, interval: Duration, options: &[&str]) -> Result<Pings> {
    let mut command = from.command("ping");
    command.args([
        "-n",
        "-q",
        "-c",
        &count.to_string(),
        "-i",
        &interval.as_secs_f64().to_string(),
        "-W",
        "10",
    ]);
    let output = command.args(options).arg(to.to_string()).output().context("run ping")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_ping(&text)
        .with_context(|| format!("ping wrote {text:?} {:?}", String::from_utf8_lossy(&output.stderr)))
}

/// Parses the summary of `ping -q`.
///
/// # Errors
///
/// When it is something else.
pub(crate) fn parse_ping(text: &str) -> Result<Pings> {
    let counts = text.lines().find(|line| line.contains("packets transmitted")).context("no counts")?;
    let number = |part: &str| -> Result<u32> {
        let before = counts.split(part).next().context("no such count")?;
        Ok(before.trim_end().rsplit(' ').next().context("no number")?.parse()?)
    };
    let times: Vec<f64> = match text.lines().find(|line| line.starts_with("rtt ")) {
        Some(line) => {
            let times =
                line.split(" = ").nth(1).context("no times")?.split(' ').next().context("no times")?;
            times.split('/').map(str::parse).collect::<Result<_, _>>()?
        }
        None => vec![0.0; 4],
    };
    ensure!(times.len() == 4, "{} times", times.len());
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
    Ok(Pings {
        sent: number("packets transmitted")?,
        received: number("received")?,
        least: ms(times[0]),
        mean: ms(times[1]),
        deviation: ms(times[3]),
    })
}

/// The outcome of a TCP transfer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// When the first byte arrived.
    pub begin: Instant,
    /// From the first byte to the last.
    pub time: Duration,
    /// Segments that the sender's namespace sent again meanwhile.
    pub retransmits: u64,
    /// Bits that arrived as 1; all are sent as 0.
    pub turned: u64,
    /// Bytes that arrived after the first third of the time, and the time that they took.
    steady: (u64, Duration),
}

impl Transfer {
    /// Megabits per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no transfer has 2^53 bytes")]
    pub fn mbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.time.as_secs_f64()
    }

    /// Megabits per second after the first third of the time.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no transfer has 2^53 bytes")]
    pub fn steady_mbit_per_second(&self) -> f64 {
        self.steady.0 as f64 * 8.0 / 1e6 / self.steady.1.as_secs_f64()
    }
}

/// Sends from one namespace to an address of another over one TCP connection for about `time`.
///
/// # Errors
///
/// When no connection comes about.
pub fn tcp(from: &Netns, to: &Netns, address: IpAddr, time: Duration) -> Result<Transfer> {
    transfer(from, to, address, |_, elapsed| elapsed < time)
}

/// Sends about so many bytes from one namespace to an address of another over one TCP connection.
///
/// # Errors
///
/// When no connection comes about.
pub fn tcp_bytes(from: &Netns, to: &Netns, address: IpAddr, bytes: u64) -> Result<Transfer> {
    transfer(from, to, address, |sent, _| sent < bytes)
}

/// The same, for at least that `time`: what takes less says nothing of a rate.
///
/// # Errors
///
/// The errors of [`tcp_bytes`].
pub fn tcp_bytes_for(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    bytes: u64,
    time: Duration,
) -> Result<Transfer> {
    transfer(from, to, address, |sent, elapsed| sent < bytes || elapsed < time)
}

fn transfer(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    goes_on: impl Fn(u64, Duration) -> bool + Send,
) -> Result<Transfer> {
    let listener = to.enter(|| TcpListener::bind((address, 0)))?;
    let destination = listener.local_addr()?;
    let receiver = thread::spawn(move || receive(&listener));
    let before = retransmits(from)?;
    from.enter(|| send(destination, goes_on))?;
    let received = receiver.join().expect("it does not panic")?;
    Ok(Transfer { retransmits: retransmits(from)? - before, ..received })
}

fn send(to: SocketAddr, goes_on: impl Fn(u64, Duration) -> bool) -> Result<()> {
    let mut stream = TcpStream::connect(to).context("connect")?;
    let block = vec![0_u8; 1 << 14];
    let (begin, mut sent) = (Instant::now(), 0);
    while goes_on(sent, begin.elapsed()) {
        stream.write_all(&block).context("send")?;
        sent += block.len() as u64;
    }
    Ok(())
}

fn receive(listener: &TcpListener) -> Result<Transfer> {
    let (mut stream, _) = listener.accept()?;
    let (mut block, zeros) = (vec![0_u8; 1 << 18], vec![0_u8; 1 << 18]);
    let (mut bytes, mut turned) = (0, 0);
    let mut reads: Vec<(Instant, u64)> = Vec::new();
    loop {
        let length = stream.read(&mut block)?;
        if length == 0 {
            break;
        }
        bytes += length as u64;
        // Compared as a whole first, which takes no time even where nothing is optimised.
        if block[..length] != zeros[..length] {
            turned += block[..length].iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        }
        reads.push((Instant::now(), bytes));
    }
    let (first, last) = (reads.first().context("nothing arrived")?.0, reads[reads.len() - 1].0);
    let time = first.elapsed();
    let third = reads.partition_point(|(at, _)| *at < first + (last - first) / 3);
    let steady = (bytes - reads[third].1, last - reads[third].0);
    Ok(Transfer { bytes, begin: first, time, retransmits: 0, turned, steady })
}

/// `RetransSegs` of a namespace (RFC 1213, `tcpRetransSegs`).
fn retransmits(netns: &Netns) -> Result<u64> {
    snmp(netns, "Tcp", "RetransSegs")
}

/// A count of a namespace, as `/proc/net/snmp` has it.
///
/// # Errors
///
/// When there is none of that name.
pub fn snmp(netns: &Netns, protocol: &str, name: &str) -> Result<u64> {
    let snmp = netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let at = names.split(' ').position(|other| other == name).with_context(|| format!("no {name}"))?;
    Ok(values.split(' ').nth(at).context("no value")?.parse()?)
}

/// Counts the numbers that came after a greater one.
#[must_use]
pub fn out_of_order(numbers: &[u32]) -> usize {
    let mut greatest = 0;
    let late = |number: &&u32| {
        greatest = greatest.max(**number);
        **number < greatest
    };
    numbers.iter().filter(late).count()
}

/// Datagrams that are to be sent, each with its number in its first four bytes and zeros behind it.
#[derive(Clone, Copy, Debug)]
pub struct Datagrams {
    /// The number of datagrams.
    pub count: u32,
    /// Of so many bytes, at least 4.
    pub size: usize,
    /// The time between two of them; zero is as fast as can be.
    pub interval: Duration,
    /// Their traffic class.
    pub tos: i32,
    /// True for those of a connected socket, which `fq` takes for a flow of its own.
    pub connected: bool,
}

impl Datagrams {
    /// So many, of that size, at once.
    #[must_use]
    pub const fn at_once(count: u32, size: usize) -> Self {
        Self { count, size, interval: Duration::ZERO, tos: 0, connected: false }
    }
}

/// A datagram that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The number, if that was not turned into another.
    pub number: u32,
    /// When it was sent, since 1970; none if its number says nothing.
    pub sent: Option<Duration>,
    /// When the kernel had it, since 1970.
    pub at: Duration,
    /// The traffic class.
    pub tos: u8,
    /// The bytes that it carried.
    pub bytes: Vec<u8>,
}

/// Sends datagrams from one namespace to an address of another; gives those that arrived until none did for `patience`.
///
/// # Errors
///
/// When a socket fails.
///
/// # Panics
///
/// When the kernel says less of them than it should.
pub fn datagrams(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    sent: Datagrams,
    patience: Duration,
) -> Result<Vec<Arrival>> {
    let receiver = to.enter(|| UdpSocket::bind((address, 0)))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &(64 << 20))?;
    setsockopt(&receiver, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&receiver, sockopt::IpRecvTos, &true)
        .or_else(|error| if address.is_ipv6() { Ok(()) } else { Err(error) })?;
    receiver.set_read_timeout(Some(patience))?;
    let destination = receiver.local_addr()?;
    let arrivals = thread::spawn(move || std::iter::from_fn(|| arrival(&receiver)).collect::<Vec<_>>());
    let times = from.enter(|| send_datagrams(destination, sent))?;
    let mut arrivals = arrivals.join().expect("it does not panic");
    for arrival in &mut arrivals {
        arrival.sent = times.get(arrival.number as usize).copied();
    }
    Ok(arrivals)
}

/// Gives the times at which they were sent, since 1970.
fn send_datagrams(
    to: SocketAddr,
    Datagrams { count, size, interval, tos, connected }: Datagrams,
) -> Result<Vec<Duration>> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // What is sent at once is to be sent, whatever of it still waits.
    setsockopt(&socket, sockopt::SndBufForce, &(64 << 20))?;
    if tos != 0 {
        setsockopt(&socket, sockopt::Ipv4Tos, &tos)?;
    }
    if connected {
        socket.connect(to)?;
    }
    let mut datagram = vec![0; size];
    let mut times = Vec::new();
    let begin = Instant::now();
    for number in 0..count {
        times.push(SystemTime::now().duration_since(UNIX_EPOCH)?);
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        let sent = if connected { socket.send(&datagram) } else { socket.send_to(&datagram, to) };
        match sent {
            // A full queue is told.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            sent => drop(sent.context("send a datagram")?),
        }
        if !interval.is_zero() {
            thread::sleep((interval * (number + 1)).saturating_sub(begin.elapsed()));
        }
    }
    Ok(times)
}

impl Arrival {
    /// Returns the time that it was on its way.
    ///
    /// # Panics
    ///
    /// When its number says nothing.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.at - self.sent.expect("its number is one that was sent")
    }
}

fn arrival(receiver: &UdpSocket) -> Option<Arrival> {
    let mut bytes = [0; 2_000];
    let mut space = nix::cmsg_space!(TimeSpec, u8);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(receiver.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).ok()?;
    let (mut at, mut tos) = (None, 0);
    for said in message.cmsgs().expect("there was room for all of them") {
        match said {
            ControlMessageOwned::ScmTimestampns(time) => at = Some(Duration::from(time)),
            ControlMessageOwned::Ipv4Tos(value) => tos = value,
            _ => {}
        }
    }
    let length = message.bytes;
    // Only as much as there is: many may be kept.
    let bytes = bytes[..length].to_vec();
    let number = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    Some(Arrival { number, sent: None, at: at.expect("it was asked for"), tos, bytes })
}

/// Sends `count` datagrams of 64 bytes at once from one socket, and says how many arrived until none did for `patience`.
///
/// # Errors
///
/// When a socket fails.
pub fn udp_burst(from: &Netns, to: &Netns, address: Ipv4Addr, count: u32, patience: Duration) -> Result<u32> {
    let receiver = to.enter(|| UdpSocket::bind((address, 0)))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &(64 << 20))?;
    receiver.set_read_timeout(Some(patience))?;
    let destination = receiver.local_addr()?;
    let (sent, sends) = mpsc::channel();
    let counter = thread::spawn(move || {
        let mut datagram = [0; 64];
        let mut received = 0;
        while received < count && receiver.recv(&mut datagram).is_ok() {
            received += 1;
        }
        received
    });
    from.enter(|| -> Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for _ in 0..count {
            socket.send_to(&[0; 64], destination)?;
        }
        sent.send(())?;
        Ok(())
    })?;
    sends.recv().context("the sender did not finish")?;
    Ok(counter.join().expect("it does not panic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_a_greater_number_is_out_of_order() {
        assert_eq!(out_of_order(&[1, 2, 4, 3, 5]), 1);
        assert_eq!(out_of_order(&[3, 1, 2, 4]), 2);
    }

    #[test]
    fn the_report_of_ping_is_read() {
        let text = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n--- 10.0.0.1 ping statistics ---\n\
                    10 packets transmitted, 9 received, 10% packet loss, time 9ms\n\
                    rtt min/avg/max/mdev = 0.020/50.250/0.100/1.500 ms, pipe 4\n";
        let pings = parse_ping(text).expect("it is what ping writes");
        assert_eq!((pings.sent, pings.received), (10, 9));
        assert_eq!(pings.mean, Duration::from_micros(50_250));
        assert_eq!(pings.deviation, Duration::from_micros(1_500));
    }
}
