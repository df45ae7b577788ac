//! A stand-in for Scope's probe, for tests and for the demo.
//!
//! It asks as the probe asks (`probe/plugins/registry.go`, 2023-06): the same bytes, the same half second, one request
//! at a time, and Docker's reporter beside it. What would make the probe drop the plugin, or the app crash or show less than was meant, is an error here.

mod report;
mod round;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::http;

pub use report::{Latest, Metric, MetricSample, Node, NodeView, Plugin, Report, Topology};
pub use round::{ButtonLists, DockerReporter};

/// The time that the probe waits for any answer.
pub const TIMEOUT: Duration = Duration::from_millis(500);
/// The longest answer that it reads.
const MAX_ANSWER: usize = 50 * 1024 * 1024;
const API_VERSION: &str = "1";
/// An app's id, as the real one makes them.
const APP_ID: &str = "3559000000000000";

/// Speaks to the plugin on one socket.
#[derive(Debug)]
pub struct Probe {
    socket: PathBuf,
    probe_id: String,
    /// The probe never asks for a report while a control is under way, nor the other way round.
    turn: Mutex<()>,
}

/// The outcome of a control.
#[derive(Debug)]
pub struct ControlAnswer {
    /// The error that Scope shows beside the buttons; none on success.
    pub error: Option<String>,
    /// The report that Scope shows at once.
    pub shortcut_report: Option<Report>,
}

impl Probe {
    /// A probe that knows of the plugin on `socket` and calls itself `probe_id`, a hexadecimal number.
    pub fn new(socket: impl Into<PathBuf>, probe_id: impl Into<String>) -> Self {
        Self { socket: socket.into(), probe_id: probe_id.into(), turn: Mutex::new(()) }
    }

    /// Asks for a report and checks it.
    ///
    /// # Errors
    ///
    /// When the answer takes more than [`TIMEOUT`], has another status than 200, is longer than 50 MB, or is no report
    /// that Scope shows as it was meant.
    pub fn report(&self) -> Result<Report> {
        let request = format!("GET {} HTTP/1.1\r\n{HEADERS}\r\n", self.target("/report"));
        let body = self.exchange(request.as_bytes()).context("ask for a report")?;
        Report::parse(&body, &self.plugin_id()?)
    }

    /// Presses a button of a node (`<full container id>;<container>`).
    ///
    /// # Errors
    ///
    /// As [`Self::report`]. A control that the plugin refused is no error: see [`ControlAnswer::error`].
    pub fn press(&self, node_id: &str, control: &str) -> Result<ControlAnswer> {
        let body = control_body(node_id, control)?;
        let request = format!(
            "POST {} HTTP/1.1\r\n{HEADERS}Content-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
            self.target("/control"),
            body.len(),
        );
        let attempt = || format!("press {control} on {node_id}");
        let answer = self.exchange(request.as_bytes()).with_context(attempt)?;
        self.control_answer(&answer).with_context(attempt)
    }

    fn control_answer(&self, body: &[u8]) -> Result<ControlAnswer> {
        // `ShortcutReport`, as Scope's documents spell it, is ignored by the probe: here it is an error.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Answer {
            error: Option<String>,
            shortcut_report: Option<serde_json::Value>,
        }
        let answer: Answer = serde_json::from_slice(body).context("the answer is no control's")?;
        let plugin_id = self.plugin_id()?;
        let parse = |report: serde_json::Value| Report::parse(report.to_string().as_bytes(), &plugin_id);
        Ok(ControlAnswer {
            error: answer.error,
            shortcut_report: answer.shortcut_report.map(parse).transpose().context("its shortcut report")?,
        })
    }

    fn target(&self, path: &str) -> String {
        format!("{path}?api_version={API_VERSION}&probe_id={}", self.probe_id)
    }

    /// The socket's file name without its extension.
    fn plugin_id(&self) -> Result<String> {
        let stem = self.socket.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !report::is_plugin_id(&stem) {
            bail!("{}: {stem:?} cannot be a plugin's id", self.socket.display());
        }
        Ok(stem)
    }

    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = http::exchange(&self.socket, request, TIMEOUT, MAX_ANSWER)?;
        if answer.status != 200 {
            bail!("status {} instead of 200: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer.body)
    }
}

/// The path of the plugin socket under a directory that a probe scans, as the daemon's default has it.
pub fn socket_under(plugins: &Path) -> PathBuf {
    plugins.join("traffic-control/traffic-control.sock")
}

/// The headers that Go's HTTP client sends.
const HEADERS: &str = "Host: plugin\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n";

/// The request as Go's encoder writes it, with `<`, `>` and `&` escaped.
fn control_body(node_id: &str, control: &str) -> Result<String> {
    let string = |text: &str| serde_json::to_string(text).context("encode the request");
    let (control, node_id) = (string(control)?, string(node_id)?);
    let body = format!(r#"{{"AppID":"{APP_ID}","Control":{control},"ControlArgs":null,"NodeID":{node_id}}}"#);
    Ok(body.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

#[cfg(test)]
mod tests;
