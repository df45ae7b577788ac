//! Requests for many containers at once: whom they are for, and what became of each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Container, ContainerId, Direction, InterfaceView, Request, Selector, Shaping, quoted, short};

/// The containers that a request is for, and the bounds of what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The containers that may be chosen.
    pub(crate) selector: Selector,
    /// The number of those to choose; none is all of them.
    pub(crate) count: Option<Count>,
    /// True if it is no error that there are none.
    pub(crate) allow_none: bool,
    /// True if nothing is to be done, but shown.
    pub(crate) dry_run: bool,
    /// True if what can be done stays, though something else cannot.
    pub(crate) partial: bool,
    /// True if protected containers are meant as well.
    pub(crate) force: bool,
    /// The most containers that may be changed.
    pub(crate) max_containers: Option<usize>,
}

impl Selection {
    /// All that fit, and nothing out of the ordinary.
    pub(crate) const fn of(selector: Selector) -> Self {
        Self {
            selector,
            count: None,
            allow_none: false,
            dry_run: false,
            partial: false,
            force: false,
            max_containers: None,
        }
    }
}

/// The number of containers to choose: `2`, or a share of them, `30%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// At most this many.
    Number(usize),
    /// A share, in whole percent: of any, at least one.
    Percent(u8),
}

/// A text that is no [`Count`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid count {}: expected a number such as 2, or a share from 1% to 100%", quoted(.0))]
pub(crate) struct CountError(String);

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, CountError> {
        let count = match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|share| (1..=100).contains(share)).map(Self::Percent)
            }
            None => text.parse().ok().filter(|number| *number > 0).map(Self::Number),
        };
        count.ok_or_else(|| CountError(text.to_owned()))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl Count {
    /// Keeps as many of `all` as this says, in their order: those of the lowest ranks. The same ones are kept whenever this
    /// is asked, and most of them also where others have come or gone.
    pub(crate) fn keep<T>(self, all: &mut Vec<T>, rank: impl Fn(&T) -> u64) {
        let number = match self {
            Self::Number(number) => number,
            Self::Percent(share) => (all.len() * usize::from(share)).div_ceil(100),
        };
        let mut ranks: Vec<u64> = all.iter().map(&rank).collect();
        ranks.sort_unstable();
        if let Some(first_out) = ranks.get(number) {
            all.retain(|one| rank(one) < *first_out);
        }
    }
}

/// The place of a container among those that may be chosen: a hash of its id that is the same in all versions (FNV-1a,
/// with the last steps of `MurmurHash3`, so that ids that differ in one character are not neighbours).
pub(crate) fn rank(id: &ContainerId) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// A change of the shaping of many containers.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// This change of each.
    Set(Box<Request>),
    /// The end of it.
    Clear,
}

/// The results of a request for many containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Each of the containers that were selected, by name; of those that share a network namespace, the first.
    pub(crate) results: Vec<ContainerResult>,
}

/// The result for one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerResult {
    /// The container.
    pub(crate) container: Container,
    /// The names of the other containers of its network namespace, which have the same shaping.
    pub(crate) shared_with: Vec<String>,
    /// The end that the request came to.
    #[serde(flatten)]
    pub(crate) end: Completion,
    /// The shaping before, by interface and direction.
    pub(crate) before: Vec<InForce>,
    /// The shaping after, or the one that there would be.
    pub(crate) after: Vec<InForce>,
}

/// The end that a request came to for one of many containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "reason", rename_all = "lowercase")]
pub(crate) enum Completion {
    /// Done.
    Changed,
    /// There was nothing to clear.
    Unchanged,
    /// It would be done.
    Planned,
    /// Left out for this reason, which is no failure.
    Skipped(String),
    /// It cannot be done: the reason. Nothing was tried.
    Refused(String),
    /// It was tried and did not work: the reason. The container is as it was.
    Failed(String),
    /// Done, and put back as it was when another one failed.
    Restored,
    /// Done, and could not be put back when another one failed: the reason.
    Stuck(String),
    /// Left alone, as another one was refused or failed.
    Untouched,
}

impl Completion {
    /// Tells whether the request was in vain, though this container was meant.
    pub(crate) const fn is_failure(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Failed(_) | Self::Stuck(_))
    }

    /// Tells whether the container has what was asked, or would have.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self, Self::Changed | Self::Unchanged | Self::Planned)
    }
}

