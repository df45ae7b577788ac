//! A report, read and checked.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The end of the id of every node of a container.
pub(super) const NODE_SUFFIX: &str = ";<container>";

/// All that a plugin reports. Scope ignores fields that it does not know; here they are errors, as nobody would see them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Report {
    /// Containers and what is shown of them.
    pub container: Topology,
    /// Who reports: one.
    pub plugins: Vec<Plugin>,
}

/// Nodes, and how they are shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// By node id.
    pub nodes: BTreeMap<String, Node>,
    /// Buttons by id.
    #[serde(default)]
    pub controls: BTreeMap<String, Control>,
    #[serde(default)]
    metadata_templates: BTreeMap<String, MetadataTemplate>,
    #[serde(default)]
    metric_templates: BTreeMap<String, MetricTemplate>,
    #[serde(default)]
    table_templates: BTreeMap<String, TableTemplate>,
}

/// The node of one container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// The buttons.
    #[serde(default)]
    pub latest_controls: BTreeMap<String, Latest<ControlState>>,
    /// Values by key, rows of tables among them.
    #[serde(default)]
    pub latest: BTreeMap<String, Latest<String>>,
    /// Histories.
    #[serde(default)]
    pub metrics: BTreeMap<String, Metric>,
}

/// A value and its time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latest<T> {
    /// Since when it is so.
    #[serde(deserialize_with = "rfc3339")]
    pub timestamp: SystemTime,
    /// The value.
    pub value: T,
}

/// The state of a button: hidden or not.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlState {
    /// It is.
    pub dead: bool,
}

/// A button.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    id: String,
    /// The text that people read.
    pub human: String,
    /// The Font Awesome class.
    pub icon: String,
    /// The place among the buttons.
    pub rank: i64,
    /// The question before it is sent.
    pub confirmation: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetadataTemplate {
    id: String,
    label: String,
    #[serde(rename = "priority")]
    _priority: f64,
    from: String,
    #[serde(default)]
    data_type: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricTemplate {
    id: String,
    label: String,
    #[serde(default)]
    format: String,
    #[serde(rename = "priority")]
    _priority: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableTemplate {
    id: String,
    label: String,
    #[serde(rename = "type")]
    kind: String,
    prefix: String,
    #[serde(default)]
    columns: Vec<serde_json::Value>,
}

/// A history.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Oldest first.
    pub samples: Vec<MetricSample>,
    /// The sparkline's lower end.
    pub min: f64,
    /// The sparkline's upper end.
    pub max: f64,
}

/// A value at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSample {
    /// When.
    #[serde(deserialize_with = "rfc3339")]
    pub date: SystemTime,
    /// The rate.
    pub value: f64,
}

/// Who reports.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// The socket's file name without its extension.
    pub id: String,
    /// The text that people read.
    pub label: String,
    /// The effects.
    #[serde(default)]
    pub description: String,
    /// `reporter`, `controller`.
    pub interfaces: Vec<String>,
    /// Of the protocol.
    pub api_version: String,
}

/// Go's decoders take any RFC 3339; only the form in UTC, with `Z`, is taken here.
fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

/// Returns true if it matches `^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$`.
pub(super) fn is_plugin_id(id: &str) -> bool {
    id.split('-').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl Report {
    /// Reads a report of the plugin `plugin_id` and checks it.
    pub(super) fn parse(body: &[u8], plugin_id: &str) -> Result<Self> {
        let report: Self = serde_json::from_slice(body).context("the report cannot be decoded")?;
        report.check_plugin(plugin_id)?;
        report.container.check_templates()?;
        for (id, node) in &report.container.nodes {
            report.container.check_node(id, node).with_context(|| format!("node {id}"))?;
        }
        Ok(report)
    }

    /// The node of a container, by its full id.
    pub fn node(&self, container_id: &str) -> Option<NodeView<'_>> {
        let node = self.container.nodes.get(&format!("{container_id}{NODE_SUFFIX}"))?;
        Some(NodeView { topology: &self.container, node })
    }

    fn check_plugin(&self, plugin_id: &str) -> Result<()> {
        let [plugin] = &self.plugins[..] else {
            bail!("{} elements in Plugins instead of one", self.plugins.len());
        };
        ensure!(is_plugin_id(&plugin.id), "{:?} cannot be a plugin's id", plugin.id);
        ensure!(plugin.id == plugin_id, "the plugin calls itself {:?}, its socket {plugin_id:?}", plugin.id);
        ensure!(!plugin.label.is_empty(), "the plugin's label is empty");
        ensure!(
            plugin.api_version == super::API_VERSION,
            "the plugin speaks api_version {:?}",
            plugin.api_version
        );
        let reports = plugin.interfaces.iter().any(|interface| interface == "reporter");
        ensure!(reports, "the plugin is no reporter");
        for interface in &plugin.interfaces {
            let known = ["reporter", "controller"].contains(&interface.as_str());
            ensure!(known, "the plugin has an interface that Scope does not know: {interface:?}");
        }
        Ok(())
    }
}

