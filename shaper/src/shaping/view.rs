//! Views of containers and their shaping; the same to Scope, to the HTTP API and on the command line.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Container, Direction, Hook, Outcomes, Shaping, Whole};

/// The counters of the `fq` queue; all zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueCounts {
    /// Packets that wait now.
    pub(crate) waiting: u64,
    /// Packets that it dropped for want of room or beyond its horizon.
    pub(crate) dropped: u64,
}

/// A name in a target, and the addresses that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedPeer {
    /// The name as in the target: `container:db`.
    pub(crate) name: String,
    /// In order; the target matches no packet by a name without any.
    pub(crate) addresses: Vec<IpAddr>,
    /// Their age in milliseconds: the time since they were last looked up; none if an earlier daemon found them.
    pub(crate) age_ms: Option<u64>,
    /// The reason why there are none, or why they could not be looked up since.
    pub(crate) problem: Option<String>,
}

/// The state of a shaping: what its device carries of it, not what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub(crate) enum ShapingState {
    /// The device carries all that the policy needs.
    #[default]
    Intact,
    /// Somebody else took a part of it off the device: the reason, for example `queue replaced by pfifo`.
    Broken(String),
    /// It cannot be looked at, or not yet: the reason.
    Unknown(String),
}

impl fmt::Display for ShapingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intact => f.write_str("intact"),
            Self::Broken(reason) => write!(f, "broken: {reason}"),
            Self::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}

/// One shaped interface in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfaceView {
    /// The container's name for it.
    pub(crate) interface: String,
    /// The direction.
    pub(crate) direction: Direction,
    /// The policy in force; none while the last delayed packets of a cleared shaping leave.
    pub(crate) shaping: Shaping,
    /// Tells whether the device really does it: `state`, and `reason` where it does not.
    #[serde(flatten)]
    pub(crate) state: ShapingState,
    /// The remaining time of the policy, in milliseconds; none is until it is cleared.
    pub(crate) remaining_ms: Option<u64>,
    /// The packets by outcome.
    #[serde(flatten)]
    pub(crate) outcomes: Outcomes,
    /// Dropped for another reason: by the queue.
    pub(crate) queue: QueueCounts,
    /// Passed unshaped, as the map asks for what cannot be.
    pub(crate) invalid_policy: u64,
    /// Delayed without leaving their socket first, which slows TCP down.
    pub(crate) orphan_failed: u64,
    /// The names of the networks that it connects the container to, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) networks: Vec<String>,
    /// The names in its targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<NamedPeer>,
}

impl InterfaceView {
    /// An interface of which nothing can be told, for this reason.
    pub(crate) fn unknown(interface: String, direction: Direction, reason: &str) -> Self {
        Self {
            interface,
            direction,
            shaping: Shaping::default(),
            state: ShapingState::Unknown(reason.to_owned()),
            remaining_ms: None,
            outcomes: Outcomes::default(),
            queue: QueueCounts::default(),
            invalid_policy: 0,
            orphan_failed: 0,
            networks: Vec::new(),
            names: Vec::new(),
        }
    }
}

/// Sums over a container's shaped interfaces since its shaping began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Passed, at once or after a delay.
    pub(crate) passed: u64,
    /// Delayed, and part of `passed`.
    pub(crate) delayed: u64,
    /// Dropped, by loss or by the queue.
    pub(crate) dropped: u64,
}

/// The rates of the second before `at_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// Packets passed per second.
    pub(crate) passed: f64,
    /// Packets dropped per second.
    pub(crate) dropped: f64,
}

/// A container and its shaping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerView {
    /// The container.
    pub(crate) container: Container,
    /// The shaping of its interfaces; empty if there is none. Containers of one network namespace have the same.
    pub(crate) interfaces: Vec<InterfaceView>,
    /// The rule that shaped it; none if it is not shaped, or was by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Rates of up to the last minute, oldest first.
    pub(crate) samples: Vec<Sample>,
}

/// A container whose shaping was ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cleared {
    /// False if nothing shaped it.
    pub(crate) was_shaped: bool,
    /// The container as it is now.
    #[serde(flatten)]
    pub(crate) view: ContainerView,
}

impl ContainerView {
    /// The policies in force in `direction`, interfaces alike being the rule: the first one's.
    pub(crate) fn shaping(&self, direction: Direction) -> Option<&Shaping> {
        self.interfaces
            .iter()
            .find(|view| view.direction == direction && view.shaping != Shaping::default())
            .map(|view| &view.shaping)
    }

    /// The first state in `direction` that is not intact.
    pub(crate) fn fault(&self, direction: Direction) -> Option<&ShapingState> {
        let states =
            self.interfaces.iter().filter(|view| view.direction == direction).map(|view| &view.state);
        states.into_iter().find(|state| **state != ShapingState::Intact)
    }

    /// The whole shaping as a document.
    pub(crate) fn whole(&self) -> Whole {
        Whole::of(
            self.interfaces.iter().map(|view| {
                (view.direction, &view.shaping.policy, view.remaining_ms.map(Duration::from_millis))
            }),
        )
    }

    /// Returns the remaining time until the first deadline, in seconds begun.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let first = self.interfaces.iter().filter_map(|view| view.remaining_ms).min()?;
        Some(Duration::from_secs(first.div_ceil(1000)))
    }

    /// Sums over all interfaces and directions.
    pub(crate) fn totals(&self) -> Totals {
        Totals::of(&self.interfaces)
    }
}

impl Totals {
    /// Sums over `interfaces`; at most the greatest number there is, as maps may contain anything.
    pub(crate) fn of(interfaces: &[InterfaceView]) -> Self {
        let sum = |counts: &dyn Fn(&InterfaceView) -> u64| {
            interfaces.iter().map(counts).fold(0, u64::saturating_add)
        };
        let packets = |view: &InterfaceView, outcome| view.outcomes.of(outcome).packets;
        Self {
            passed: sum(&|view| {
                let sent = packets(view, "passed").saturating_add(packets(view, "delayed"));
                sent.saturating_sub(view.queue.dropped)
            }),
            delayed: sum(&|view| packets(view, "delayed")),
            dropped: sum(&|view| {
                let by_policy = packets(view, "lost").saturating_add(packets(view, "overflowed"));
                by_policy.saturating_add(view.queue.dropped)
            }),
        }
    }
}

/// Where to look at a container's shaping with the kernel's own tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inspection {
    /// The container and its shaping.
    #[serde(flatten)]
    pub(crate) view: ContainerView,
    /// Each shaped interface in each direction, in the order of `view.interfaces`.
    pub(crate) details: Vec<InterfaceInspection>,
}

/// Where one shaping can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfaceInspection {
    /// The container's name for the interface.
    pub(crate) interface: String,
    /// The direction.
    pub(crate) direction: Direction,
    /// The device that carries it: the interface, the host's end of it, or one of ours in the container.
    pub(crate) device: String,
    /// The index in its network namespace.
    pub(crate) ifindex: u32,
    /// A file that leads to the namespace that the device is in, for `nsenter --net=`; none if it is the host's.
    pub(crate) netns_path: Option<PathBuf>,
    /// The directory with the pinned program and maps.
    pub(crate) pin_path: PathBuf,
    /// The hook that its program is on.
    pub(crate) hook: Hook,
    /// The program's id.
    pub(crate) program_id: u32,
    /// The device's root qdisc, as kind and handle.
    pub(crate) root_qdisc: String,
    /// Commands that show all this.
    pub(crate) commands: Vec<String>,
}
