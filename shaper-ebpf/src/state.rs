//! What has become of the packets of each class so far.
//!
//! Processors share it without a lock. Numbers of packets, departures and what the link has carried are exact whatever
//! runs at once. The random states of losses, jitter and reordering are written as they come: of two packets at the same
//! moment, the one that is written last is the one that the next packet follows.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd};

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{in_turn_ns, link::booked, plan::State};

#[btf_map]
static STATES: Array<State, 1> = Array::new();

/// How many times at most a change is tried that others may have been faster with.
const TRIES: u32 = 16;

/// The state of a class.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    class: u32,
    state: *mut State,
}

/// A number in a state that processors change together.
#[derive(Clone, Copy)]
pub(crate) struct Cell(*mut u64);

impl Cell {
    /// Adds and returns what was there before.
    #[inline(always)]
    pub(crate) fn add(self, number: u64) -> u64 {
        // Rust has no atomic methods for BPF. LLVM 22 takes a relaxed addition for one whose result nobody wants.
        // SAFETY: the cell is a map's, aligned, and written as a whole only.
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(self.0, number) }
    }

    /// What is there now.
    #[inline(always)]
    pub(crate) fn value(self) -> u64 {
        // SAFETY: as in `add`; a volatile load of 64 bits does not tear.
        unsafe { self.0.read_volatile() }
    }

    /// Changes it to what `change` makes of it, and returns that.
    ///
    /// Where others are faster again and again, the last try counts even so.
    #[inline(always)]
    fn update(self, change: impl Fn(u64) -> u64) -> u64 {
        let mut old = self.value();
        for _ in 0..TRIES {
            let new = change(old);
            if new == old {
                return new;
            }
            // SAFETY: as in `add`.
            let (other, is_done) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.0, old, new) };
            if is_done {
                return new;
            }
            old = other;
        }
        change(old)
    }
}

macro_rules! cells {
    ($($(#[$doc:meta])* $visibility:vis $name:ident),+) => {$(
        $(#[$doc])*
        #[inline(always)]
        $visibility fn $name(self) -> Cell {
            // SAFETY: the state is a map's, which outlives the program's run.
            Cell(unsafe { &raw mut (*self.state).$name })
        }
    )+};
}

impl Shared {
    /// That of `class`.
    #[inline(always)]
    pub(crate) fn of(class: u32) -> Option<Self> {
        STATES.get_ptr_mut(class).map(|state| Self { class, state })
    }

    /// The random states, to be changed as they come.
    #[inline(always)]
    pub(crate) fn chain<'a>(self) -> &'a mut State {
        // SAFETY: the state is a map's; what others write at the same time are whole numbers as well.
        unsafe { &mut *self.state }
    }

    /// Has the link, from `from_ns` on at the earliest, be busy for `amount_ns` more; returns until when.
    #[inline(always)]
    pub(crate) fn book_time(self, from_ns: u64, amount_ns: u64) -> u64 {
        book_time(self.class, from_ns, amount_ns)
    }

    /// Has the link use up `amount` more bytes of its trace, from `from` on at the earliest; returns up to where.
    #[inline(always)]
    pub(crate) fn book_bytes(self, from: u64, amount: u64) -> u64 {
        book_bytes(self.class, from, amount)
    }

    /// When a packet that is due at `departure_ns` departs in its turn (see [`in_turn_ns`]).
    #[inline(always)]
    pub(crate) fn depart(self, departure_ns: u64, early_ns: u64) -> u64 {
        depart(self.class, departure_ns, early_ns)
    }

    cells!(
        /// How many packets came, copies left out.
        pub(crate) arrivals,
        /// How many there were.
        pub(crate) packets,
        /// When the link is free.
        pub(crate) link_free_ns,
        /// What the trace has delivered.
        pub(crate) delivered_bytes,
        /// How many were put into the ring.
        pub(crate) queued,
        /// The latest departure.
        pub(crate) departure_ns
    );
}

// Functions that the kernel verifies by themselves, so that their loops are not multiplied with all else.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn book_time(class: u32, from_ns: u64, amount_ns: u64) -> u64 {
    match Shared::of(class) {
        Some(state) => state.link_free_ns().update(|busy_until| booked(busy_until, from_ns, amount_ns)),
        None => from_ns,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn book_bytes(class: u32, from: u64, amount: u64) -> u64 {
    // Even what an overhead makes nothing waits for an opportunity.
    let amount = if amount == 0 { 1 } else { amount };
    match Shared::of(class) {
        Some(state) => state.delivered_bytes().update(|busy_until| booked(busy_until, from, amount)),
        None => from,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn depart(class: u32, departure_ns: u64, early_ns: u64) -> u64 {
    match Shared::of(class) {
        Some(state) => state.departure_ns().update(|last_ns| in_turn_ns(departure_ns, last_ns, early_ns)),
        None => departure_ns,
    }
}
