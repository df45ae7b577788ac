//! The packets that were sent to wait in the queue before.
//!
//! Processors share this without a lock: missing what another one wrote costs one timer, or one copy, more or less.

use shaper_common::{Shaping, SocketBudget};

use crate::shared::Static;

static LAST_DEPARTURE_NS: Static<u64> = Static::new(0);
static SOCKET_BUDGET: Static<SocketBudget> = Static::new(SocketBudget::NONE);

/// Returns the departure of a packet that is due at `departure_ns`: that of the packet before it, if it is close.
#[inline(always)]
pub(crate) fn departure_ns(shaping: &Shaping, departure_ns: u64) -> u64 {
    let last_departure_ns = LAST_DEPARTURE_NS.shared();
    let last_ns = last_departure_ns.load();
    let grouped_ns = shaping.grouped_ns(departure_ns, last_ns);
    if grouped_ns != last_ns {
        last_departure_ns.store(grouped_ns);
    }
    grouped_ns
}

/// Charges a packet that waits to its socket. Returns false, and charges nothing, if it must be orphaned instead.
#[inline(always)]
pub(crate) fn stays_charged(length: u32, now_ns: u64, delay_ns: u64) -> bool {
    let socket_budget = SOCKET_BUDGET.shared();
    match socket_budget.load().and(length.into(), now_ns, delay_ns) {
        Some(more) => {
            socket_budget.store(more);
            true
        }
        None => false,
    }
}
