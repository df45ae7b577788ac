//! One request and its answers over rtnetlink, blocking.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_ECHO, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
use thiserror::Error;

/// Why the kernel did not do what it was asked of network devices.
#[derive(Debug, Error)]
#[error("{operation}: {source}")]
pub(crate) struct NetlinkError {
    /// The attempt, and on what it was made.
    operation: String,
    source: io::Error,
}

impl NetlinkError {
    /// The refusal of an `operation` that was asked for in another way.
    pub(crate) const fn new(operation: String, source: io::Error) -> Self {
        Self { operation, source }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub(crate) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// An rtnetlink socket of one network namespace.
pub(crate) struct Socket(netlink_sys::Socket);

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// When the kernel gives none.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        open()
            .map(Self)
            .map_err(|source| NetlinkError { operation: "open an rtnetlink socket".to_owned(), source })
    }

    /// Has the kernel carry out `message`; `flags` are those beyond REQUEST and ACK.
    pub(super) fn change(
        &self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, flags | NLM_F_ACK)
            .map(drop)
            .map_err(|source| NetlinkError { operation: operation(), source })
    }

    /// Asks for one object. Up to Linux 6.6 a qdisc is only told to those who want an echo (`qdisc_notify`).
    pub(super) fn one(
        &self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_ACK | NLM_F_ECHO)
            .map(|answers| answers.into_iter().next())
            .map_err(|source| NetlinkError { operation: operation(), source })
    }

    /// Asks for all objects of a kind.
    pub(super) fn dump(
        &self,
        operation: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_DUMP)
            .map_err(|source| NetlinkError { operation: operation.to_owned(), source })
    }

    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut answers = Vec::new();
        while !self.receive(&mut answers)? {}
        Ok(answers)
    }

    /// Takes one datagram; true when it was the last.
    fn receive(&self, answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let (datagram, _) = self.0.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are aligned to four bytes (NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(true),
                        Some(_) => Err(error.to_io()),
                    };
                }
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(false)
    }
}
