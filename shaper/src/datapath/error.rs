//! Errors of the kernel and of aya, explained.

use std::{error::Error, io, iter};

use nix::libc::{ENODEV, EPERM};

use crate::{
    network::NetlinkError,
    shaping::{Attempt, Failure, ShapingError, with_causes},
};

pub(super) fn gone() -> ShapingError {
    Failure::Gone("network namespace").into()
}

/// Says what the kernel's refusal means.
pub(super) fn explain(error: &NetlinkError) -> ShapingError {
    let advice = match error.errno() {
        Some(EPERM) => Some("no permission: run the daemon as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"),
        Some(ENODEV) => Some("the interface has gone"),
        _ => None,
    };
    Failure::Netlink { cause: error.to_string(), advice }.into()
}

/// Says what a failed setns(2) means.
pub(super) fn cannot_enter(error: io::Error) -> ShapingError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::MayNotEnter.into(),
        io::ErrorKind::NotFound => gone(),
        _ => Attempt::EnterNetns.failed(error).into(),
    }
}

/// Why an instance cannot be opened.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) text: String,
    /// True if it never can be: a pin is missing, or another version made it. A lack of descriptors, memory or
    /// permission may end.
    pub(super) is_unusable: bool,
}

impl OpenError {
    pub(super) fn new(attempt: &str, error: &(dyn Error + 'static)) -> Self {
        let mut causes = iter::successors(Some(error), |cause| (*cause).source());
        let refused = causes.find_map(|cause| cause.downcast_ref::<io::Error>());
        let is_missing = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        Self {
            text: format!("{attempt}: {}", with_causes(error)),
            is_unusable: refused.is_none_or(|error| is_missing(error.kind())),
        }
    }
}

/// Makes nothing of what can never be opened; what cannot be opened now is an error still.
pub(super) fn none_if_unusable<T>(opened: Result<T, OpenError>) -> Result<Option<T>, OpenError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.is_unusable => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<ShapingError> for OpenError {
    fn from(error: ShapingError) -> Self {
        Self { text: error.to_string(), is_unusable: false }
    }
}

impl From<OpenError> for ShapingError {
    fn from(error: OpenError) -> Self {
        Failure::Unopened { reason: error.text }.into()
    }
}
