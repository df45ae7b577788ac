//! Keeps the journal: in memory, and in a file for those who have to account for it.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    files::RotatingFile,
    shaping::{Entry, EventCounts, Journal},
};

/// The file in which all entries are kept, and the size from which on another one is begun.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    /// The file: a line of JSON for each entry.
    pub(crate) path: PathBuf,
    /// The most bytes of it.
    pub(crate) most_bytes: u64,
}

/// The journal, and those who follow it.
pub(super) struct Chronicle {
    journal: Mutex<(Journal, Option<RotatingFile>)>,
    /// The number of the last entry; closed when the daemon ends.
    last: Mutex<Option<watch::Sender<u64>>>,
}

impl Chronicle {
    /// An empty journal, which is written to a file as well if there is one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(super) fn new(audit: Option<&AuditLog>) -> Result<Self> {
        let open = |audit: &AuditLog| RotatingFile::open(&audit.path, audit.most_bytes);
        let file = audit.map(open).transpose().context("write the audit log (--audit-log)")?;
        let journal = Mutex::new((Journal::default(), file));
        Ok(Self { journal, last: Mutex::new(Some(watch::Sender::new(0))) })
    }

    /// Adds an entry; tells whether it is news.
    pub(super) fn add(&self, entry: Entry) -> bool {
        let id = {
            let (journal, file) = &mut *self.journal.lock();
            let Some(entry) = journal.add(entry, SystemTime::now()) else { return false };
            if let Some(file) = file
                && let Err(error) = write(file, &entry)
            {
                tracing::error!(%error, "an event is not in the audit log");
            }
            entry.id
        };
        if let Some(last) = &*self.last.lock() {
            // Another entry may have been faster.
            last.send_modify(|last| *last = (*last).max(id));
        }
        true
    }

    /// The numbers of entries since the start, by action and kind of author.
    pub(super) fn counts(&self) -> EventCounts {
        self.journal.lock().0.counts().clone()
    }

    /// The entries behind the one with this number, or the last ones; at most so many.
    pub(super) fn entries(&self, after: Option<u64>, most: usize) -> Vec<Arc<Entry>> {
        let (journal, _) = &*self.journal.lock();
        match after {
            Some(id) => journal.after(id, most),
            None => journal.last(most),
        }
    }

    /// Waits for entries behind the one with this number; none once the daemon ends.
    pub(super) async fn next(&self, after: u64, most: usize) -> Option<Vec<Arc<Entry>>> {
        let mut last = self.last.lock().as_ref()?.subscribe();
        last.wait_for(|last| *last > after).await.ok()?;
        Some(self.entries(Some(after), most))
    }

    /// Has nobody wait any more.
    pub(super) fn close(&self) {
        *self.last.lock() = None;
    }
}

fn write(file: &mut RotatingFile, entry: &Entry) -> std::io::Result<()> {
    file.write_line(&serde_json::to_string(entry)?)
}
