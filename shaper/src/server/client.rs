//! The other end of a connection.

use std::{
    io,
    net::{self, SocketAddr},
    os::fd::AsFd as _,
    os::unix,
    sync::Arc,
};

use axum::http::request::Parts;
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};
use tracing::Span;

use super::access::{Access, Denied};
use crate::shaping::Author;

/// The other end of a connection.
#[derive(Clone)]
pub(super) struct Client {
    /// The same socket once more, for [`Self::gone`]: what is noted of the stream's own readiness is hyper's to read.
    socket: Arc<Socket>,
    peer: Peer,
}

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// The client, as far as it is known.
#[derive(Clone)]
enum Peer {
    /// A process of this machine, as it was when it connected.
    Process { uid: u32, pid: Option<i32> },
    /// A client over TCP.
    Remote { address: SocketAddr, access: Arc<Access>, has_certificate: bool },
}

impl Client {
    /// The process that connected to a unix socket (unix(7), `SO_PEERCRED`).
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        let again = unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
        let socket = Arc::new(Socket::Unix(UnixStream::from_std(again)?));
        // Of a process in another pid namespace there is none.
        let pid = peer.pid().filter(|pid| *pid != 0);
        Ok(Self { socket, peer: Peer::Process { uid: peer.uid(), pid } })
    }

    /// The client at `address`, which is admitted as `access` says; `has_certificate` if TLS has seen a good one.
    pub(super) fn remote(
        stream: &TcpStream,
        address: SocketAddr,
        access: Arc<Access>,
        has_certificate: bool,
    ) -> io::Result<Self> {
        let again = net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let socket = Arc::new(Socket::Tcp(TcpStream::from_std(again)?));
        Ok(Self { socket, peer: Peer::Remote { address, access, has_certificate } })
    }

    /// Admits a request: returns its author, unless that is anybody, and its span, so that all that is logged in its course
    /// says whose it was.
    ///
    /// # Errors
    ///
    /// When it is not admitted.
    pub(super) fn admit(&self, head: &Parts) -> Result<(Option<Author>, Span), Denied> {
        match &self.peer {
            Peer::Process { uid, pid } => {
                let author = Author::Process { uid: *uid, pid: *pid };
                Ok((Some(author), tracing::info_span!("request", uid, pid)))
            }
            Peer::Remote { address, access, has_certificate } => {
                let token = access.admit(head, *has_certificate);
                let token = token.inspect_err(|error| tracing::debug!(%address, %error, "not admitted"))?;
                let span = tracing::info_span!("request", %address, token = token.as_deref());
                Ok((token.map(|name| Author::Token { name: name.to_string() }), span))
            }
        }
    }

    /// Waits until the client has closed the connection: both ways, as one that only sends no more still reads.
    pub(super) async fn gone(&self) -> io::Result<()> {
        let would_block = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        loop {
            // EPOLLHUP; with EPOLLRDHUP alone (half closed) it is not.
            let ready = match &*self.socket {
                Socket::Unix(socket) => socket.ready(Interest::WRITABLE).await?,
                Socket::Tcp(socket) => socket.ready(Interest::WRITABLE).await?,
            };
            if ready.is_write_closed() {
                return Ok(());
            }
            // Forgets that it is writable, to be woken by the next event.
            let _ = match &*self.socket {
                Socket::Unix(socket) => socket.try_io(Interest::WRITABLE, would_block),
                Socket::Tcp(socket) => socket.try_io(Interest::WRITABLE, would_block),
            };
        }
    }
}
