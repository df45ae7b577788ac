//! Programs on a device's TCX egress hook (Linux 6.6), by system calls that aya does not offer.
//!
//! They are attached as programs, not by links: a link ends with its last pin, and somebody who unmounts bpffs would leave
//! a queue without its program. A program stays until it is detached or the device ends, as a classifier does.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::libc::{self, EINVAL, ENODEV, ENOENT};

// `enum bpf_cmd`, `enum bpf_attach_type` and the flags of `BPF_PROG_ATTACH` (`include/uapi/linux/bpf.h`, Linux 6.6).
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const TCX_EGRESS: u32 = 47;
const REPLACE: u32 = 1 << 2;
const BEFORE: u32 = 1 << 3;

/// The most programs on one hook (`BPF_MPROG_MAX`).
const MAX_PROGRAMS: usize = 64;

/// The part of `union bpf_attr` that attaches and detaches.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_ifindex: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    relative_fd: u32,
    expected_revision: u64,
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

/// The part of `union bpf_attr` that opens by id.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Returns the ids of the programs on the hook of a device of the calling thread's namespace, first things first; none
/// where the kernel has no TCX. A device that has gone has none.
///
/// # Errors
///
/// When the kernel does not say.
pub(super) fn programs(ifindex: u32) -> io::Result<Option<Vec<u32>>> {
    let mut ids = vec![0_u32; MAX_PROGRAMS];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: TCX_EGRESS,
        prog_ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..Query::default()
    };
    match bpf(PROG_QUERY, &mut query) {
        Ok(_) => {
            ids.truncate(query.count as usize);
            Ok(Some(ids))
        }
        Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ENODEV)) => Ok(Some(Vec::new())),
        Err(error) if error.raw_os_error() == Some(EINVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches a program in front of all others.
///
/// # Errors
///
/// When the kernel refuses, for example `EEXIST` for a program that is there already.
pub(super) fn attach_first(ifindex: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let attach_bpf_fd = program.as_raw_fd().cast_unsigned();
    let attach = Attach { attach_flags: BEFORE, attach_bpf_fd, ..on(ifindex) };
    change(PROG_ATTACH, attach)
}

/// Puts a program in the place of the program `old`: each packet is seen by one of the two.
///
/// # Errors
///
/// When `old` is not there (`ENOENT`), or the kernel refuses.
pub(super) fn replace(ifindex: u32, program: BorrowedFd<'_>, old: u32) -> io::Result<()> {
    let old = open(old)?;
    let attach = Attach {
        attach_flags: REPLACE,
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        replace_bpf_fd: old.as_raw_fd().cast_unsigned(),
        ..on(ifindex)
    };
    change(PROG_ATTACH, attach)
}

/// Detaches a program.
///
/// # Errors
///
/// When it is not there (`ENOENT`), or the kernel refuses.
pub(super) fn detach(ifindex: u32, program: u32) -> io::Result<()> {
    let program = open(program)?;
    change(PROG_DETACH, Attach { attach_bpf_fd: program.as_raw_fd().cast_unsigned(), ..on(ifindex) })
}

fn on(ifindex: u32) -> Attach {
    Attach { target_ifindex: ifindex, attach_type: TCX_EGRESS, ..Attach::default() }
}

fn change(command: libc::c_int, mut attributes: Attach) -> io::Result<()> {
    bpf(command, &mut attributes).map(drop)
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })?;
    #[expect(unsafe_code, reason = "the kernel gives a number")]
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives one of the three commands to the kernel, with attributes made for it.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let attributes: *mut T = attributes;
    #[expect(unsafe_code, reason = "neither aya nor nix has these commands")]
    // SAFETY: the attributes are as long as is said, and no ids are written beyond the buffer whose room `Query` states.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match libc::c_int::try_from(done) {
        Ok(done) if done >= 0 => Ok(done),
        _ => Err(io::Error::last_os_error()),
    }
}
