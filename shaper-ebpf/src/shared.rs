//! Values that processors share without a lock.

use core::{
    cell::UnsafeCell,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd},
};

/// The most attempts at a change while other processors change the value, too.
const TRIES: u32 = 8;

/// A value in a map, a static, or the packet's control block; read and written as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

impl<T: Copy> Shared<T> {
    /// # Safety
    ///
    /// `value` has to be aligned and valid while the program runs.
    #[inline(always)]
    pub(crate) const unsafe fn at(value: *mut T) -> Self {
        Self(value)
    }

    #[inline(always)]
    pub(crate) fn load(self) -> T {
        // SAFETY: valid, see `at`; a volatile load of 64 bits does not tear.
        unsafe { self.0.read_volatile() }
    }

    /// Stores as volatile, or LLVM would join two stores to a call of memset, which may not write to a packet.
    #[inline(always)]
    pub(crate) fn store(self, value: T) {
        // SAFETY: as in `load`.
        unsafe { self.0.write_volatile(value) }
    }
}

impl Shared<u64> {
    /// Adds, and returns the value before.
    #[inline(always)]
    pub(crate) fn fetch_add(self, number: u64) -> u64 {
        // Rust has no atomic methods for BPF. LLVM 22 compiles a relaxed addition to one that returns nothing.
        // SAFETY: as in `load`.
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(self.0, number) }
    }

    /// Changes the value to what `change` makes of it, and returns that; after [`TRIES`] attempts without storing it.
    #[inline(always)]
    pub(crate) fn update(self, change: impl Fn(u64) -> u64) -> u64 {
        let mut old = self.load();
        for _ in 0..TRIES {
            let new = change(old);
            if new == old {
                return new;
            }
            // SAFETY: as in `load`.
            let (other, is_done) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.0, old, new) };
            if is_done {
                return new;
            }
            old = other;
        }
        change(old)
    }
}

/// A shared value of the instance that is in no map.
pub(crate) struct Static<T>(UnsafeCell<T>);

// SAFETY: the value is reached as `Shared` only.
unsafe impl<T> Sync for Static<T> {}

impl<T: Copy> Static<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) const fn shared(&self) -> Shared<T> {
        // SAFETY: a static is aligned, and always valid.
        unsafe { Shared::at(self.0.get()) }
    }
}
