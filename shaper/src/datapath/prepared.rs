//! A plan made ready for the kernel: the maps of its program, and what they are filled with.

use std::{error::Error, sync::Arc};

use aya::{
    Pod,
    maps::{Array, LpmTrie, MapError, lpm_trie::Key},
};
use shaper_common::{
    ASKED_ENTRY, ASKED_MAP, COURSES_MAP, DELIVERIES_MAP, DISTRIBUTIONS_MAP, PEER_SENDS_CONSTANT, RINGS_MAP,
    RULES_MAP, STATES_MAP, STEPS_MAP, TARGETED_CONSTANT, TARGETS_MAP,
    plan::{Address, RuleList},
};

use super::{instance::OpenError, program::Loaded, retarget};
use crate::shaping::{Direction, Maps, Peers, Plan, ShapingError};

static NO: u32 = 0;
static YES: u32 = 1;

/// A plan and its maps.
pub(super) struct Prepared {
    maps: Maps,
    /// The plan as it was asked for, in JSON, with its length before it.
    asked: Vec<u8>,
    peer_sends: bool,
    /// Whether its targets may have other addresses later.
    has_names: bool,
}

impl Prepared {
    /// Makes a plan ready that begins at `now_ns`, where names stand for `peers`.
    ///
    /// # Errors
    ///
    /// When it is too large.
    pub(super) fn new(
        plan: &Arc<Plan>,
        direction: Direction,
        now_ns: u64,
        peers: &Peers,
    ) -> Result<Self, ShapingError> {
        let seed = plan.seed.map_or_else(random_seed, Ok)?;
        let maps = plan.compile(now_ns, seed, peers).map_err(ShapingError::Refused)?;
        let json = serde_json::to_vec(&**plan)
            .map_err(|error| ShapingError::Failed(format!("write the plan as JSON: {error}")))?;
        let mut asked = (json.len() as u64).to_le_bytes().to_vec();
        asked.extend(json);
        let has_names = !plan.names().is_empty();
        Ok(Self { maps, asked, peer_sends: direction == Direction::Ingress, has_names })
    }

    /// How many entries each map of a plan has; where there is none, one each, which nobody reads.
    pub(super) fn sizes(plan: Option<&Self>) -> [(&'static str, u32); 9] {
        let size = |of: &dyn Fn(&Self) -> usize| {
            // Each of them was checked against a limit far below.
            plan.map_or(1, |plan| u32::try_from(of(plan)).unwrap_or(u32::MAX).max(1))
        };
        let targets = |plan: &Self| retarget::room(plan.maps.targets.len(), plan.has_names);
        let rules = |plan: &Self| retarget::room(plan.maps.rules.len(), plan.has_names);
        [
            (ASKED_MAP, size(&|plan| plan.asked.len().div_ceil(ASKED_ENTRY))),
            (COURSES_MAP, size(&|plan| plan.maps.courses.len())),
            (STATES_MAP, size(&|plan| plan.maps.courses.len())),
            (STEPS_MAP, size(&|plan| plan.maps.steps.len())),
            (TARGETS_MAP, size(&targets)),
            (RULES_MAP, size(&rules)),
            (DISTRIBUTIONS_MAP, size(&|plan| plan.maps.distributions.len())),
            (DELIVERIES_MAP, size(&|plan| plan.maps.deliveries.len())),
            (RINGS_MAP, size(&|plan| plan.maps.ring_length as usize)),
        ]
    }

    /// What the program's constants are.
    pub(super) fn constants(plan: Option<&Self>) -> [(&'static str, &'static u32); 2] {
        let flag = |of: fn(&Self) -> bool| if plan.is_some_and(of) { &YES } else { &NO };
        [
            (PEER_SENDS_CONSTANT, flag(|plan| plan.peer_sends)),
            (TARGETED_CONSTANT, flag(|plan| plan.has_names || !plan.maps.targets.is_empty())),
        ]
    }

    /// Fills the maps of a program that was loaded for it, which nobody runs yet.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    pub(super) fn fill(&self, loaded: &mut Loaded) -> Result<(), ShapingError> {
        let entries: Vec<_> = self.asked.chunks(ASKED_ENTRY).map(padded).collect();
        fill(loaded, ASKED_MAP, &entries)?;
        fill(loaded, COURSES_MAP, &self.maps.courses)?;
        fill(loaded, STEPS_MAP, &self.maps.steps)?;
        fill(loaded, RULES_MAP, &self.maps.rules)?;
        fill(loaded, DISTRIBUTIONS_MAP, &self.maps.distributions)?;
        fill(loaded, DELIVERIES_MAP, &self.maps.deliveries)?;
        let mut trie: LpmTrie<_, Address, RuleList> =
            loaded.map(TARGETS_MAP)?.try_into().map_err(|error| failed(TARGETS_MAP, &error))?;
        for (address, bits, list) in &self.maps.targets {
            trie.insert(&Key::new(*bits, *address), list, 0).map_err(|error| failed(TARGETS_MAP, &error))?;
        }
        Ok(())
    }
}

/// The plan that is in the entries of [`ASKED_MAP`].
///
/// # Errors
///
/// When it is of another version.
pub(super) fn asked(
    entries: impl Iterator<Item = Result<[u8; ASKED_ENTRY], MapError>>,
) -> Result<Plan, OpenError> {
    let failed =
        |error: &(dyn Error + 'static)| OpenError::new(&format!("the map {ASKED_MAP} of a plan"), error);
    let entries: Result<Vec<_>, _> = entries.collect();
    let bytes = entries.map_err(|error| failed(&error))?.concat();
    let (length, json) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let json = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| json.get(..length));
    serde_json::from_slice(json.unwrap_or_default()).map_err(|error| failed(&error))
}

fn padded(bytes: &[u8]) -> [u8; ASKED_ENTRY] {
    let mut entry = [0; ASKED_ENTRY];
    entry[..bytes.len()].copy_from_slice(bytes);
    entry
}

fn fill<V: Pod>(loaded: &mut Loaded, name: &str, values: &[V]) -> Result<(), ShapingError> {
    let mut array: Array<_, V> = loaded.map(name)?.try_into().map_err(|error| failed(name, &error))?;
    for (index, value) in (0..).zip(values) {
        array.set(index, value, 0).map_err(|error| failed(name, &error))?;
    }
    Ok(())
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> ShapingError {
    ShapingError::Failed(format!("the map {name} of a plan: {error}"))
}

fn random_seed() -> Result<u64, ShapingError> {
    getrandom::u64().map_err(|error| ShapingError::Failed(format!("draw a seed: {error}")))
}
