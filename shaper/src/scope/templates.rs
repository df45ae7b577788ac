//! The parts of a report that do not depend on containers.
//!
//! All but the plugin's description never change while the daemon runs: the probe sends them on with every third report only, as it takes them for
//! static (`UnsafeUnMerge` in Scope's `report/topology.go`), and the app keeps the highest priority that a line had.

use super::{
    API_VERSION,
    buttons::{Button, Buttons},
    report::{ById, Control, MetadataTemplate, MetricTemplate, Plugin, TableTemplate},
    rows::{COUNT_PREFIX, LATENCY, LOSS, ROW_PREFIX, SUMMARY},
};
use crate::shaping::Problem;

/// Must be the stem of the plugin socket's file name.
const PLUGIN_ID: &str = "traffic-control";
const WORKS: &str = "Degrades the network of running containers: delay, loss, rate and netem's other effects, in both \
                     directions, by target and by time";
/// Passed packets per second.
pub(super) const PASSED: &str = "traffic_control_passed";
/// Dropped packets per second.
pub(super) const DROPPED: &str = "traffic_control_dropped";

/// The plugin, as it is in Scope's list; a `problem` with all shaping is said there.
pub(super) fn plugin(problem: Option<&Problem>) -> Plugin {
    let description = match problem {
        None => WORKS.to_owned(),
        Some(Problem { reason, since }) => {
            let since = humantime::format_rfc3339_seconds(*since);
            format!("Nothing can be shaped since {since}: {reason}")
        }
    };
    Plugin {
        id: PLUGIN_ID,
        label: "Traffic control",
        description,
        interfaces: ["reporter", "controller"],
        api_version: API_VERSION,
    }
}

pub(super) fn controls(buttons: Buttons) -> ById<Control> {
    let control = |button: &Button| Control {
        id: button.id,
        human: button.human,
        icon: button.icon,
        rank: button.rank,
    };
    buttons.iter().map(|button| (button.id, control(button))).collect()
}

/// Scope shows lines from priority 10 on only to those who ask for more. The summary, which only shaped containers have, is
/// above Docker's lines, so that the effect of a click is seen where the click was.
pub(super) fn metadata() -> ById<MetadataTemplate> {
    [(SUMMARY, "Traffic control", 0.5), (LATENCY, "Latency", 13.5), (LOSS, "Packet Loss", 13.6)]
        .map(|(id, label, priority)| {
            (id, MetadataTemplate { id, label, priority, from: "latest", data_type: "" })
        })
        .into()
}

/// After Docker's two, CPU and memory: the first three have sparklines.
pub(super) fn metrics() -> ById<MetricTemplate> {
    [(DROPPED, "Dropped packets/s", 3.0), (PASSED, "Passed packets/s", 4.0)]
        .map(|(id, label, priority)| (id, MetricTemplate { id, label, format: "", priority }))
        .into()
}

/// Scope shows five rows of a table, sorted by their names: counts have a table of their own, so as not to take the place
/// of what is set. Tables are sorted by their ids.
pub(super) fn tables() -> ById<TableTemplate> {
    [
        ("traffic-control-table", "Traffic Control", ROW_PREFIX),
        ("traffic-control-table-counts", "Traffic Control: packets", COUNT_PREFIX),
    ]
    .map(|(id, label, prefix)| (id, TableTemplate { id, label, kind: "property-list", prefix }))
    .into()
}
