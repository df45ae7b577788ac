//! The parts of the program that the policy uses.

use aya_ebpf::Global;

/// A sum of [`shaper_common::uses`]; the kernel removes the other parts when it loads the program.
#[unsafe(no_mangle)]
static USES: Global<u32> = Global::new(0);

/// Returns true if the policy uses a part, one of [`shaper_common::uses`].
#[inline(always)]
pub(crate) fn uses(part: u32) -> bool {
    USES.load() & part != 0
}