impl Topology {
    fn check_templates(&self) -> Result<()> {
        for (key, Control { id, human, .. }) in &self.controls {
            ensure!(key == id && !human.is_empty(), "control {key}: its id is {id:?}, its text {human:?}");
        }
        for (key, MetadataTemplate { id, label, from, data_type, .. }) in &self.metadata_templates {
            ensure!(key == id && !label.is_empty(), "metadata {key}: its id is {id:?}, its label {label:?}");
            ensure!(["latest", "sets", "counters"].contains(&from.as_str()), "metadata {key}: from {from:?}");
            let known = ["", "number", "ip", "datetime", "duration", "link"].contains(&data_type.as_str());
            ensure!(known, "metadata {key}: data type {data_type:?}");
        }
        for (key, MetricTemplate { id, label, format, .. }) in &self.metric_templates {
            ensure!(key == id && !label.is_empty(), "metric {key}: its id is {id:?}, its label {label:?}");
            let known = ["", "percent", "filesize", "integer"].contains(&format.as_str());
            ensure!(known, "metric {key}: format {format:?}");
        }
        for (key, table) in &self.table_templates {
            self.check_table(key, table).with_context(|| format!("table {key}"))?;
        }
        Ok(())
    }

    fn check_table(&self, key: &str, table: &TableTemplate) -> Result<()> {
        let TableTemplate { id, label, kind, prefix, columns } = table;
        ensure!(key == id && !label.is_empty(), "its id is {id:?}, its label {label:?}");
        ensure!(!prefix.is_empty(), "its prefix is empty: everything would be a row of it");
        match kind.as_str() {
            "property-list" => {}
            "multicolumn-table" => ensure!(!columns.is_empty(), "it has no columns"),
            _ => bail!("its type is {kind:?}"),
        }
        for other in self.table_templates.values().filter(|other| other.id != *id) {
            ensure!(!other.prefix.starts_with(prefix.as_str()), "its prefix begins that of {}", other.id);
        }
        Ok(())
    }

    fn check_node(&self, id: &str, node: &Node) -> Result<()> {
        let container = id.strip_suffix(NODE_SUFFIX).unwrap_or_default();
        ensure!(!container.is_empty() && !container.contains(';'), "this is no container's id");
        for control in node.latest_controls.keys() {
            // Docker's are defined by Scope's own reporter.
            let known = self.controls.contains_key(control) || control.starts_with("docker_");
            ensure!(known, "control {control} is nowhere defined");
        }
        for table in self.table_templates.values().filter(|table| table.kind == "multicolumn-table") {
            for row in node.latest.keys().filter_map(|key| key.strip_prefix(table.prefix.as_str())) {
                ensure!(
                    row.contains("___"),
                    "row {row} of table {} names no column: the app crashes",
                    table.id
                );
            }
        }
        for (key, metric) in &node.metrics {
            ensure!(self.metric_templates.contains_key(key), "metric {key} is nowhere defined");
            ensure!(metric.min <= metric.max, "metric {key}: min is above max");
            let ordered = metric.samples.is_sorted_by(|old, new| old.date < new.date);
            ensure!(ordered, "metric {key}: its samples are not in the order of time");
        }
        Ok(())
    }
}

/// A node as people see it.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    topology: &'a Topology,
    node: &'a Node,
}

impl<'a> NodeView<'a> {
    /// The rows of all property lists, by their label.
    pub fn rows(&self) -> BTreeMap<&'a str, &'a str> {
        let lists = self.topology.table_templates.values().filter(|table| table.kind == "property-list");
        lists
            .flat_map(|table| {
                self.node.latest.iter().filter_map(|(key, latest)| {
                    Some((key.strip_prefix(table.prefix.as_str())?, latest.value.as_str()))
                })
            })
            .collect()
    }

    /// One row's value.
    pub fn row(&self, label: &str) -> Option<&'a str> {
        self.rows().get(label).copied()
    }

    /// Any value, by its whole key.
    pub fn latest(&self, key: &str) -> Option<&'a str> {
        self.node.latest.get(key).map(|latest| latest.value.as_str())
    }

    /// The ids of the buttons that are not hidden, in their order.
    pub fn controls(&self) -> Vec<&'a str> {
        let alive = self.node.latest_controls.iter().filter(|(_, state)| !state.value.dead);
        let mut ids: Vec<&str> = alive.map(|(id, _)| id.as_str()).collect();
        ids.sort_by_key(|&id| self.topology.controls.get(id).map(|control| control.rank));
        ids
    }

    /// A metric's history.
    pub fn metric(&self, id: &str) -> Option<&'a Metric> {
        self.node.metrics.get(id)
    }
}
