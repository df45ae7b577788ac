//! Turns what the daemon knows into a report.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{
    API_VERSION,
    controls::{Button, Buttons, NODE_SUFFIX},
    report::{
        ById, Control, ControlState, Latest, MetadataTemplate, Metric, MetricSample, MetricTemplate, Node,
        Plugin, Report, Rows, TableTemplate, Timestamp, Topology,
    },
};
use crate::shaping::{
    ContainerState, ContainerView, Counts, Direction, InterfaceView, Policy, RuntimeName, Sample,
};

/// Must be the stem of the plugin socket's file name.
const PLUGIN_ID: &str = "traffic-control";
const TABLE: &str = "traffic-control-table";
/// The metadata keys must not begin with it, or they would be rows of the table.
const ROW_PREFIX: &str = "traffic-control-table-";

/// The key of a row of the table.
macro_rules! row {
    ($name:literal) => {
        concat!("traffic-control-table-", $name)
    };
}

const LATENCY: &str = "traffic-control-latency";
const LOSS: &str = "traffic-control-pktloss";
const PASSED: &str = "traffic_control_passed";
const DROPPED: &str = "traffic_control_dropped";
const NOT_SET: &str = "-";
/// A plan may have more targets than anybody reads in a table.
const MAX_TARGET_ROWS: usize = 32;

/// What the probe `probe_id` is told at `now`.
pub(super) fn report(views: &[ContainerView], buttons: Buttons, probe_id: &str, now: SystemTime) -> Report {
    let now = Timestamp::from(now);
    let mut dates = Dates::default();
    Report {
        container: Topology {
            nodes: views.iter().map(|view| node(view, buttons, probe_id, now, &mut dates)).collect(),
            controls: controls(buttons),
            metadata_templates: metadata_templates(),
            metric_templates: metric_templates(),
            table_templates: table_templates(),
        },
        plugins: [Plugin {
            id: PLUGIN_ID,
            label: "Traffic control",
            description: "Adds latency and packet loss to the network of running containers",
            interfaces: ["reporter", "controller"],
            api_version: API_VERSION,
        }],
    }
}

/// The times at which rates were taken: of all containers at once, so that they are the same few.
#[derive(Default)]
pub(super) struct Dates(BTreeMap<u64, Timestamp>);

impl Dates {
    fn of(&mut self, sample: &Sample) -> Timestamp {
        let at = || SystemTime::UNIX_EPOCH + Duration::from_millis(sample.at_ms);
        *self.0.entry(sample.at_ms).or_insert_with(|| at().into())
    }
}

/// A container's node, and its id.
pub(super) fn node(
    view: &ContainerView,
    buttons: Buttons,
    probe_id: &str,
    now: Timestamp,
    dates: &mut Dates,
) -> (String, Node) {
    let identity = identity(view, probe_id).into_iter().map(|(key, value)| (key.into(), value));
    let latest = rows(view).into_iter().chain(identity);
    let node = Node {
        latest_controls: latest_controls(view, buttons, now),
        latest: latest.map(|(key, value)| (key, Latest { timestamp: now, value })).collect(),
        metrics: metrics(view, dates),
    };
    (format!("{}{NODE_SUFFIX}", view.container.id), node)
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
fn docker_controls(view: &ContainerView) -> &'static [&'static str] {
    match (view.container.runtime, view.container.state) {
        (RuntimeName::Docker, ContainerState::Running) => &[
            "docker_attach_container",
            "docker_exec_container",
            "docker_restart_container",
            "docker_pause_container",
            "docker_stop_container",
        ],
        (RuntimeName::Docker, ContainerState::Paused) => &["docker_unpause_container"],
        (RuntimeName::Docker, ContainerState::Stopped) => {
            &["docker_start_container", "docker_remove_container"]
        }
        (RuntimeName::Netns, _) => &[],
    }
}

/// Rows of the table and lines of metadata.
///
/// Latency and loss are always there: the app merges the reports of the last 15 s and keeps the newest value of each key,
/// so that a row we leave out lingers while one that says `-` is replaced at once. Counts and the remaining time are left
/// out all the same when nothing is shaped: they go a few seconds late, but do not clutter every container.
///
/// Whatever there is beside latency and loss is in a row of its own, in netem's words; so is each target.
fn rows(view: &ContainerView) -> Rows<String> {
    let latency = both_ways(view, |policy| policy.latency().map(|latency| latency.to_string()));
    let loss = both_ways(view, |policy| policy.loss().map(|loss| loss.to_string()));
    let fixed = [
        (row!("latency"), latency.clone()),
        (row!("pktloss"), loss.clone()),
        (LATENCY, latency),
        (LOSS, loss),
    ];
    let mut rows: Rows<String> = fixed.map(|(row, text)| (row.into(), text)).into();
    if !view.interfaces.is_empty() {
        rows.extend(counts(view).map(|(row, count)| (row.into(), count.to_string())));
    }
    rows.extend(plan_rows(view));
    if let Some(remaining) = view.remaining() {
        rows.insert(row!("remaining").into(), humantime::format_duration(remaining).to_string());
    }
    rows
}

