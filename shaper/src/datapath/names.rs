//! The addresses that names in targets stand for by now, as the daemon has found them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::shaping::{Name, NamedPeer, Peers};
use parking_lot::RwLock;

/// The time that a name is remembered that no policy in force has: a request has found it, and is still to use it.
const UNUSED: Duration = Duration::from_secs(60);

/// All names that are known.
#[derive(Default)]
pub(super) struct Names(RwLock<BTreeMap<Name, Known>>);

#[derive(Clone, Default)]
struct Known {
    /// In order, each once; none if they have never been found.
    addresses: Option<Vec<IpAddr>>,
    /// When they were found; an earlier daemon found them if there is no time.
    found: Option<Instant>,
    /// The reason why there are none, or why they are old.
    problem: Option<String>,
}

impl Names {
    /// Takes in the addresses of a name, and why there are none if so. Says whether they are others than before.
    pub(super) fn found(&self, name: &Name, mut addresses: Vec<IpAddr>, problem: Option<&str>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let known = Known {
            addresses: Some(addresses.clone()),
            found: Some(Instant::now()),
            problem: problem.map(str::to_owned),
        };
        let old = self.write().insert(name.clone(), known).unwrap_or_default();
        let were_none = old.addresses.as_ref().is_some_and(Vec::is_empty);
        if addresses.is_empty() && !were_none {
            tracing::warn!(%name, reason = problem, "a target has no addresses and matches no packet");
        } else if !addresses.is_empty() && (were_none || old.problem.is_some()) {
            tracing::info!(%name, addresses = addresses.len(), "found the addresses of a target again");
        }
        old.addresses != Some(addresses)
    }

    /// Notes why a name could not be looked up; the addresses that are known of it stay.
    pub(super) fn not_found(&self, name: &Name, problem: &str) {
        let mut names = self.write();
        let known = names.entry(name.clone()).or_default();
        if known.problem.is_none() {
            let seconds = known.found.map(|found| found.elapsed().as_secs());
            tracing::warn!(%name, reason = problem, found_seconds_ago = seconds, "a target keeps its last addresses");
        }
        known.problem = Some(problem.to_owned());
    }

    /// Takes in what an earlier daemon has found, unless something newer is known.
    pub(super) fn inherit(&self, peers: &Peers) {
        let mut names = self.write();
        for (name, addresses) in peers {
            names
                .entry(name.clone())
                .or_insert_with(|| Known { addresses: Some(addresses.clone()), ..Known::default() });
        }
    }

    /// Returns true if any addresses of a name are known.
    pub(super) fn has_addresses(&self, name: &Name) -> bool {
        self.read()
            .get(name)
            .and_then(|known| known.addresses.as_ref())
            .is_some_and(|found| !found.is_empty())
    }

    /// The addresses of `names`; of one that is not known, those that it has in `old`, if any.
    pub(super) fn peers<'a>(&self, names: impl IntoIterator<Item = &'a Name>, old: &Peers) -> Peers {
        let known = self.read();
        let addresses = |name: &Name| {
            known.get(name).and_then(|known| known.addresses.as_ref()).or_else(|| old.get(name))
        };
        let named = names.into_iter().map(|name| (name, addresses(name)));
        named.filter_map(|(name, addresses)| Some((name.clone(), addresses?.clone()))).collect()
    }

    /// Returns what is shown of `names`, which stand for `peers`.
    pub(super) fn shown(&self, names: &BTreeSet<Name>, peers: &Peers) -> Vec<NamedPeer> {
        let known = self.read();
        let shown = |name: &Name| {
            let known = known.get(name).cloned().unwrap_or_default();
            let age = known.found.map(|found| found.elapsed().as_millis());
            NamedPeer {
                name: name.to_string(),
                addresses: peers.get(name).cloned().unwrap_or_default(),
                age_ms: age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
                problem: known.problem,
            }
        };
        names.iter().map(shown).collect()
    }

    /// Forgets names that are not in `used`, unless they have been found just now.
    pub(super) fn retain(&self, used: &BTreeSet<Name>) {
        let is_new = |known: &Known| known.found.is_some_and(|found| found.elapsed() < UNUSED);
        self.write().retain(|name, known| used.contains(name) || is_new(known));
    }

    fn read(&self) -> parking_lot::RwLockReadGuard<'_, BTreeMap<Name, Known>> {
        self.0.read()
    }

    fn write(&self) -> parking_lot::RwLockWriteGuard<'_, BTreeMap<Name, Known>> {
        self.0.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::Host(text.to_owned())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_keeps_its_addresses_and_says_why() {
        let names = Names::default();
        let (host, other) = (name("one.example"), name("two.example"));
        assert!(names.found(&host, vec![address("10.0.0.2"), address("10.0.0.1")], None));
        assert!(!names.found(&host, vec![address("10.0.0.1"), address("10.0.0.2")], None), "the same ones");
        names.not_found(&host, "no name server answered");
        names.not_found(&other, "no name server answered");
        let peers = names.peers([&host, &other], &Peers::new());
        assert!(!peers.contains_key(&other), "not known, which is not the same as none");
        assert_eq!(peers[&host], [address("10.0.0.1"), address("10.0.0.2")]);
        let shown = names.shown(&[host.clone()].into(), &peers);
        assert_eq!(shown[0].problem.as_deref(), Some("no name server answered"));
        assert!(shown[0].age_ms.is_some());
        assert!(names.found(&host, Vec::new(), Some("it has none")));
        assert!(!names.has_addresses(&host));
    }

    #[test]
    fn what_an_earlier_daemon_found_stays_until_something_newer_is_known() {
        let names = Names::default();
        let host = name("one.example");
        let old: Peers = [(host.clone(), vec![address("10.0.0.1")])].into();
        assert_eq!(names.peers([&host], &Peers::new()), Peers::new(), "not known at all");
        assert_eq!(names.peers([&host], &old), old);
        names.inherit(&old);
        assert_eq!(names.peers([&host], &Peers::new()), old);
        names.found(&host, vec![address("10.0.0.9")], None);
        names.inherit(&old);
        assert_eq!(names.peers([&host], &old)[&host], [address("10.0.0.9")]);
        names.retain(&BTreeSet::new());
        assert!(names.has_addresses(&host), "a request may be about to use it");
    }
}
