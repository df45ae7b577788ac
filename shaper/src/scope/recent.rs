//! Remembers which rows containers had lately.
//!
//! Scope's app merges the reports of the last 15 s and keeps the newest value of each key. So a row that is left out stays
//! on screen as it was, while one that says `-` is replaced at once.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// A row or a metric.
type Key = Cow<'static, str>;

/// The age from which on the app cannot have a row any more: its 15 s, and what probe and app take to exchange reports.
const LINGER: Duration = Duration::from_secs(20);

/// By container id, when each row was reported for the last time.
#[derive(Default)]
pub(super) struct Recent(BTreeMap<String, BTreeMap<Key, SystemTime>>);

impl Recent {
    /// Forgets what the app has forgotten at `now`. A clock that was set back keeps everything for longer.
    pub(super) fn forget(&mut self, now: SystemTime) {
        let is_recent = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < LINGER);
        self.0.retain(|_, rows| {
            rows.retain(|_, at| is_recent(*at));
            !rows.is_empty()
        });
    }

    /// Notes that a container has the rows `present` at `now`, and returns those that it had lately and has no more.
    pub(super) fn gone(&mut self, id: &str, present: impl Iterator<Item = Key>, now: SystemTime) -> Vec<Key> {
        let mut present = present.peekable();
        if present.peek().is_none() && !self.0.contains_key(id) {
            return Vec::new();
        }
        let rows = self.0.entry(id.to_owned()).or_default();
        rows.extend(present.map(|key| (key, now)));
        rows.iter().filter(|(_, at)| **at != now).map(|(key, _)| key.clone()).collect()
    }
}
