//! Attempts that did not work.

use std::path::PathBuf;

use thiserror::Error;

use super::{Direction, ShapingState};

/// A failure; nothing has changed when one is returned.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// An attempt, and what stood against it.
    #[error("{attempt}: {cause}")]
    Attempt {
        /// The attempt.
        attempt: Attempt,
        /// The error with its causes.
        cause: String,
    },
    /// A request to the kernel's networking, which names the attempt itself.
    #[error("{cause}{}", advice.map(|advice| format!(": {advice}")).unwrap_or_default())]
    Netlink {
        /// The error.
        cause: String,
        /// The meaning of it, with what to do about it.
        advice: Option<&'static str>,
    },
    /// The daemon may not load programs.
    #[error(
        "no permission to load BPF programs: run the daemon as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"
    )]
    MayNotLoad,
    /// The daemon may not enter namespaces.
    #[error("no permission to enter a network namespace: run the daemon as root, or with CAP_SYS_ADMIN")]
    MayNotEnter,
    /// A part of the container that is no more.
    #[error("the {0} has gone")]
    Gone(&'static str),
    /// The classifier of a device that is no more.
    #[error("{device}: its classifier has gone: set the shaping again")]
    ClassifierGone {
        /// The device.
        device: String,
    },
    /// A classifier of somebody else that runs before ours.
    #[error("{device}: another classifier runs before ours")]
    NotFirst {
        /// The device.
        device: String,
    },
    /// A namespace that is nowhere to be seen, and not known to have ended.
    #[error("its network namespace cannot be found: {reason}")]
    Unfound {
        /// The reason why it may still be there.
        reason: String,
    },
    /// The same, where nothing says on which host it was.
    #[error(
        "its network namespace cannot be found, and nothing says on which host it was pinned: if it has ended, remove {}",
        pins.display()
    )]
    OfUnknownHost {
        /// The pins.
        pins: PathBuf,
    },
    /// An interface that cannot be looked at from here.
    #[error("{reason}")]
    Elsewhere {
        /// The place where it is.
        reason: String,
    },
    /// An interface that could not be taken over from an earlier daemon.
    #[error("{interface} ({direction}) is {state}")]
    Kept {
        /// The interface.
        interface: String,
        /// The direction.
        direction: Direction,
        /// The state, with the reason.
        state: ShapingState,
    },
    /// Something pinned that cannot be opened.
    #[error("{reason}")]
    Unopened {
        /// The reason, with what it is.
        reason: String,
    },
    /// A task of the daemon that no longer goes on.
    #[error("the daemon has not {what} for {seconds}s: start it again; shaping stays as it is")]
    Stalled {
        /// The thing that the task does.
        what: &'static str,
        /// Seconds since it was last done.
        seconds: u64,
    },
}

/// An attempt, and the thing that it was made on.
#[derive(Debug, Error)]
pub(crate) enum Attempt {
    #[error("enter a network namespace")]
    EnterNetns,
    #[error("enter the network namespace at {}", .0.display())]
    OpenNetns(PathBuf),
    #[error("load the BPF program")]
    LoadProgram,
    #[error("find the program {0} in the BPF object")]
    FindProgram(&'static str),
    #[error("find the map {0} in the BPF object")]
    FindMap(String),
    #[error("fill the map {0} of a policy")]
    FillMap(String),
    #[error("draw a seed")]
    DrawSeed,
    #[error("keep the rules")]
    KeepRules,
    #[error("pin the program")]
    PinProgram,
    #[error("attach to {0}")]
    Attach(String),
    #[error("replace the classifier of {0}")]
    Replace(String),
    #[error("look at a classifier named {0}")]
    LookAtClassifier(String),
    #[error("read the policy of {0}")]
    ReadShaping(String),
    #[error("write the policy of {0}")]
    WriteShaping(String),
    #[error("change the targets of {0}")]
    ChangeTargets(String),
    #[error("note what {0} was")]
    NoteOriginal(String),
    #[error("make the pin directory {}", .0.display())]
    MakePins(PathBuf),
    #[error("name the pin directory {}", .0.display())]
    NamePins(PathBuf),
    #[error("read what is pinned in {}", .0.display())]
    ReadPins(PathBuf),
    #[error("look at the daemon's own namespaces")]
    LookAtSelf,
    #[error("read where what is pinned belongs, {}", .0.display())]
    ReadHost(PathBuf),
    #[error("record the host in {}", .0.display())]
    RecordHost(PathBuf),
    #[error("finish the change")]
    Finish,
}

impl Attempt {
    /// The failure of it.
    pub(crate) fn failed(self, cause: impl ToString) -> Failure {
        Failure::Attempt { attempt: self, cause: cause.to_string() }
    }
}
