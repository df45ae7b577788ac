//! The journal: what has happened to the shaping of containers, and through whom.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Author, Container, ContainerId, Direction, InForce};

/// The number of entries that are kept in memory.
pub(crate) const KEPT: usize = 10_000;

/// The time within which an author who only renews a shaping's lifetime is told of once.
const RENEWALS: Duration = Duration::from_secs(60);

/// Something that has happened to the shaping of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// A number that is greater in each later entry, under later daemons as well.
    pub(crate) id: u64,
    /// When it happened.
    #[serde(with = "humantime_serde")]
    pub(crate) time: SystemTime,
    /// The kind.
    pub(crate) action: Action,
    /// The container's name, or what was asked for where there is no such container.
    pub(crate) container: String,
    /// The container's id, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) container_id: Option<ContainerId>,
    /// The container's name for the interface, where it happened to one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    /// The direction, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<Direction>,
    /// The one through whom.
    pub(crate) by: Author,
    /// Why: of an end without a request, of what is broken, of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The shaping before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) before: Vec<InForce>,
    /// The shaping after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<InForce>,
}

/// The kind of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// A container is shaped that was not.
    Began,
    /// It is shaped in another way.
    Changed,
    /// It is no longer shaped.
    Ended,
    /// It cannot be done: nothing was tried.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// Somebody else took a part of it off the device.
    Broken,
    /// No longer broken.
    Repaired,
    /// It goes on at another place.
    Moved,
}

impl Action {
    /// All kinds.
    pub(crate) const ALL: [Self; 8] = [
        Self::Began,
        Self::Changed,
        Self::Ended,
        Self::Refused,
        Self::Failed,
        Self::Broken,
        Self::Repaired,
        Self::Moved,
    ];

