//! Looks for what keeps a host from being shaped, and says what to do about it.
//!
//! [`Facts::look`] looks, [`Facts::judge`] judges, and is pure. Neither changes the host, though the kernel may load modules.

mod judgement;
mod looking;

use std::path::PathBuf;

use serde::Serialize;

use crate::{datapath::Foreign, shaping::Status};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It is as it should be.
    Ok,
    /// Something does not work, or is not known.
    Warning,
    /// Nothing can be shaped.
    Problem,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// The thing that was looked at, in a word or two.
    pub(crate) check: &'static str,
    /// The severity.
    pub(crate) level: Level,
    /// The state of the thing.
    pub(crate) finding: String,
    /// The remedy; none if all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// A fact, or the reason why it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact<T> {
    Known(T),
    Unknown(String),
}

/// The answer of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It told its status.
    Status(Box<Status>),
    /// It did not, for this reason.
    None(String),
}

/// The places to look at.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The daemon's socket.
    pub(crate) socket: PathBuf,
    /// The directory of its pins.
    pub(crate) pin_dir: PathBuf,
}

/// A file's owner and permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    uid: u32,
    mode: u32,
}

/// The process of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    /// The effective capabilities, a bit each.
    capabilities: u64,
    /// The label of a security module, such as `docker-default (enforce)`; empty without one.
    label: String,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The kernel's release.
    release: String,
    has_tcx: Fact<bool>,
    has_clsact: Fact<bool>,
    has_fq: Fact<bool>,
    has_btf: bool,
    /// The value of `net.core.bpf_jit_enable`.
    jit: Fact<u8>,
    /// The nearest directory of the pins that exists.
    pins: PathBuf,
    /// The mode of the bpffs; none if it is none.
    bpffs: Option<Access>,
    /// The effective capabilities of this process.
    capabilities: u64,
    socket: Option<Access>,
    daemon: Answer,
    process: Option<Process>,
    is_selinux_enforcing: bool,
    foreign: Fact<Vec<Foreign>>,
}
