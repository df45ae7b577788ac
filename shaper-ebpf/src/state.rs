//! The state of each class.
//!
//! Processors share it without a lock. Packet numbers, departures and the bottleneck's bookings are exact, however many
//! processors run at once. The random states of loss, jitter and reordering are not: of two packets at the same moment,
//! the next packet follows the one that was written last.

use core::mem::offset_of;

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{bottleneck::booked, in_turn_ns, policy::State};

use crate::shared::Shared;

#[btf_map]
static STATES: Array<State, 1> = Array::new();

/// The state of a class.
#[derive(Clone, Copy)]
pub(crate) struct ClassState {
    class: u32,
    state: *mut State,
}

macro_rules! shared {
    ($($(#[$doc:meta])* $visibility:vis $name:ident),+) => {$(
        $(#[$doc])*
        #[inline(always)]
        $visibility fn $name(self) -> Shared<u64> {
            let field = self.state.cast::<u64>().wrapping_add(offset_of!(State, $name) / 8);
            // SAFETY: a field of the map's value, which starts at a multiple of 8.
            unsafe { Shared::at(field) }
        }
    )+};
}

impl ClassState {
    #[inline(always)]
    pub(crate) fn of(class: u32) -> Option<Self> {
        STATES.get_ptr_mut(class).map(|state| Self { class, state })
    }

    /// Returns the random states, which are written without synchronisation.
    #[inline(always)]
    pub(crate) fn chain<'a>(self) -> &'a mut State {
        // SAFETY: the state is a map's; other processors write whole numbers, too.
        unsafe { &mut *self.state }
    }

    /// Books `amount_ns` of the bottleneck's time from `from_ns` on, and returns the end.
    #[inline(always)]
    pub(crate) fn book_time(self, from_ns: u64, amount_ns: u64) -> u64 {
        book_time(self.class, from_ns, amount_ns)
    }

    /// Books `amount` bytes of the trace from the byte `from` on, and returns the end.
    #[inline(always)]
    pub(crate) fn book_bytes(self, from: u64, amount: u64) -> u64 {
        book_bytes(self.class, from, amount)
    }

    /// Returns the departure of a packet that is due at `departure_ns`, after those before it (see [`in_turn_ns`]).
    #[inline(always)]
    pub(crate) fn depart(self, departure_ns: u64, early_ns: u64) -> u64 {
        depart(self.class, departure_ns, early_ns)
    }

    shared!(
        /// The number of packets that came, copies excluded.
        pub(crate) arrivals,
        /// The number of packets, copies included.
        pub(crate) packets,
        /// The time from which the bottleneck is free.
        pub(crate) bottleneck_free_ns,
        /// The bytes that the trace has delivered.
        pub(crate) delivered_bytes,
        /// The number of packets that were put into the ring.
        pub(crate) queued,
        /// The latest departure.
        pub(crate) departure_ns
    );
}

// Global functions: the kernel verifies each by itself, so that their loops do not multiply its work.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn book_time(class: u32, from_ns: u64, amount_ns: u64) -> u64 {
    match ClassState::of(class) {
        Some(state) => state.bottleneck_free_ns().update(|busy_until| booked(busy_until, from_ns, amount_ns)),
        None => from_ns,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn book_bytes(class: u32, from: u64, amount: u64) -> u64 {
    // A packet that the overhead leaves without bytes waits for an opportunity, too.
    let amount = if amount == 0 { 1 } else { amount };
    match ClassState::of(class) {
        Some(state) => state.delivered_bytes().update(|busy_until| booked(busy_until, from, amount)),
        None => from,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn depart(class: u32, departure_ns: u64, early_ns: u64) -> u64 {
    match ClassState::of(class) {
        Some(state) => state.departure_ns().update(|last_ns| in_turn_ns(departure_ns, last_ns, early_ns)),
        None => departure_ns,
    }
}