/// Counts of packets; those of rare effects if there are any.
fn counts(view: &ContainerView) -> impl Iterator<Item = (&'static str, u64)> {
    let totals = view.totals();
    let sum =
        |counts: fn(&InterfaceView) -> Counts| view.interfaces.iter().map(|view| counts(view).packets).sum();
    let always = [
        (row!("packets"), totals.passed),
        (row!("delayed"), totals.delayed),
        (row!("dropped"), totals.dropped),
    ];
    let rare: [(&str, u64); 5] = [
        (row!("duplicated"), sum(|view| view.duplicated)),
        (row!("corrupted"), sum(|view| view.corrupted)),
        (row!("reordered"), sum(|view| view.reordered)),
        (row!("marked"), sum(|view| view.marked)),
        (row!("overflowed"), sum(|view| view.overflowed)),
    ];
    always.into_iter().chain(rare.into_iter().filter(|(_, count)| *count > 0))
}

/// All effects in netem's words where latency and loss are not all, and those of targets.
fn plan_rows(view: &ContainerView) -> Vec<(Cow<'static, str>, String)> {
    let policies = || [Direction::Egress, Direction::Ingress].into_iter().filter_map(|way| view.policy(way));
    let mut rows = Vec::new();
    if policies().any(|policy| !policy.is_simple()) {
        let words = both_ways(view, |policy| Some(policy.words()).filter(|words| !words.is_empty()));
        rows.push((row!("netem").into(), words));
    }
    let selectors = policies().flat_map(|policy| policy.targets().map(|(selector, _)| selector));
    for selector in selectors.take(MAX_TARGET_ROWS).collect::<BTreeSet<_>>() {
        let words = both_ways(view, |policy| {
            policy.targets().find(|(other, _)| *other == selector).map(|(_, words)| words)
        });
        rows.push((format!("{ROW_PREFIX}to {selector}").into(), words));
    }
    rows
}

/// `500ms` for what is sent only, as the old plugin knew nothing else; else both ways by name. A shaping that is broken
/// says so in place of what was set.
fn both_ways(view: &ContainerView, setting: impl Fn(&Policy) -> Option<String>) -> String {
    let fault = |way| view.fault(way).map(ToString::to_string);
    let [out, back] = [Direction::Egress, Direction::Ingress]
        .map(|way| fault(way).or_else(|| view.policy(way).and_then(&setting)));
    match (out, back) {
        (None, None) => NOT_SET.to_owned(),
        (Some(out), None) => out,
        (None, Some(back)) => format!("{back} in"),
        (Some(out), Some(back)) if out == back => format!("{out} each way"),
        (Some(out), Some(back)) => format!("{out} out, {back} in"),
    }
}

/// What makes a node of what no other reporter knows: without `control_probe_id`, the app shows no buttons. Docker's
/// containers have all this from Scope's Docker reporter, and their label would flap between its and ours.
fn identity(view: &ContainerView, probe_id: &str) -> Vec<(&'static str, String)> {
    if view.container.runtime == RuntimeName::Docker {
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
    if view.interfaces.is_empty() || view.samples.is_empty() {
        return ById::new();
    }
    let dates: Vec<_> = view.samples.iter().map(|sample| dates.of(sample)).collect();
    ById::from([
        (PASSED, metric(&view.samples, &dates, |sample| sample.passed)),
        (DROPPED, metric(&view.samples, &dates, |sample| sample.dropped)),
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

fn controls(buttons: Buttons) -> ById<Control> {
    let control = |button: &Button| Control {
        id: button.id,
        human: button.human,
        icon: button.icon,
        rank: button.rank,
    };
    buttons.iter().map(|button| (button.id, control(button))).collect()
}

fn metadata_templates() -> ById<MetadataTemplate> {
    [(LATENCY, "Latency", 13.5), (LOSS, "Packet Loss", 13.6)]
        .map(|(id, label, priority)| {
            (id, MetadataTemplate { id, label, priority, from: "latest", data_type: "" })
        })
        .into()
}

/// After Docker's two, CPU and memory: the first three have sparklines.
fn metric_templates() -> ById<MetricTemplate> {
    [(DROPPED, "Dropped packets/s", 3.0), (PASSED, "Passed packets/s", 4.0)]
        .map(|(id, label, priority)| (id, MetricTemplate { id, label, format: "", priority }))
        .into()
}

fn table_templates() -> ById<TableTemplate> {
    let table =
        TableTemplate { id: TABLE, label: "Traffic Control", kind: "property-list", prefix: ROW_PREFIX };
    ById::from([(TABLE, table)])
}
