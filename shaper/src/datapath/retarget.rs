//! Gives the targets of a policy in force other addresses, one entry of a map at a time.
//!
//! Packets are never without a rule that they had before and have after: the new lists of rules are written where nobody
//! looks, then each address is led to its new list, and only then are addresses removed that have none any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::maps::{IterableMap as _, LpmTrie, Map, MapData, MapError, MapInfo, lpm_trie::Key};
use shaper_common::{
    PEERS_MAP, RULES_MAP, TARGETS_MAP,
    policy::{Address, RuleList},
};

use super::{batch, prepared::Entry};
use crate::shaping::Maps;

/// The maps of a policy's targets.
pub(super) struct Targets {
    trie: LpmTrie<MapData, Address, RuleList>,
    rules: MapData,
    /// The most rules, old and new ones.
    most_rules: u32,
    /// The most addresses.
    most: usize,
    peers: MapData,
    /// The most entries of them.
    most_peers: u32,
}

impl Targets {
    /// Opens what is pinned in `pins`.
    ///
    /// # Errors
    ///
    /// When a pin is missing or of another layout.
    pub(super) fn open(pins: &Path) -> Result<Self, MapError> {
        let [trie, rules, peers] = [TARGETS_MAP, RULES_MAP, PEERS_MAP].map(|name| pins.join(name));
        Ok(Self {
            most: MapInfo::from_pin(&trie)?.max_entries() as usize,
            trie: LpmTrie::try_from(Map::LpmTrie(MapData::from_pin(trie)?))?,
            most_rules: MapInfo::from_pin(&rules)?.max_entries(),
            rules: MapData::from_pin(rules)?,
            most_peers: MapInfo::from_pin(&peers)?.max_entries(),
            peers: MapData::from_pin(peers)?,
        })
    }

    /// Makes them those of `maps`, where names stand for what is in `peers`; says whether there is room for it. Where there
    /// is none, nothing has changed.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory; a part of them is there then.
    pub(super) fn become_those_of(&mut self, maps: &Maps, peers: &[Entry]) -> Result<bool, MapError> {
        let present = self.present()?;
        let half = self.most_rules / 2;
        // The half of the rules that no list is in.
        let first = if present.values().any(|list| list.first < half) { half } else { 0 };
        let fits = maps.rules.len() <= half as usize
            && maps.targets.len() + present.len() <= self.most
            && peers.len() <= self.most_peers as usize;
        if !fits {
            return Ok(false);
        }
        batch::update_array(&self.rules, first, &maps.rules)?;
        let key = |(address, bits, _): &(Address, u32, RuleList)| Key::new(*bits, *address);
        let moved = |(.., list): &(Address, u32, RuleList)| RuleList { first: first + list.first, ..*list };
        let keys: Vec<_> = maps.targets.iter().map(key).collect();
        let lists: Vec<_> = maps.targets.iter().map(moved).collect();
        batch::update(self.trie.map(), &keys, &lists)?;
        let kept: BTreeSet<_> = maps.targets.iter().map(|(address, bits, _)| (*address, *bits)).collect();
        for (address, bits) in present.into_keys().filter(|key| !kept.contains(key)) {
            self.trie.remove(&Key::new(bits, address))?;
        }
        batch::update_array(&self.peers, 0, peers)?;
        Ok(true)
    }

    fn present(&self) -> Result<BTreeMap<(Address, u32), RuleList>, MapError> {
        let entry = |(key, list): (Key<Address>, RuleList)| ((key.data(), key.prefix_len()), list);
        self.trie.iter().map(|found| found.map(entry)).collect()
    }
}
