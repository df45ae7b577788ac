//! The abilities of the kernel that shaping needs, found out by trying, and the programs of others.

use std::io;

use super::{
    device::Device,
    error::{cannot_enter, explain},
    hook::{Attached, LOOPBACK},
    site::Site,
    tcx,
};
use crate::{
    network::{Link, Netns, Side, Socket, add_clsact, links},
    shaping::ShapingError,
};

/// A program or a classifier of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// The device that it is on.
    pub(crate) device: String,
    /// The program, in words.
    pub(crate) program: String,
}

/// Tells whether the kernel has TCX.
///
/// # Errors
///
/// Without permission.
pub(crate) fn has_tcx() -> io::Result<bool> {
    Ok(tcx::programs(LOOPBACK, Side::Egress)?.is_some())
}

/// Tells whether the kernel has clsact; loads its module, if it is one.
///
/// # Errors
///
/// Without permission.
pub(crate) fn has_clsact() -> Result<bool, ShapingError> {
    let add = || add_clsact(&Socket::open()?, LOOPBACK);
    match Netns::in_new(add).map_err(cannot_enter)? {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(nix::libc::ENOENT) => Ok(false),
        Err(error) => Err(explain(&error)),
    }
}

/// Returns the programs of others on the devices of this process's namespace that lead to containers: ends of veths and
/// netkits.
///
/// # Errors
///
/// Without permission.
pub(crate) fn foreign() -> Result<Vec<Foreign>, ShapingError> {
    let look = || {
        let socket = Socket::open()?;
        let mut found = Vec::new();
        for link in links(&socket)?.iter().filter(|link| link.is_end_of_pair()) {
            for site in [Site::HostEnd, Site::Ingress] {
                let device = Device::of(site, link);
                let others = Attached::on(&socket, &device)?;
                let others = others.iter().filter(|one| !one.is_named_as_ours(&device));
                found.extend(others.map(|one| foreign_on(link, &one.describe(&device))));
            }
        }
        Ok(found)
    };
    look().map_err(|error| explain(&error))
}

fn foreign_on(link: &Link, program: &str) -> Foreign {
    Foreign { device: link.name.clone(), program: program.to_owned() }
}
