//! The packets that were sent to wait in the queue before.
//!
//! `fq` keeps the order of a flow, and sends flows that are due in the order of their first departures. What stays charged
//! to a connected socket is a flow of its own, and what has left that socket is another (`fq_classify`, Linux 6.1). So a
//! socket's packets keep their order only if those that follow what has left it leave it, too; and if what has left it is
//! due after what stayed: a nanosecond later, where both would be due at the same time.

use core::cmp::min;

use shaper_common::{LATE_NS, Shaping, SocketBudget, latest_ns};

use crate::shared::Static;

static LAST_DEPARTURE_NS: Static<u64> = Static::new(0);
/// The latest departure of packets that have left their socket, TCP's excepted: all of that leave it.
static LAST_ORPHAN_NS: Static<u64> = Static::new(0);
static SOCKET_BUDGET: Static<SocketBudget> = Static::new(SocketBudget::NONE);

/// Returns the departure of a packet that is due at `due_ns`: that of the packet before it, if it is close.
#[inline(always)]
pub(crate) fn departure_ns(shaping: &Shaping, due_ns: u64) -> u64 {
    min(due_ns, latest_departure(due_ns, shaping.delay_ns))
}

// Global functions: the kernel verifies each by itself, so that their loops do not multiply its work.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn latest_departure(due_ns: u64, delay_ns: u64) -> u64 {
    LAST_DEPARTURE_NS.shared().update(|last_ns| latest_ns(delay_ns, due_ns, last_ns))
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn note_orphan(departure_ns: u64) -> u64 {
    LAST_ORPHAN_NS.shared().update(|last_ns| if departure_ns > last_ns { departure_ns } else { last_ns })
}

/// Returns the departure of a packet without a socket, or of one that stays charged to its socket.
#[inline(always)]
pub(crate) const fn apart_ns(departure_ns: u64, is_charged: bool) -> u64 {
    if is_charged { departure_ns } else { departure_ns + 1 }
}

/// Charges a packet that waits until `departure_ns` to its socket. Returns false, and charges nothing, if it must be
/// orphaned instead.
#[inline(always)]
pub(crate) fn stays_charged(length: u32, now_ns: u64, departure_ns: u64) -> bool {
    let last_ns = LAST_ORPHAN_NS.shared().load();
    // Processors share the budget without a lock: missing what another one wrote costs one copy, more or less.
    let socket_budget = SOCKET_BUDGET.shared();
    if last_ns + LATE_NS < now_ns
        && let Some(more) =
            socket_budget.load().and(length.into(), now_ns, departure_ns.saturating_sub(now_ns))
    {
        socket_budget.store(more);
        return true;
    }
    note_orphan(departure_ns);
    false
}
