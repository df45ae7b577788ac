//! A policy made ready for the kernel: the maps of its program, and what they are filled with.

use std::{error::Error, sync::Arc};

use aya::{
    Pod,
    maps::{Array, Map, MapData, MapError, lpm_trie::Key},
};
use serde::{Serialize, de::DeserializeOwned};
use shaper_common::{
    ASKED_ENTRY, ASKED_MAP, DISTRIBUTIONS_MAP, FRAGMENTS, LEADERS_MAP, PEER_SENDS_CONSTANT, PEERS_MAP,
    RINGS_MAP, RULES_MAP, SCHEDULES_MAP, STATES_MAP, STEPS_MAP, TARGETED_CONSTANT, TARGETS_MAP, TRACES_MAP,
    USES_CONSTANT,
    policy::{Address, Rule, RuleList},
    uses,
};

use super::{batch, error::OpenError, loaded::Loaded};
use crate::shaping::{Attempt, Direction, Format, Maps, Named, NoFiles, Peers, Policy, ShapingError};

static NO: u32 = 0;
static YES: u32 = 1;
/// Each value of the constant that says what a policy uses: the loader borrows them for as long as it lives.
static USES: [u32; uses::COMBINATIONS] = {
    let mut all = [0; uses::COMBINATIONS];
    let mut number = 0;
    while number < all.len() {
        all[number] = number as u32;
        number += 1;
    }
    all
};

/// A policy and its maps.
pub(super) struct Prepared {
    maps: Maps,
    /// The policy as it was asked for.
    asked: Vec<Entry>,
    peer_sends: bool,
    /// The addresses that its names stand for, which may be others later; none without names.
    peers: Option<Peers>,
}

impl Prepared {
    /// Makes a policy ready that begins at `now_ns`, where names stand for `peers`.
    ///
    /// # Errors
    ///
    /// When it is too large.
    pub(super) fn new(
        policy: &Arc<Policy>,
        direction: Direction,
        now_ns: u64,
        peers: &Peers,
    ) -> Result<Self, ShapingError> {
        let seed = policy.seed.map_or_else(random_seed, Ok)?;
        let maps = policy.compile(now_ns, seed, peers).map_err(ShapingError::Invalid)?;
        let asked = json(&**policy).map_err(|error| failed(ASKED_MAP, &error))?;
        let peers = (!policy.names().is_empty()).then(|| peers.clone());
        Ok(Self { maps, asked, peer_sends: direction == Direction::Ingress, peers })
    }

    /// Returns the number of entries of each map of a policy; without a policy, one each, which nobody reads.
    pub(super) fn sizes(policy: Option<&Self>) -> [(&'static str, u32); 11] {
        let size = |of: &dyn Fn(&Self) -> usize| {
            // Each of them was checked against a limit far below.
            policy.map_or(1, |policy| u32::try_from(of(policy)).unwrap_or(u32::MAX).max(1))
        };
        let targets = |policy: &Self| room(policy.maps.targets.len(), policy.peers.is_some());
        let rules = |policy: &Self| room(policy.maps.rules.len(), policy.peers.is_some());
        let peers = |policy: &Self| policy.peers.as_ref().map_or(0, room_for_peers);
        // Names whose addresses are not known yet may bring rules of their own.
        let asks_ports = policy
            .is_some_and(|policy| policy.peers.is_some() || policy.maps.rules.iter().any(Rule::asks_ports));
        [
            (ASKED_MAP, size(&|policy| policy.asked.len())),
            (PEERS_MAP, size(&peers)),
            (SCHEDULES_MAP, size(&|policy| policy.maps.schedules.len())),
            (STATES_MAP, size(&|policy| policy.maps.schedules.len())),
            (STEPS_MAP, size(&|policy| policy.maps.steps.len())),
            (TARGETS_MAP, size(&targets)),
            (RULES_MAP, size(&rules)),
            (LEADERS_MAP, if asks_ports { FRAGMENTS } else { 1 }),
            (DISTRIBUTIONS_MAP, size(&|policy| policy.maps.distributions.len())),
            (TRACES_MAP, size(&|policy| policy.maps.traces.len())),
            (RINGS_MAP, size(&|policy| policy.maps.ring_length as usize)),
        ]
    }

    /// Returns the program's constants.
    pub(super) fn constants(policy: Option<&Self>) -> [(&'static str, &'static u32); 3] {
        let uses = |policy: &Self| {
            let is_constant = policy.maps.schedules.iter().all(|schedule| schedule.count <= 1);
            &USES[uses::of(&policy.maps.steps, is_constant) as usize]
        };
        let flag = |of: fn(&Self) -> bool| if policy.is_some_and(of) { &YES } else { &NO };
        [
            (PEER_SENDS_CONSTANT, flag(|policy| policy.peer_sends)),
            (TARGETED_CONSTANT, flag(|policy| policy.peers.is_some() || !policy.maps.targets.is_empty())),
            (USES_CONSTANT, policy.map_or(&NO, uses)),
        ]
    }

    /// The addresses that its names stand for.
    pub(super) fn peers(&self) -> Peers {
        self.peers.clone().unwrap_or_default()
    }

    /// Fills the maps of a program that was loaded for it, which nobody runs yet.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    pub(super) fn fill(&self, loaded: &mut Loaded) -> Result<(), ShapingError> {
        fill(loaded, ASKED_MAP, &self.asked)?;
        if let Some(peers) = &self.peers {
            let entries = json_of_peers(peers).map_err(|error| failed(PEERS_MAP, &error))?;
            fill(loaded, PEERS_MAP, &entries)?;
        }
        fill(loaded, SCHEDULES_MAP, &self.maps.schedules)?;
        fill(loaded, STEPS_MAP, &self.maps.steps)?;
        fill(loaded, RULES_MAP, &self.maps.rules)?;
        fill(loaded, DISTRIBUTIONS_MAP, &self.maps.distributions)?;
        fill(loaded, TRACES_MAP, &self.maps.traces)?;
        let key = |(address, bits, _): &(Address, u32, RuleList)| Key::new(*bits, *address);
        let keys: Vec<_> = self.maps.targets.iter().map(key).collect();
        let lists: Vec<_> = self.maps.targets.iter().map(|(.., list)| *list).collect();
        batch::update(loaded.map(TARGETS_MAP)?, &keys, &lists).map_err(|error| failed(TARGETS_MAP, &error))
    }
}

