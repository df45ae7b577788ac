//! A client's connection, which is let go when the client does not read.
//!
//! Hyper itself answers a request that is not HTTP, without a body, and this cannot be configured. Here those answers get
//! a body that says what is wrong, in the form of all others.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::problem::{MEDIA_TYPE, ProblemDetails};

/// The longest time until a client reads more of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time that a client may go on writing what is refused already: if the connection closed before, it would
/// get `EPIPE` and never see the answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A client's connection.
pub(super) struct Stream<S> {
    stream: S,
    /// Runs while a client does not read.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The rest of an answer in place of one of hyper's.
    refusal: Vec<u8>,
    /// Runs once the client has been refused and the answer is out.
    draining: Option<Pin<Box<Sleep>>>,
    refused: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, stalled: None, refusal: Vec::new(), draining: None, refused: false }
    }

    /// Fails when nothing could be written for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn write_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let rest = std::mem::take(&mut self.refusal);
            let written = self.write(cx, &rest);
            self.refusal = rest;
            let length = ready!(written)?;
            self.refusal.drain(..length);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what a refused client still writes, until it has no more or its time is over.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.draining.get_or_insert_with(|| Box::pin(sleep(DRAIN_TIMEOUT)));
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.write_refusal(cx))?;
        let Some((before, status)) = own_answer(bytes) else { return self.write(cx, bytes) };
        if before > 0 {
            return self.write(cx, &bytes[..before]);
        }
        self.refusal = refusal(status);
        self.refused = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_refusal(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_refusal(cx))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.refused {
            ready!(self.drain(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// One of hyper's own answers at the end of what is to be written: where it begins, and its status. None of ours is without
/// a body and has such a status.
fn own_answer(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    let head = bytes.strip_suffix(b"\r\n\r\n")?;
    let begin = head.windows(9).rposition(|window| window == b"HTTP/1.1 ")?;
    let head = str::from_utf8(&head[begin..]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let is_theirs = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    (is_theirs && lines.any(|line| line.eq_ignore_ascii_case("content-length: 0"))).then_some((begin, status))
}

fn refusal(status: StatusCode) -> Vec<u8> {
    let error = match status {
        StatusCode::URI_TOO_LONG => "the request's target is longer than 65534 bytes",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the request's head has more than 100 fields or is too long"
        }
        _ => "the request is not HTTP/1.1",
    };
    let body = ProblemDetails::new(status, error).json();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
