//! The process at the other end of a connection.

use std::{io, os::fd::AsFd as _, os::unix::net, sync::Arc};

use tokio::{io::Interest, net::UnixStream};
use tracing::Span;

/// The process at the other end of a connection.
#[derive(Clone)]
pub(super) struct Client {
    /// The same socket once more, for [`Self::gone`]: what is noted of the stream's own readiness is hyper's to read.
    socket: Arc<UnixStream>,
    uid: u32,
    pid: Option<i32>,
}

impl Client {
    /// The client of `stream`, as it was when it connected (unix(7), `SO_PEERCRED`).
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        let again = net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
        let socket = Arc::new(UnixStream::from_std(again)?);
        // Of a process in another pid namespace there is none.
        let pid = peer.pid().filter(|pid| *pid != 0);
        Ok(Self { socket, uid: peer.uid(), pid })
    }

    /// The span of a request, so that all that is logged in its course says whose it was.
    pub(super) fn span(&self) -> Span {
        tracing::info_span!("request", uid = self.uid, pid = self.pid)
    }

    /// Waits until the client has closed the connection: both ways, as one that only sends no more still reads.
    pub(super) async fn gone(&self) -> io::Result<()> {
        loop {
            // EPOLLHUP; with EPOLLRDHUP alone (half closed) it is not.
            if self.socket.ready(Interest::WRITABLE).await?.is_write_closed() {
                return Ok(());
            }
            // Forgets that it is writable, to be woken by the next event.
            let _ = self.socket.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }
}