/// Entries beyond those that are needed now, where names may get more addresses.
const SPARE: usize = 1_024;

/// Returns the number of entries of a map of which `needed` are used. If it is to be changed later, that is twice as
/// many and some, as old and new ones are there at the same time.
const fn room(needed: usize, changes: bool) -> usize {
    if changes { 2 * (needed + SPARE) } else { needed }
}

/// Returns the number of entries of the map of `peers`: twice as many and some, as those of other maps.
fn room_for_peers(peers: &Peers) -> usize {
    /// An address in JSON, at most.
    const ADDRESS: usize = 48;
    let needed = json_of_peers(peers).map_or(0, |entries| entries.len());
    2 * (needed + SPARE * ADDRESS / ASKED_ENTRY)
}

/// An entry of a map with JSON: its length in the first eight bytes, little-endian, then the text.
pub(super) type Entry = [u8; ASKED_ENTRY];

/// The entries of a map with `value`.
///
/// # Errors
///
/// Never with types of this crate.
fn json(value: &impl Serialize) -> serde_json::Result<Vec<Entry>> {
    let text = serde_json::to_vec(value)?;
    let bytes = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
    let padded = |bytes: &[u8]| {
        let mut entry = [0; ASKED_ENTRY];
        entry[..bytes.len()].copy_from_slice(bytes);
        entry
    };
    Ok(bytes.chunks(ASKED_ENTRY).map(padded).collect())
}

/// The value in the entries of the map `name`.
///
/// # Errors
///
/// When it is of another version.
fn of_json<T: DeserializeOwned>(name: &str, map: MapData) -> Result<T, OpenError> {
    serde_json::from_slice(&text(name, map)?).map_err(|error| failed_map(name, &error))
}

/// The text in the entries of the map `name`.
fn text(name: &str, map: MapData) -> Result<Vec<u8>, OpenError> {
    let failed = |error: &(dyn Error + 'static)| failed_map(name, error);
    let map: Array<_, Entry> = Array::try_from(Map::Array(map)).map_err(|error| failed(&error))?;
    let entries: Result<Vec<_>, MapError> = map.iter().collect();
    let bytes = entries.map_err(|error| failed(&error))?.concat();
    let (length, json) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let json = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| json.get(..length));
    Ok(json.unwrap_or_default().to_vec())
}

fn failed_map(name: &str, error: &(dyn Error + 'static)) -> OpenError {
    OpenError::new(&format!("the map {name} of a policy"), error)
}

/// The policy in the map [`ASKED_MAP`].
///
/// # Errors
///
/// When it is of another version.
pub(super) fn asked(map: MapData) -> Result<Policy, OpenError> {
    let text = text(ASKED_MAP, map)?;
    let policy = Policy::parse(&String::from_utf8_lossy(&text), Format::Json, &NoFiles, &Named::default());
    policy.map_err(|error| failed_map(ASKED_MAP, &*Box::<dyn Error>::from(error)))
}

/// The entries of the map [`PEERS_MAP`].
///
/// # Errors
///
/// Never.
pub(super) fn json_of_peers(peers: &Peers) -> serde_json::Result<Vec<Entry>> {
    json(&peers.iter().collect::<Vec<_>>())
}

/// The addresses in the map [`PEERS_MAP`].
///
/// # Errors
///
/// When they are of another version, or were not written to their end.
pub(super) fn peers(map: MapData) -> Result<Peers, OpenError> {
    Ok(of_json::<Vec<_>>(PEERS_MAP, map)?.into_iter().collect())
}

fn fill<V: Pod>(loaded: &mut Loaded, name: &str, values: &[V]) -> Result<(), ShapingError> {
    batch::update_array(loaded.map(name)?, 0, values).map_err(|error| failed(name, &error))
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> ShapingError {
    Attempt::FillMap(name.to_owned()).failed(error).into()
}

fn random_seed() -> Result<u64, ShapingError> {
    getrandom::u64().map_err(|error| Attempt::DrawSeed.failed(error).into())
}
