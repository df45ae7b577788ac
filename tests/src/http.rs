//! HTTP on a Unix socket: one request with a deadline for the whole of it, or many on one connection.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;
use httparse::Status;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The bytes after the headers.
    pub body: Vec<u8>,
}

/// Sends `request`, which need not be one, and reads the answer; both within `timeout`, and no body larger than `limit`.
///
/// # Errors
///
/// When nobody listens, when the answer is late or too large, and when it is no HTTP.
pub fn exchange(socket: &Path, request: &[u8], timeout: Duration, limit: usize) -> Result<Answer> {
    let deadline = Instant::now() + timeout;
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(request).context("send the request")?;
    let mut received = Vec::new();
    loop {
        let ended = !receive(&mut stream, &mut received, deadline)
            .with_context(|| format!("no whole answer within {timeout:?}"))?;
        if let Some(answer) = parse(&received, ended)? {
            ensure!(answer.body.len() <= limit, "the answer is larger than {limit} bytes");
            return Ok(answer);
        }
        ensure!(!ended, "the connection ended within the answer");
        // Heads are small: what is received is the body.
        ensure!(received.len() <= limit + 64 * 1024, "the answer is larger than {limit} bytes");
    }
}

/// A connection on which one request follows another, as a client keeps it that asks often.
#[derive(Debug)]
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects to whoever listens on `socket`.
    ///
    /// # Errors
    ///
    /// When nobody does.
    pub fn to(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self(BufReader::with_capacity(64 * 1024, stream)))
    }

    /// Sends a request and reads its answer, as long as it takes.
    ///
    /// # Errors
    ///
    /// When the other end has gone, and when it does not speak HTTP.
    pub fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.0.get_mut().write_all(request).context("send the request")?;
        let (mut status, mut length, mut chunked) = (None, 0, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => {
                        length = value.trim().parse().context("the answer's Content-Length")?
                    }
                    "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                    _ => {}
                }
            } else {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            }
        }
        let status = status.context("the answer is no HTTP")?;
        let mut body = Vec::new();
        if !chunked {
            self.read(length, &mut body)?;
            return Ok(Answer { status, body });
        }
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).context("a chunk's length")?;
            self.read(length, &mut body)?;
            ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
            if length == 0 {
                return Ok(Answer { status, body });
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("read the answer")?;
        ensure!(line.ends_with('\n'), "the connection ended within the answer");
        Ok(line.trim_end().to_owned())
    }

    fn read(&mut self, length: usize, body: &mut Vec<u8>) -> Result<()> {
        let begin = body.len();
        body.resize(begin + length, 0);
        self.0.read_exact(&mut body[begin..]).context("read the answer")
    }
}

/// Reads once; whether there may be more.
fn receive(stream: &mut UnixStream, received: &mut Vec<u8>, deadline: Instant) -> Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "too late");
    stream.set_read_timeout(Some(left))?;
    let mut buffer = [0; 64 * 1024];
    // With a timeout, a signal that nobody handles ends a wait, too (signal(7), Linux).
    let length = loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    received.extend_from_slice(&buffer[..length]);
    Ok(length > 0)
}

/// The answer, or nothing while some of it is missing.
fn parse(received: &[u8], ended: bool) -> Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Status::Complete(start) = head.parse(received).context("the answer is no HTTP")? else {
        return Ok(None);
    };
    let header = |name: &str| -> Result<Option<&str>> {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| std::str::from_utf8(header.value)).transpose().context("a header is no text")
    };
    let encoding = header("content-encoding")?;
    let rest = &received[start..];
    let body = if header("transfer-encoding")?.is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        unchunk(rest)?
    } else if let Some(length) = header("content-length")? {
        let length: usize = length.parse().context("the answer's Content-Length")?;
        rest.get(..length).map(<[u8]>::to_vec)
    } else {
        ended.then(|| rest.to_vec())
    };
    let body = match encoding {
        Some("gzip") => body.map(|body| gunzip(&body)).transpose()?,
        Some(encoding) => bail!("the answer is encoded as {encoding}, which nobody asked for"),
        None => body,
    };
    Ok(body.map(|body| Answer { status: head.code.unwrap_or_default(), body }))
}

/// The bytes before they were compressed.
///
/// # Errors
///
/// When they are not whole.
pub fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).context("decompress the answer")?;
    Ok(plain)
}

/// The chunks' content, or nothing while some is missing.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let size = httparse::parse_chunk_size(rest).map_err(|error| anyhow::anyhow!("a chunk: {error}"))?;
        let Status::Complete((start, length)) = size else { return Ok(None) };
        if length == 0 {
            return Ok(Some(body));
        }
        let end = start + usize::try_from(length)?;
        let Some(chunk) = rest.get(start..end) else { return Ok(None) };
        body.extend_from_slice(chunk);
        let Some(next) = rest.get(end + 2..) else { return Ok(None) };
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(received: &[u8], ended: bool) -> Option<String> {
        let answer = parse(received, ended).expect("an answer")?;
        Some(String::from_utf8(answer.body).expect("text"))
    }

    #[test]
    fn an_answer_is_whole_when_its_length_is_there() {
        let received = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        for length in 0..received.len() {
            assert_eq!(body(&received[..length], false), None);
        }
        assert_eq!(body(received, false).as_deref(), Some("abc"));
    }

    #[test]
    fn an_answer_in_chunks_is_whole_at_the_last_one() {
        let received = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        for length in 0..received.len() - 4 {
            assert_eq!(body(&received[..length], false), None, "{length}");
        }
        assert_eq!(body(received, false).as_deref(), Some("abc"));
    }

    #[test]
    fn an_answer_without_a_length_is_whole_at_the_end() {
        let received = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(body(received, false), None);
        assert_eq!(body(received, true).as_deref(), Some("abc"));
    }
}
