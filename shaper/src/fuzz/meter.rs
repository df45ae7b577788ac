//! The memory and the processor time that one input takes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::null_mut,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// The most bytes that an input gets. Beyond it the process ends, before the machine runs out of memory.
const CEILING: isize = 1 << 30;

thread_local! {
    static MEMORY: Cell<Memory> = const { Cell::new(Memory { live: 0, most: 0 }) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread has allocated and not freed, since [`measure`] began.
#[derive(Clone, Copy)]
struct Memory {
    live: isize,
    most: isize,
}

/// The system's allocator, which counts by thread: tests run beside one another.
struct Counting;

impl Counting {
    /// Counts bytes; returns whether they may be allocated.
    fn grow(size: usize) -> bool {
        let size = isize::try_from(size).unwrap_or(isize::MAX);
        // While a thread ends there is nothing left to count with.
        let counted = MEMORY.try_with(|memory| {
            let live = memory.get().live.saturating_add(size);
            if live > CEILING {
                return false;
            }
            memory.set(Memory { live, most: live.max(memory.get().most) });
            true
        });
        counted.unwrap_or(true)
    }

    fn shrink(size: usize) {
        let size = isize::try_from(size).unwrap_or(isize::MAX);
        let _ = MEMORY.try_with(|memory| {
            let Memory { live, most } = memory.get();
            memory.set(Memory { live: live.saturating_sub(size), most });
        });
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe")]
// SAFETY: everything is the system's allocator's, or no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Self::grow(layout.size()) {
            return null_mut();
        }
        // SAFETY: as this function's caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !Self::grow(layout.size()) {
            return null_mut();
        }
        // SAFETY: as this function's caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::shrink(layout.size());
        // SAFETY: as this function's caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !Self::grow(size) {
            return null_mut();
        }
        Self::shrink(layout.size());
        // SAFETY: as this function's caller promises.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Runs `work`; returns the time that this thread's processor took, and the most bytes that it had at once.
///
/// A block that grows counts with its old and its new size, as both may exist for a moment.
pub(super) fn measure(work: impl FnOnce()) -> (Duration, usize) {
    MEMORY.set(Memory { live: 0, most: 0 });
    let begin = processor_time();
    work();
    let took = processor_time().saturating_sub(begin);
    (took, usize::try_from(MEMORY.get().most).unwrap_or_default())
}

fn processor_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).expect("every thread has a clock").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_bytes_at_once_are_counted() {
        let (_, bytes) = measure(|| {
            drop(vec![1_u8; 3 << 20]);
            drop((vec![1_u8; 1 << 20], vec![1_u8; 4 << 20]));
        });
        assert_eq!(bytes, 5 << 20);
    }
}
