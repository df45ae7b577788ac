//! What is remembered of the packets that were sent to wait in the queue before.
//!
//! Processors share it without a lock: what one of them misses of another costs a timer more, or a copy more or less.

use core::cell::UnsafeCell;

use shaper_common::{Charge, Policy};

/// A value of this instance, which all processors read and write as it comes.
struct Shared<T>(UnsafeCell<T>);

// SAFETY: loads and stores of 64 bits do not tear, and a value that is out of date is as good.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    #[inline(always)]
    fn get(&self) -> T {
        // SAFETY: the pointer is of a static; volatile, as others write it.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn set(&self, value: T) {
        // SAFETY: as above.
        unsafe { self.0.get().write_volatile(value) }
    }
}

static LAST_DEPARTURE_NS: Shared<u64> = Shared(UnsafeCell::new(0));
static CHARGE: Shared<Charge> = Shared(UnsafeCell::new(Charge::NONE));

/// When a packet that is due at `departure_ns` departs: perhaps with the one before it.
#[inline(always)]
pub(crate) fn departure_ns(policy: &Policy, departure_ns: u64) -> u64 {
    let last_ns = LAST_DEPARTURE_NS.get();
    let grouped_ns = policy.grouped_ns(departure_ns, last_ns);
    if grouped_ns != last_ns {
        LAST_DEPARTURE_NS.set(grouped_ns);
    }
    grouped_ns
}

/// Whether a packet may wait while it is charged to its socket.
#[inline(always)]
pub(crate) fn stays_charged(length: u32, now_ns: u64, delay_ns: u64) -> bool {
    match CHARGE.get().and(u64::from(length), now_ns, delay_ns) {
        Some(charge) => {
            CHARGE.set(charge);
            true
        }
        None => false,
    }
}
