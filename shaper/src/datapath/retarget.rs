//! Gives the targets of a plan in force other addresses, one entry of a map at a time.
//!
//! Packets are never without a rule that they had before and have after: the new lists of rules are written where nobody
//! looks, then each address is led to its new list, and only then are addresses removed that have none any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::maps::{Array, LpmTrie, Map, MapData, MapError, MapInfo, lpm_trie::Key};
use shaper_common::{
    RULES_MAP, TARGETS_MAP,
    plan::{Address, Rule, RuleList},
};

use crate::shaping::Maps;

/// Entries beyond those that are needed now, where names may get more addresses.
const SPARE: usize = 1_024;

/// How many entries a map of `needed` ones has, which is to be changed later or not: twice as many and some, as old and
/// new ones are there at the same time.
pub(super) const fn room(needed: usize, changes: bool) -> usize {
    if changes { 2 * (needed + SPARE) } else { needed }
}

/// The maps of a plan's targets.
pub(super) struct Targets {
    trie: LpmTrie<MapData, Address, RuleList>,
    rules: Array<MapData, Rule>,
    /// How many addresses there may be.
    most: usize,
}

impl Targets {
    /// Opens what is pinned in `pins`.
    ///
    /// # Errors
    ///
    /// When a pin is missing or of another layout.
    pub(super) fn open(pins: &Path) -> Result<Self, MapError> {
        let (trie, rules) = (pins.join(TARGETS_MAP), pins.join(RULES_MAP));
        Ok(Self {
            most: MapInfo::from_pin(&trie)?.max_entries() as usize,
            trie: LpmTrie::try_from(Map::LpmTrie(MapData::from_pin(trie)?))?,
            rules: Array::try_from(Map::Array(MapData::from_pin(rules)?))?,
        })
    }

    /// Makes them those of `maps`; says whether there is room for it. Where there is none, nothing has changed.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory; a part of them is there then.
    pub(super) fn become_those_of(&mut self, maps: &Maps) -> Result<bool, MapError> {
        let present = self.present()?;
        let half = self.rules.len() / 2;
        // The half of the rules that no list is in.
        let first = if present.values().any(|list| list.first < half) { half } else { 0 };
        if maps.rules.len() > half as usize || maps.targets.len() + present.len() > self.most {
            return Ok(false);
        }
        for (index, rule) in (first..).zip(&maps.rules) {
            self.rules.set(index, rule, 0)?;
        }
        let mut kept = BTreeSet::new();
        for (address, bits, list) in &maps.targets {
            kept.insert((*address, *bits));
            self.trie.insert(
                &Key::new(*bits, *address),
                RuleList { first: first + list.first, ..*list },
                0,
            )?;
        }
        for (address, bits) in present.into_keys().filter(|key| !kept.contains(key)) {
            self.trie.remove(&Key::new(bits, address))?;
        }
        Ok(true)
    }

    fn present(&self) -> Result<BTreeMap<(Address, u32), RuleList>, MapError> {
        let entry = |(key, list): (Key<Address>, RuleList)| ((key.data(), key.prefix_len()), list);
        self.trie.iter().map(|found| found.map(entry)).collect()
    }
}