/// One interface's shaping in one direction, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InForce {
    /// The container's name for the interface.
    pub(crate) interface: String,
    /// The direction.
    pub(crate) direction: Direction,
    /// All effects on packets of no target, in netem's words, cut where they are very long; empty if there are none.
    pub(crate) netem: String,
    /// The number of targets with effects of their own.
    pub(crate) targets: usize,
    /// The remaining time, in milliseconds; none is until it is cleared.
    pub(crate) remaining_ms: Option<u64>,
}

/// The most characters of effects in one line: a policy may have thousands of steps, and there may be thousands of lines.
const MOST_CHARACTERS: usize = 400;

impl InForce {
    /// The line of a shaping.
    pub(crate) fn new(
        interface: &str,
        direction: Direction,
        shaping: &Shaping,
        remaining_ms: Option<u64>,
    ) -> Self {
        let mut netem = shaping.words();
        if let Some((end, _)) = netem.char_indices().nth(MOST_CHARACTERS) {
            netem.truncate(end);
            netem.push_str("...");
        }
        let targets = shaping.targets().count();
        Self { interface: interface.to_owned(), direction, netem, targets, remaining_ms }
    }

    /// Tells whether it does nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.netem.is_empty() && self.targets == 0
    }

    /// The lines of what is in force.
    pub(crate) fn of(views: &[InterfaceView]) -> Vec<Self> {
        let in_force = views.iter().filter(|view| view.shaping != Shaping::default());
        in_force
            .map(|view| Self::new(&view.interface, view.direction, &view.shaping, view.remaining_ms))
            .collect()
    }
}

impl Changed {
    /// The number of results that are so.
    pub(crate) fn count(&self, is: impl Fn(&Completion) -> bool) -> usize {
        self.results.iter().filter(|one| is(&one.end)).count()
    }

    /// Tells whether anything was tried that did not work.
    pub(crate) fn has_been_tried(&self) -> bool {
        self.count(|end| matches!(end, Completion::Failed(_) | Completion::Stuck(_))) > 0
    }

    /// Says in a sentence what failed; none if nothing did.
    pub(crate) fn failure(&self) -> Option<String> {
        let first = self.results.iter().find(|one| one.end.is_failure())?;
        let (Completion::Refused(reason) | Completion::Failed(reason) | Completion::Stuck(reason)) =
            &first.end
        else {
            return None;
        };
        let (failed, all) = (self.count(Completion::is_failure), self.results.len());
        let done =
            match (self.count(Completion::is_done), self.count(|end| matches!(end, Completion::Stuck(_)))) {
                (0, 0) => "nothing has changed".to_owned(),
                (0, stuck) => format!("{stuck} could not be put back"),
                (done, _) => format!("{done} changed"),
            };
        Some(format!(
            "{failed} of {all} failed, {done}; the first is {}: {reason}",
            short(&first.container.name)
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ContainerId {
        ContainerId::new(text).expect("an id")
    }

    #[test]
    fn ranks_are_the_same_in_all_versions() {
        assert_eq!([rank(&id("web")), rank(&id("c0ffee"))], [10056428246481577385, 17165720105819946932]);
    }

    #[test]
    fn counts_are_numbers_and_shares() {
        for (text, shown) in [("2", "2"), ("30%", "30%"), ("100%", "100%"), ("1%", "1%")] {
            assert_eq!(text.parse::<Count>().map(|count| count.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["0", "0%", "101%", "-1", "1.5", "%", "", "two"] {
            assert!(bad.parse::<Count>().is_err(), "{bad}");
        }
    }

    fn kept(count: &str, all: &[ContainerId]) -> Vec<ContainerId> {
        let mut kept = all.to_vec();
        count.parse::<Count>().expect("a count").keep(&mut kept, rank);
        kept
    }

    proptest! {
        #[test]
        fn so_many_are_kept_and_others_that_come_replace_few(
            ids in prop::collection::btree_set("[a-f0-9]{12}", 1..40),
            number in 1..50_usize,
        ) {
            let all: Vec<_> = ids.iter().map(|text| id(text)).collect();
            let some = kept(&number.to_string(), &all);
            prop_assert_eq!(some.len(), number.min(all.len()));
            prop_assert!(some.is_sorted());
            let backwards: Vec<_> = all.iter().rev().cloned().collect();
            let mut again = kept(&number.to_string(), &backwards);
            again.reverse();
            prop_assert_eq!(&some, &again);
            let more: Vec<_> = all.iter().cloned().chain([id("another")]).collect();
            let stayed = kept(&number.to_string(), &more).iter().filter(|id| some.contains(id)).count();
            prop_assert!(stayed + 1 >= some.len());
            let share = kept("30%", &all).len();
            prop_assert_eq!(share, (all.len() * 30).div_ceil(100));
        }
    }
}