    /// The name, as in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Changed => "changed",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Repaired => "repaired",
            Self::Moved => "moved",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Entry {
    /// An entry on a container, of which no more is known. It gets its number in the journal.
    pub(crate) fn new(action: Action, container: &str, by: Author) -> Self {
        Self {
            id: 0,
            time: UNIX_EPOCH,
            action,
            container: container.to_owned(),
            container_id: None,
            interface: None,
            direction: None,
            by,
            reason: None,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// The entry on a change of a container; none if it was not shaped and is not.
    pub(crate) fn of_change(
        container: &Container,
        by: Author,
        before: Vec<InForce>,
        after: Vec<InForce>,
    ) -> Option<Self> {
        let action = match (before.is_empty(), after.is_empty()) {
            (true, true) => return None,
            (true, false) => Action::Began,
            (false, true) => Action::Ended,
            (false, false) => Action::Changed,
        };
        let container_id = Some(container.id.clone());
        Some(Self { container_id, before, after, ..Self::new(action, &container.name, by) })
    }

    /// Tells whether nothing has changed but the time that is left.
    fn is_renewal(&self) -> bool {
        let timeless = |lines: &[InForce]| {
            let line = |line: &InForce| InForce { remaining_ms: None, ..line.clone() };
            lines.iter().map(line).collect::<Vec<_>>()
        };
        self.action == Action::Changed && timeless(&self.before) == timeless(&self.after)
    }

    /// The same with a reason.
    pub(crate) fn because(self, reason: impl fmt::Display) -> Self {
        Self { reason: Some(reason.to_string()), ..self }
    }
}

/// The numbers of entries, by action and kind of author.
pub(crate) type EventCounts = BTreeMap<(Action, &'static str), u64>;

/// The last entries, in order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Arc<Entry>>,
    counts: EventCounts,
    last: u64,
}

impl Journal {
    /// Adds an entry at this time, gives it its number, and returns it; nothing if its author has renewed this shaping a moment
    /// ago.
    pub(crate) fn add(&mut self, entry: Entry, now: SystemTime) -> Option<Arc<Entry>> {
        if entry.is_renewal() && self.has_just_told_of(&entry, now) {
            return None;
        }
        let microseconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        self.last = u64::try_from(microseconds).unwrap_or_default().max(self.last + 1);
        let entry = Arc::new(Entry { id: self.last, time: now, ..entry });
        *self.counts.entry((entry.action, entry.by.kind())).or_default() += 1;
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Arc::clone(&entry));
        Some(entry)
    }

    fn has_just_told_of(&self, renewal: &Entry, now: SystemTime) -> bool {
        let is_recent = |entry: &&Arc<Entry>| now.duration_since(entry.time).is_ok_and(|age| age < RENEWALS);
        let is_same =
            |entry: &Arc<Entry>| entry.container_id == renewal.container_id && entry.by == renewal.by;
        self.entries.iter().rev().take_while(is_recent).any(is_same)
    }

    /// The numbers of all entries that there have been.
    pub(crate) const fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// The entries behind the one with this number, at most so many: the first of them.
    pub(crate) fn after(&self, id: u64, most: usize) -> Vec<Arc<Entry>> {
        let begin = self.entries.partition_point(|entry| entry.id <= id);
        self.entries.range(begin..).take(most).cloned().collect()
    }

    /// The last entries, at most so many.
    pub(crate) fn last(&self, most: usize) -> Vec<Arc<Entry>> {
        let begin = self.entries.len().saturating_sub(most);
        self.entries.range(begin..).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::fake;

    fn line(netem: &str) -> InForce {
        InForce {
            interface: "eth0".to_owned(),
            direction: Direction::Egress,
            netem: netem.to_owned(),
            targets: 0,
            remaining_ms: None,
        }
    }

    #[test]
    fn a_change_is_called_by_what_it_makes_of_the_shaping() {
        let container = fake::web().container;
        let action = |before: &[InForce], after: &[InForce]| {
            let entry = Entry::of_change(&container, Author::Scope, before.to_vec(), after.to_vec());
            entry.map(|entry| entry.action)
        };
        let (some, other) = ([line("loss 1%")], [line("loss 2%")]);
        assert_eq!(action(&[], &[]), None);
        assert_eq!(action(&[], &some), Some(Action::Began));
        assert_eq!(action(&some, &other), Some(Action::Changed));
        assert_eq!(action(&some, &[]), Some(Action::Ended));
    }

    #[test]
    fn numbers_go_on_and_the_last_entries_stay() {
        let mut journal = Journal::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut add = |seconds| {
            let entry = journal.add(Entry::new(Action::Began, "web", Author::Shaper), at(seconds));
            entry.expect("it is no renewal").id
        };
        let first = add(10);
        assert_eq!([first, add(10), add(9)], [10_000_000, 10_000_001, 10_000_002], "the clock may go back");
        assert!(add(11) > 10_000_002);
        let ids = |entries: Vec<Arc<Entry>>| entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids(journal.after(first, 2)), [10_000_001, 10_000_002]);
        assert_eq!(ids(journal.after(u64::MAX, 2)), [0; 0]);
        assert_eq!(ids(journal.last(2)), [10_000_002, 11_000_000]);
        for _ in 0..KEPT {
            journal.add(Entry::new(Action::Began, "web", Author::Shaper), at(12));
        }
        assert_eq!(journal.last(usize::MAX).len(), KEPT);
        assert_eq!(ids(journal.after(0, 1)), [12_000_000]);
    }

    #[test]
    fn an_author_who_only_renews_is_told_of_once_a_minute() {
        let mut journal = Journal::default();
        let left = |ms| vec![InForce { remaining_ms: Some(ms), ..line("loss 1%") }];
        let mut add = |by: Author, before: Vec<InForce>, after: Vec<InForce>, seconds| {
            let entry = Entry::of_change(&fake::web().container, by, before, after).expect("a change");
            journal.add(entry, UNIX_EPOCH + Duration::from_secs(seconds)).is_some()
        };
        let run = || Author::Process { uid: 0, pid: Some(42) };
        assert!(add(run(), Vec::new(), left(10), 0));
        let told: Vec<_> =
            (1..40).map(|number| 3 * number).filter(|at| add(run(), left(7), left(10), *at)).collect();
        assert_eq!(told, [60]);
        assert!(add(Author::Scope, left(7), left(10), 118), "another one");
        assert!(add(run(), left(7), vec![line("loss 2%")], 118), "another loss");
    }

    #[test]
    fn an_entry_survives_json() {
        let by = Author::Process { uid: 0, pid: Some(42) };
        let entry = Entry::of_change(&fake::web().container, by, Vec::new(), vec![line("loss 1%")]);
        let entry = Journal::default().add(entry.expect("a change").because("why"), UNIX_EPOCH);
        let entry = entry.expect("it is no renewal");
        let json = serde_json::to_string(&*entry).expect("JSON");
        assert_eq!(serde_json::from_str::<Entry>(&json).expect("an entry"), *entry, "{json}");
    }
}
