//! Programs on a device's TCX hooks (Linux 6.6), by system calls that aya does not offer.
//!
//! Each of ours is attached by a link (`struct tcx_link`), which is pinned: it goes where the device goes, and ends with the
//! device, with its last pin and descriptor, or when it is detached.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::libc::{self, EINVAL, ENODEV, ENOENT};

use crate::network::Side;

// `enum bpf_cmd` and `enum bpf_attach_type` (`include/uapi/linux/bpf.h`, Linux 6.6).
const OBJ_PIN: libc::c_int = 6;
const PROG_QUERY: libc::c_int = 16;
const LINK_UPDATE: libc::c_int = 29;
const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_DETACH: libc::c_int = 34;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

/// The most programs on one hook (`BPF_MPROG_MAX`).
const MAX_PROGRAMS: u8 = 64;

/// A program on the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcxProgram {
    /// The id.
    pub(super) id: u32,
    /// The id of the link that attaches it; 0 if none does.
    link_id: u32,
}

/// The part of `union bpf_attr` that asks for what is attached.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The part of `union bpf_attr` that pins.
#[repr(C)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Returns the programs on the hook of a side of a device of the calling thread's namespace, first things first; none where
/// the kernel has no TCX. A device that has gone has none.
///
/// # Errors
///
/// When the kernel does not say.
pub(super) fn programs(ifindex: u32, side: Side) -> io::Result<Option<Vec<TcxProgram>>> {
    let mut ids = [0_u32; MAX_PROGRAMS as usize];
    let mut link_ids = ids;
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: match side {
            Side::Egress => TCX_EGRESS,
            Side::Ingress => TCX_INGRESS,
        },
        prog_ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS.into(),
        link_ids: link_ids.as_mut_ptr() as u64,
        ..Query::default()
    };
    match bpf(PROG_QUERY, &mut query) {
        Ok(_) => {
            let programs = ids.into_iter().zip(link_ids).map(|(id, link_id)| TcxProgram { id, link_id });
            Ok(Some(programs.take(query.count as usize).collect()))
        }
        Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ENODEV)) => Ok(Some(Vec::new())),
        Err(error) if error.raw_os_error() == Some(EINVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

impl TcxProgram {
    /// Puts another program in its place: each packet is seen by one of the two.
    ///
    /// # Errors
    ///
    /// When it is not attached by a link, or the kernel refuses.
    pub(super) fn replace_with(self, program: BorrowedFd<'_>) -> io::Result<()> {
        let link = self.link()?;
        // `link_fd`, `new_prog_fd`, `flags`, `old_prog_fd`.
        let mut update = [link.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned(), 0, 0];
        bpf(LINK_UPDATE, &mut update).map(drop)
    }

    /// Detaches it, whoever has its link pinned or open.
    ///
    /// # Errors
    ///
    /// The same as those of [`Self::replace_with`].
    pub(super) fn detach(self) -> io::Result<()> {
        let link = self.link()?;
        bpf(LINK_DETACH, &mut [link.as_raw_fd().cast_unsigned()]).map(drop)
    }

    /// Pins its link.
    ///
    /// # Errors
    ///
    /// The same as those of [`Self::replace_with`].
    pub(super) fn pin_link(self, path: &Path) -> io::Result<()> {
        let link = self.link()?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut pin =
            Pin { pathname: path.as_ptr() as u64, bpf_fd: link.as_raw_fd().cast_unsigned(), file_flags: 0 };
        bpf(OBJ_PIN, &mut pin).map(drop)
    }

    fn link(self) -> io::Result<OwnedFd> {
        // `link_id`, `next_id`, `open_flags`.
        let fd = bpf(LINK_GET_FD_BY_ID, &mut [self.link_id, 0, 0])?;
        #[expect(unsafe_code, reason = "the kernel gives a number")]
        // SAFETY: it is new, and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Gives one of these commands to the kernel, with the attributes that it takes.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let attributes: *mut T = attributes;
    #[expect(unsafe_code, reason = "neither aya nor nix has these commands")]
    // SAFETY: the attributes are as long as is said; the path that they point to lives, and no more ids are written than
    // `Query` says that there is room for.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match libc::c_int::try_from(done) {
        Ok(done) if done >= 0 => Ok(done),
        _ => Err(io::Error::last_os_error()),
    }
}
