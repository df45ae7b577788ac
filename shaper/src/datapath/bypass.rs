//! Tells whether packets pass that the classifier does not see. Something may run in front of it and not let them through:
//! a TCX program (Linux 6.6) that does not say "next", or a classifier that ends the classification. Or they reach the
//! container by `bpf_redirect_peer`, which leads past its host's end.

use std::mem;

use parking_lot::Mutex;

/// The packets that may pass unseen between two looks, as the counts are not read at the same moment.
const SLACK: u64 = 10;

/// The counts of one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Packets that left the device, or reached the container.
    pub(super) passed: u64,
    /// Packets that the classifier saw.
    pub(super) seen: u64,
    /// Packets that wait in the queue.
    pub(super) waiting: u64,
}

impl Counts {
    /// Returns true if packets have passed unseen since `before`, false if all were seen; nothing if it cannot be told.
    fn tell_unseen(self, before: Self) -> Option<bool> {
        let passed = self.passed.saturating_sub(before.passed);
        let seen = self.seen.saturating_sub(before.seen);
        let expected = seen.saturating_add(before.waiting);
        if passed.saturating_sub(SLACK) / 2 > expected {
            Some(true)
        } else {
            (seen > 0 && passed <= expected).then_some(false)
        }
    }
}

/// The looks at a device that packets may pass unseen.
#[derive(Debug, Default)]
pub(super) struct Bypass(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    last: Option<Counts>,
    is_bypassed: bool,
}

impl Bypass {
    /// Takes in the counts of a look; returns true if packets pass unseen.
    pub(super) fn note(&self, counts: Counts) -> bool {
        let mut looks = self.0.lock();
        let told = looks.last.replace(counts).and_then(|before| counts.tell_unseen(before));
        looks.is_bypassed = told.unwrap_or(looks.is_bypassed);
        looks.is_bypassed
    }

    /// Forgets all looks: no packet can pass unseen.
    pub(super) fn end(&self) {
        mem::take(&mut *self.0.lock());
    }

    /// Returns true if packets passed unseen when it was looked at last.
    pub(super) fn is_known(&self) -> bool {
        self.0.lock().is_bypassed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, seen: u64, waiting: u64) -> Counts {
        Counts { passed, seen, waiting }
    }

    #[test]
    fn packets_that_passed_unseen_are_told_from_those_that_waited() {
        let before = counts(100, 300, 50);
        assert_eq!(counts(150, 300, 0).tell_unseen(before), None, "they had been seen before");
        assert_eq!(counts(212, 300, 0).tell_unseen(before), Some(true));
        assert_eq!(counts(210, 300, 0).tell_unseen(before), None, "it may be chance");
        assert_eq!(counts(100, 300, 50).tell_unseen(before), None, "nothing passed");
        assert_eq!(counts(100, 400, 50).tell_unseen(before), Some(false), "they are lost");
        assert_eq!(counts(1_100, 1_300, 50).tell_unseen(before), Some(false));
    }

    #[test]
    fn no_counts_are_too_much() {
        let numbers = [0, 1, u64::MAX / 2, u64::MAX];
        let all = || {
            numbers.into_iter().flat_map(|one| numbers.into_iter().map(move |other| counts(one, other, one)))
        };
        for (before, now) in all().flat_map(|before| all().map(move |now| (before, now))) {
            now.tell_unseen(before);
        }
    }

    #[test]
    fn a_bypass_is_known_until_packets_are_seen_again_or_nothing_runs_in_front() {
        let bypass = Bypass::default();
        assert!(!bypass.note(counts(1_000, 0, 0)), "there is nothing to compare it with");
        assert!(bypass.note(counts(1_100, 0, 0)));
        assert!(bypass.note(counts(1_100, 0, 0)), "nothing passed since");
        assert!(!bypass.note(counts(1_200, 100, 0)));
        assert!(bypass.note(counts(1_300, 100, 0)) && bypass.is_known());
        bypass.end();
        assert!(!bypass.is_known());
    }
}
