//! A report as it is on the wire (Scope's `report/` and `probe/plugins/registry.go`, 2023-06).

use std::{borrow::Cow, collections::BTreeMap, io::Write as _, time::SystemTime};

use serde::{Serialize, Serializer, ser::Error as _};

/// A map by id, in the order of ids so that equal reports are equal bytes.
pub(super) type ById<T> = BTreeMap<&'static str, T>;
/// The same with ids that name something of a container's own.
pub(super) type Rows<T> = BTreeMap<Cow<'static, str>, T>;

/// All there is to show.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Report<N> {
    pub(super) container: Topology<N>,
    /// Ourselves: Scope refuses a report with any other number of plugins.
    pub(super) plugins: [Plugin; 1],
}

/// Containers, and how to show what is said of them.
#[derive(Serialize)]
pub(super) struct Topology<N> {
    /// By `<full container id>;<container>`.
    pub(super) nodes: N,
    pub(super) controls: ById<Control>,
    pub(super) metadata_templates: ById<MetadataTemplate>,
    pub(super) metric_templates: ById<MetricTemplate>,
    pub(super) table_templates: ById<TableTemplate>,
}

/// The node of one container; Scope merges it into what other reporters say of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) latest_controls: ById<Latest<ControlState>>,
    pub(super) latest: Rows<Latest<String>>,
    #[serde(skip_serializing_if = "ById::is_empty")]
    pub(super) metrics: ById<Metric>,
}

/// A value and since when it is one; the newest wins.
#[derive(Debug, Serialize)]
pub(super) struct Latest<T> {
    pub(super) timestamp: Timestamp,
    pub(super) value: T,
}

/// The state of a button: hidden or not.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ControlState {
    pub(super) dead: bool,
}

/// A button.
#[derive(Debug, Serialize)]
pub(super) struct Control {
    pub(super) id: &'static str,
    pub(super) human: &'static str,
    /// A class of Font Awesome.
    pub(super) icon: &'static str,
    /// The place among the buttons.
    pub(super) rank: u32,
}

/// A line of the details panel, and a column of the table of containers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetadataTemplate {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    /// From 10 on it is collapsed.
    pub(super) priority: f64,
    pub(super) from: &'static str,
    pub(super) data_type: &'static str,
}

/// A sparkline.
#[derive(Debug, Serialize)]
pub(super) struct MetricTemplate {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    pub(super) format: &'static str,
    pub(super) priority: f64,
}

/// A table, whose rows are the entries of `latest` that begin with `prefix`.
#[derive(Debug, Serialize)]
pub(super) struct TableTemplate {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) prefix: &'static str,
}

/// A metric's history, oldest first.
#[derive(Debug, Serialize)]
pub(super) struct Metric {
    pub(super) samples: Vec<MetricSample>,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Metric {
    /// Nothing at `date`, after what was before it.
    pub(super) fn nothing(date: Timestamp) -> Self {
        Self { samples: vec![MetricSample { date, value: 0.0 }], min: 0.0, max: 0.0 }
    }
}

/// A metric's value at a time.
#[derive(Debug, Serialize)]
pub(super) struct MetricSample {
    pub(super) date: Timestamp,
    pub(super) value: f64,
}

/// Who reports.
#[derive(Debug, Serialize)]
pub(super) struct Plugin {
    /// Must be the socket's file name without its extension.
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    pub(super) description: String,
    pub(super) interfaces: [&'static str; 2],
    pub(super) api_version: &'static str,
}

/// A time as RFC 3339 has it, to the millisecond. Reports have the same few times in many places, so it is written out
/// once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamp([u8; Self::LENGTH]);

impl Timestamp {
    const LENGTH: usize = "2006-01-02T15:04:05.000Z".len();
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let mut text = Self([b' '; Self::LENGTH]);
        // It fits until the year 10000.
        let _ = write!(&mut text.0[..], "{}", humantime::format_rfc3339_millis(time));
        text
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.0).map_err(S::Error::custom)?)
    }
}
