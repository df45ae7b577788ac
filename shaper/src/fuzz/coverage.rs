//! The code that inputs reach, where the compiler was told to count it (`-sanitizer-coverage-inline-8bit-counters`), as
//! `cargo xtask fuzz` does.

use std::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering},
};

static COUNTERS: AtomicPtr<AtomicU8> = AtomicPtr::new(null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Takes the counters of this program. Each part that was compiled by itself calls it before `main`, with those of all.
#[expect(unsafe_code, reason = "the compiler calls it by this name")]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut AtomicU8, stop: *const AtomicU8) {
    COUNTERS.store(start, Ordering::Relaxed);
    LENGTH.store((stop as usize).saturating_sub(start as usize), Ordering::Relaxed);
}

/// The edges of the control flow that inputs have taken, and how often.
#[derive(Default)]
pub(super) struct Coverage {
    /// By edge, a bit for each class of counts.
    seen: Vec<u8>,
}

impl Coverage {
    /// Forgets what has been counted.
    pub(super) fn reset() {
        counters().iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// Adds what has been counted; returns whether there is something new.
    pub(super) fn add(&mut self) -> bool {
        let counters = counters();
        self.seen.resize(counters.len(), 0);
        let mut is_new = false;
        for (seen, counter) in self.seen.iter_mut().zip(counters) {
            let class = class(counter.load(Ordering::Relaxed));
            is_new |= *seen | class != *seen;
            *seen |= class;
        }
        is_new
    }

    /// The number of edges that have been taken.
    pub(super) fn edges(&self) -> usize {
        self.seen.iter().filter(|&&seen| seen != 0).count()
    }
}

/// The bit of a count: 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, and more are different.
const fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1..=3 => 1 << (count - 1),
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128.. => 1 << 7,
    }
}

fn counters() -> &'static [AtomicU8] {
    let counters = COUNTERS.load(Ordering::Relaxed);
    if counters.is_null() {
        return &[];
    }
    #[expect(unsafe_code, reason = "the compiler made them")]
    // SAFETY: they are bytes between the start and the stop that the compiler told of, and stay as long as the program.
    unsafe {
        std::slice::from_raw_parts(counters, LENGTH.load(Ordering::Relaxed))
    }
}
