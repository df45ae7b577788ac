//! Counts what the daemon does, since its start.

use std::time::Duration;

use parking_lot::Mutex;

use crate::shaping::{
    ChangeCounts, ChangeResult, ContainerResult, Durations, Operation, Origin, ShapingError,
};

/// The counts; they are asked for seldom, and change seldom.
#[derive(Default)]
pub(super) struct Tally {
    changes: Mutex<ChangeCounts>,
    reports: Mutex<Durations>,
}

impl Tally {
    /// Counts a change of one container, of whose success `is_changed` tells whether anything has changed.
    pub(super) fn note<T>(
        &self,
        operation: Operation,
        origin: Origin,
        done: &Result<T, ShapingError>,
        is_changed: impl FnOnce(&T) -> bool,
    ) {
        let result = match done {
            Ok(done) if is_changed(done) => ChangeResult::Changed,
            Ok(_) => ChangeResult::Unchanged,
            Err(error) => error.into(),
        };
        self.changes.lock().add(operation, origin, result);
    }

    /// Counts a change that was not begun.
    pub(super) fn note_error(&self, operation: Operation, origin: Origin, error: &ShapingError) {
        self.changes.lock().add(operation, origin, error.into());
    }

    /// Counts the changes of one request for many containers.
    pub(super) fn note_all(&self, operation: Operation, results: &[ContainerResult]) {
        let mut changes = self.changes.lock();
        for result in results.iter().filter_map(|one| ChangeResult::of_one(&one.end)) {
            changes.add(operation, Origin::Request, result);
        }
    }

    /// Counts a report to Scope.
    pub(super) fn note_report(&self, took: Duration) {
        self.reports.lock().add(took);
    }

    pub(super) fn changes(&self) -> ChangeCounts {
        self.changes.lock().clone()
    }

    pub(super) fn reports(&self) -> Durations {
        self.reports.lock().clone()
    }
}
