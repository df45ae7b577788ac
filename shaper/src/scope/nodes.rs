//! Turns what the daemon knows into the nodes of a report.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{
    buttons::Buttons,
    controls::NODE_SUFFIX,
    networks::Networks,
    recent::Recent,
    report::{ById, ControlState, Latest, Metric, MetricSample, Node, Timestamp},
    rows,
    templates::{DROPPED, PASSED},
};
use crate::shaping::{ContainerState, ContainerView, RuntimeName, Sample};

/// The number of seconds of rates in a report. The app draws those of all reports of the last 15 s, as it does for
/// Docker's reporter, which only reports each sample once; some more, so that a report may fail.
const SAMPLES: usize = 5;

/// Containers' nodes, each made when it is written: those of a thousand would fill megabytes.
pub(super) struct Nodes<'a> {
    /// In the order of ids, and each once.
    pub(super) views: Vec<&'a ContainerView>,
    pub(super) buttons: Buttons,
    pub(super) networks: &'a Networks,
    pub(super) probe_id: &'a str,
    pub(super) now: SystemTime,
    pub(super) recent: RefCell<&'a mut Recent>,
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (now, mut dates) = (Timestamp::from(self.now), Dates::default());
        serializer.collect_map(self.views.iter().map(|view| self.node(view, now, &mut dates)))
    }
}

impl Nodes<'_> {
    /// A container's node, and its id.
    fn node(&self, view: &ContainerView, now: Timestamp, dates: &mut Dates) -> (String, Node) {
        let passing = rows::passing(view, self.networks);
        let mut metrics = metrics(view, dates);
        let present = passing.keys().cloned().chain(metrics.keys().map(|&id| id.into()));
        let gone = self.recent.borrow_mut().gone(view.container.id.as_str(), present, self.now);
        let mut latest = rows::fixed(view);
        latest.extend(passing);
        for key in gone {
            match [PASSED, DROPPED].into_iter().find(|&id| id == key) {
                Some(id) => drop(metrics.insert(id, Metric::nothing(now))),
                None => drop(latest.insert(key, rows::NOT_SET.to_owned())),
            }
        }
        latest.extend(identity(view, self.probe_id).into_iter().map(|(key, value)| (key.into(), value)));
        let node = Node {
            latest_controls: latest_controls(view, self.buttons, now),
            latest: latest.into_iter().map(|(key, value)| (key, Latest { timestamp: now, value })).collect(),
            metrics,
        };
        (format!("{}{NODE_SUFFIX}", view.container.id), node)
    }
}

/// The times at which rates were taken: of all containers at once, so that they are the same few.
#[derive(Default)]
struct Dates(BTreeMap<u64, Timestamp>);

impl Dates {
    fn of(&mut self, sample: &Sample) -> Timestamp {
        let at = || SystemTime::UNIX_EPOCH + Duration::from_millis(sample.at_ms);
        *self.0.entry(sample.at_ms).or_insert_with(|| at().into())
    }
}

/// Our buttons, and Docker's: Scope keeps the newest list of a node's buttons only, so that Docker's would vanish from
/// each container that we list ours on.
fn latest_controls(view: &ContainerView, buttons: Buttons, now: Timestamp) -> ById<Latest<ControlState>> {
    let ours = ControlState { dead: view.container.state != ContainerState::Running };
    let docker = docker_controls(view).iter().map(|&id| (id, ControlState { dead: false }));
    buttons
        .iter()
        .map(|button| (button.id, ours))
        .chain(docker)
        .map(|(id, value)| (id, Latest { timestamp: now, value }))
        .collect()
}

/// The buttons that Scope's Docker reporter has on a container (`probe/docker/container.go`).
pub(super) fn docker_controls(view: &ContainerView) -> &'static [&'static str] {
    match (view.container.runtime, view.container.state) {
        (RuntimeName::Docker | RuntimeName::Podman, ContainerState::Running) => &[
            "docker_attach_container",
            "docker_exec_container",
            "docker_restart_container",
            "docker_pause_container",
            "docker_stop_container",
        ],
        (RuntimeName::Docker | RuntimeName::Podman, ContainerState::Paused) => &["docker_unpause_container"],
        (RuntimeName::Docker | RuntimeName::Podman, ContainerState::Stopped) => {
            &["docker_start_container", "docker_remove_container"]
        }
        (RuntimeName::Containerd | RuntimeName::CriO | RuntimeName::Netns | RuntimeName::Process, _) => &[],
    }
}

/// Returns the entries that make a node of what no other reporter knows: without `control_probe_id`, the app shows no
/// buttons. Docker's containers have all this from Scope's Docker reporter, and their label would flap between its and
/// ours.
fn identity(view: &ContainerView, probe_id: &str) -> Vec<(&'static str, String)> {
    if !matches!(view.container.runtime, RuntimeName::Netns | RuntimeName::Process) {
        return Vec::new();
    }
    let entries = [
        ("control_probe_id", probe_id),
        ("docker_container_name", &view.container.name),
        ("docker_container_state", "running"),
    ];
    entries.map(|(key, value)| (key, value.to_owned())).to_vec()
}

/// Rates, of containers that are shaped.
fn metrics(view: &ContainerView, dates: &mut Dates) -> ById<Metric> {
    let samples = &view.samples[view.samples.len().saturating_sub(SAMPLES)..];
    if view.interfaces.is_empty() || samples.is_empty() {
        return ById::new();
    }
    let dates: Vec<_> = samples.iter().map(|sample| dates.of(sample)).collect();
    ById::from([
        (PASSED, metric(samples, &dates, |sample| sample.passed)),
        (DROPPED, metric(samples, &dates, |sample| sample.dropped)),
    ])
}

fn metric(samples: &[Sample], dates: &[Timestamp], rate: impl Fn(&Sample) -> f64) -> Metric {
    Metric {
        samples: samples
            .iter()
            .zip(dates)
            .map(|(sample, &date)| MetricSample { date, value: rate(sample) })
            .collect(),
        min: 0.0,
        max: samples.iter().map(rate).fold(0.0, f64::max),
    }
}
