//! Values that each processor has for itself.

use aya_ebpf::btf_maps::PerCpuArray;

/// Returns an entry of the processor that runs, if there is one.
///
/// tc runs programs with bottom halves off, so nothing interrupts them. A copy of the packet, which goes through the program
/// meanwhile, has come to its end when the helper that sends it returns; an entry that is in use by then is none that the
/// copy takes.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the kernel has an entry for each processor")]
pub(crate) fn entry<T, const N: usize>(
    map: &'static PerCpuArray<T, N>,
    number: u32,
) -> Option<&'static mut T> {
    // SAFETY: the entry is this processor's, and nothing else uses it meanwhile.
    map.get_ptr_mut(number).map(|entry| unsafe { &mut *entry })
}
