//! Copies of a packet, which go through the hook of the same device again: duplicates, and packets without their socket.
//!
//! A note in the control block tells the program what the copy is.

use aya_ebpf::bindings::BPF_F_INGRESS;

use crate::{RECEIVES, skb::Skb};

/// The longest time that a copy takes to come back to the hook: 100 microseconds.
const COPY_TAKES_NS: u64 = 100_000;
/// Values of the control block's second word: random numbers, so that what others left there is not taken for them.
const DEPARTURE: u64 = 0x5a9e_c093_71d2_4fe5;
const DUPLICATE: u64 = 0x5a9e_c093_8b06_e31f;

/// The outcome of sending a copy.
pub(crate) enum Sent {
    /// It went through the hook and into the queue.
    Queued,
    /// It went through the hook, and something behind it dropped it.
    Dropped,
    /// It was not made.
    Failed,
}

/// The note that a packet carries.
pub(crate) enum Note {
    /// None: it is no copy of ours.
    None,
    /// A copy without a socket that departs at this time.
    Departure(u64),
    /// A duplicate.
    Duplicate,
}

impl Skb {
    /// Takes the note off the packet.
    #[inline(always)]
    pub(crate) fn take_note(&self) -> Note {
        let kind = self.control_word(1).load();
        if kind != DEPARTURE && kind != DUPLICATE {
            return Note::None;
        }
        let value = self.control_word(0).load();
        self.write_note(0, 0);
        if kind == DEPARTURE {
            return Note::Departure(value);
        }
        if RECEIVES.load() != 0 {
            self.address_to(value as u32);
        }
        Note::Duplicate
    }

    #[inline(always)]
    fn write_note(&self, value: u64, kind: u64) {
        self.control_word(0).store(value);
        self.control_word(1).store(kind);
    }

    /// Sends a duplicate. Returns false if none could be made.
    #[inline(always)]
    pub(crate) fn duplicate(&self) -> bool {
        self.write_note(self.addressee().into(), DUPLICATE);
        let sent = self.send_copy();
        self.write_note(0, 0);
        !matches!(sent, Sent::Failed)
    }

    /// Sends a copy without a socket in the packet's place, which departs at `departure_ns` without further decisions.
    #[inline(always)]
    pub(crate) fn orphan_until(&self, departure_ns: u64) -> Sent {
        self.write_note(departure_ns, DEPARTURE);
        let sent = self.send_copy();
        if matches!(sent, Sent::Failed) {
            self.write_note(0, 0);
        }
        sent
    }

    /// Sends a copy without a socket in the packet's place, which is still to be decided on.
    ///
    /// Packets that wait in fq stay charged to their socket, and TCP small queues then stop the sender; netem orphans
    /// its packets for the same reason (`netem_enqueue`).
    #[inline(always)]
    pub(crate) fn orphan(&self, now_ns: u64) -> Sent {
        self.control_word(0).store(now_ns);
        self.send_copy()
    }

    /// Returns the time at which the packet was orphaned, if it is a copy that [`Skb::orphan`] made, else `now_ns`.
    ///
    /// Copying takes some microseconds, which are not part of the delay. A value that others left in the control block
    /// is no time within the last [`COPY_TAKES_NS`].
    #[inline(always)]
    pub(crate) fn arrived_ns(&self, now_ns: u64) -> u64 {
        let noted_ns = self.control_word(0).load();
        if now_ns.wrapping_sub(noted_ns) < COPY_TAKES_NS { noted_ns } else { now_ns }
    }

    /// Sends a copy through the hook of the same device.
    ///
    /// The helper returns a negative error where the copy was not made or not sent, else the code of `dev_queue_xmit`:
    /// 1 is `NET_XMIT_DROP`, 2 is `NET_XMIT_CN` (Linux 6.1). On the ingress hook it is that of `netif_rx`, of which 1 is
    /// `NET_RX_DROP`.
    #[inline(always)]
    fn send_copy(&self) -> Sent {
        let flags = if RECEIVES.load() == 0 { 0 } else { BPF_F_INGRESS.into() };
        match self.clone_redirect(self.fields().ifindex, flags) {
            Ok(()) | Err(2) => Sent::Queued,
            Err(1) => Sent::Dropped,
            Err(_) => Sent::Failed,
        }
    }
}
