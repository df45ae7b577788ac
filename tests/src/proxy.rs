//! A way to a Unix socket for clients that speak TCP only.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{Shutdown, shutdown};

use crate::netns::Netns;

/// Listens on the loopback of a namespace, and passes all connections on; no longer when dropped.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    thread: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// Listens in `netns` on a free port for clients of `socket`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start(netns: &Netns, socket: &Path) -> Result<Self> {
        let listener = netns.enter(|| TcpListener::bind("127.0.0.1:0")).context("listen on the loopback")?;
        let (accepting, socket) = (listener.try_clone()?, socket.to_owned());
        let thread = thread::spawn(move || {
            let mut clients = Vec::new();
            while let Ok((client, _)) = accepting.accept() {
                let socket = socket.clone();
                clients.push(thread::spawn(move || pass(client, &socket)));
            }
            for client in clients {
                // A connection that breaks off is its client's to complain of.
                let _ = client.join();
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }

    /// Where it listens.
    ///
    /// # Panics
    ///
    /// Never: it does.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it listens")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ends the wait for the next client.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass(client: TcpStream, socket: &PathBuf) -> io::Result<()> {
    let server = UnixStream::connect(socket)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let there = thread::spawn(move || {
        let passed = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
        passed
    });
    let (mut from_server, mut to_client) = (server, client);
    io::copy(&mut from_server, &mut to_client)?;
    let _ = to_client.shutdown(std::net::Shutdown::Both);
    let _ = there.join();
    Ok(())
}
