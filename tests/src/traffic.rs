//! Traffic between namespaces, and what became of it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::netns::Netns;

/// What `ping` reported.
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

fn parse_ping(text: &str) -> Result<Pings> {
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

/// Whether `lost` of `count` lies in the binomial 99.9 % interval of `share`.
#[must_use]
pub fn is_binomial(lost: u32, count: u32, share: f64) -> bool {
    let (lost, n) = (f64::from(lost), f64::from(count));
    (lost - n * share).abs() <= 3.29 * (n * share * (1.0 - share)).sqrt() + 1.0
}

/// What became of a TCP transfer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first byte to the last.
    pub time: Duration,
    /// Segments that the sender's namespace sent again meanwhile.
    pub retransmits: u64,
}

impl Transfer {
    /// Megabits per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no transfer has 2^53 bytes")]
    pub fn mbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.time.as_secs_f64()
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
    let (bytes, time) = receiver.join().expect("it does not panic")?;
    Ok(Transfer { bytes, time, retransmits: retransmits(from)? - before })
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

fn receive(listener: &TcpListener) -> Result<(u64, Duration)> {
    let (mut stream, _) = listener.accept()?;
    let mut block = vec![0_u8; 1 << 18];
    let (mut bytes, mut first) = (0, None);
    loop {
        let read = stream.read(&mut block)? as u64;
        let begin = *first.get_or_insert_with(Instant::now);
        if read == 0 {
            return Ok((bytes, begin.elapsed()));
        }
        bytes += read;
    }
}

/// `RetransSegs` of a namespace (RFC 1213, `tcpRetransSegs`).
fn retransmits(netns: &Netns) -> Result<u64> {
    let snmp = netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let at = names.split(' ').position(|name| name == "RetransSegs").context("no RetransSegs")?;
    Ok(values.split(' ').nth(at).context("no value")?.parse()?)
}

/// Sends `count` datagrams of 64 bytes at once from one socket, and says how many arrived until none did for `patience`.
///
/// # Errors
///
/// When a socket fails.
pub fn udp_burst(from: &Netns, to: &Netns, address: Ipv4Addr, count: u32, patience: Duration) -> Result<u32> {
    let receiver = to.enter(|| UdpSocket::bind((address, 0)))?;
    nix::sys::socket::setsockopt(&receiver, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20))?;
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
