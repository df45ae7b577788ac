//! Empties large tries before the kernel frees them.
//!
//! The kernel frees all entries of a trie at once (`trie_free` in `kernel/bpf/lpm_trie.c`, Linux 6.18): 0.1 s for 262,140 of
//! them, as measured. Unless the kernel is preemptible the processor does nothing else meanwhile, and changes of
//! network devices, which hold the one lock of them all, wait for it. Entries that are deleted one by one hold up nobody.

use std::{path::Path, thread, time::Duration};

use aya::maps::{LpmTrie, Map, MapData, MapError, MapInfo};
use rustix::process::setpriority_process;
use shaper_common::{
    TARGETS_MAP,
    policy::{Address, RuleList},
};

/// The most entries that are freed at once: they take some 5 ms.
const LARGE: u32 = 16_384;
/// The time after which no packet is in a program any more that was taken off its device.
const GRACE: Duration = Duration::from_secs(1);
/// The number of entries that are deleted between two pauses, in which the kernel frees them: 262,140 are deleted
/// within 3 s.
const AT_ONCE: usize = 512;
const PAUSE: Duration = Duration::from_millis(4);
/// The lowest priority (`setpriority(2)`): on a busy machine everything else goes first.
const NICE: i32 = 19;

/// Has the trie that is pinned in `directory` emptied once nothing uses it any more, if it is a large one.
///
/// To be called before the pin is removed. If the daemon ends before that, or there can be no more threads, the kernel frees
/// what is left.
pub(super) fn empty_later(directory: &Path) {
    let pin = directory.join(TARGETS_MAP);
    let is_large = MapInfo::from_pin(&pin).is_ok_and(|info| info.max_entries() > LARGE);
    let trie = is_large.then(|| LpmTrie::try_from(Map::LpmTrie(MapData::from_pin(&pin)?)));
    if let Some(Ok(trie)) = trie {
        let empty = move || {
            // Of this thread alone, as Linux takes it. Without it the entries are deleted all the same.
            let _ = setpriority_process(None, NICE);
            thread::sleep(GRACE);
            if let Err(error) = empty(trie) {
                tracing::debug!(%error, "the kernel frees the rest of a trie at once");
            }
        };
        let _ = thread::Builder::new().name("disposal".to_owned()).spawn(empty);
    }
}

fn empty(mut trie: LpmTrie<MapData, Address, RuleList>) -> Result<(), MapError> {
    loop {
        for _ in 0..AT_ONCE {
            let Some(key) = trie.keys().next() else { return Ok(()) };
            trie.remove(&key?)?;
        }
        thread::sleep(PAUSE);
    }
}
