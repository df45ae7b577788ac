//! The senders of echo requests that arrive somewhere, each with the time of its first and its last.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{capture::tap, netns::Netns};

const ETHERNET_HEADER: usize = 14;
const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;

/// The echo requests of one sender.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    /// Their number.
    pub count: u32,
    first: Instant,
    last: Instant,
}

impl Requests {
    /// The time from the first to the last.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.last - self.first
    }
}

/// Watches what arrives, until it is dropped.
#[derive(Debug)]
pub struct Senders {
    seen: Arc<Mutex<BTreeMap<Ipv4Addr, Requests>>>,
    is_over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Senders {
    /// Watches what arrives in a namespace.
    ///
    /// # Errors
    ///
    /// Without root.
    pub fn watch(netns: &Netns) -> Result<Self> {
        let tap = netns.enter(tap)?;
        let (seen, is_over) = <(Arc<Mutex<BTreeMap<_, _>>>, Arc<AtomicBool>)>::default();
        let watcher = thread::spawn({
            let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            move || read(tap, &seen, &is_over)
        });
        Ok(Self { seen, is_over, watcher: Some(watcher) })
    }

    /// Returns the requests of a sender, if there were any.
    #[must_use]
    pub fn of(&self, sender: Ipv4Addr) -> Option<Requests> {
        lock(&self.seen).get(&sender).copied()
    }

    /// Begins to count anew.
    pub fn forget(&self) {
        lock(&self.seen).clear();
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(mut tap: File, seen: &Mutex<BTreeMap<Ipv4Addr, Requests>>, is_over: &AtomicBool) {
    let mut head = [0; 64];
    while !is_over.load(Ordering::Relaxed) {
        match tap.read(&mut head) {
            Ok(length) => {
                let Some(sender) = sender(&head[..length]) else { continue };
                let now = Instant::now();
                let mut seen = lock(seen);
                let of = seen.entry(sender).or_insert(Requests { count: 0, first: now, last: now });
                (of.count, of.last) = (of.count + 1, now);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "read packets: {error}"),
        }
    }
}

/// The sender of an echo request.
fn sender(packet: &[u8]) -> Option<Ipv4Addr> {
    let ip = packet.get(ETHERNET_HEADER..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let source: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
    let is_request =
        packet[12..ETHERNET_HEADER] == [8, 0] && ip[9] == ICMP && *ip.get(header)? == ECHO_REQUEST;
    is_request.then(|| source.into())
}
