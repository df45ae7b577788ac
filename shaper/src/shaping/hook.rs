//! The hook of a device that a program is attached to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A hook at a device's egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hook {
    /// TCX, from Linux 6.6 on: no packet is lost while a program is attached.
    Tcx,
    /// A classifier under clsact, on any kernel; adding clsact may lose packets that are on their way.
    Clsact,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}
