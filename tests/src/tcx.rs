//! TCX programs (Linux 6.6): those of somebody else, and what is attached at all.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use nix::{
    libc::{self, c_long},
    net::if_::if_nametoindex,
};

// `include/uapi/linux/bpf.h`, Linux 6.12.
const BPF_PROG_LOAD: c_long = 5;
const BPF_PROG_QUERY: c_long = 16;
const BPF_LINK_CREATE: c_long = 28;
const BPF_LINK_GET_FD_BY_ID: c_long = 30;
const BPF_LINK_DETACH: c_long = 34;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_BEFORE: u32 = 1 << 3;
/// `r0 = 0; exit`: `TCX_PASS`, which ends the classification.
const PASS: [u64; 2] = [0xb7, 0x95];

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 14],
}

/// The beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct Create {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 14],
}

/// The beginning of `union bpf_attr` for `BPF_PROG_QUERY`.
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
    rest: [u64; 2],
}

/// Returns the ids of the programs on both hooks of a device of the calling thread's namespace; nothing where the kernel
/// has no TCX.
///
/// # Panics
///
/// When there is no such device.
#[must_use]
pub fn programs(device: &str) -> Option<Vec<u32>> {
    query(device).map(|programs| programs.into_iter().map(|(id, _)| id).collect())
}

/// Detaches all programs from both hooks of a device of the calling thread's namespace, whoever has their links.
///
/// # Panics
///
/// When the kernel refuses.
pub fn detach_all(device: &str) {
    for (_, link_id) in query(device).unwrap_or_default() {
        let link = bpf(BPF_LINK_GET_FD_BY_ID, &[link_id, 0, 0]).expect("it is there");
        call(BPF_LINK_DETACH, &[link.as_raw_fd()]).expect("it can be detached");
    }
}

/// Returns the ids of the programs on both hooks, and of their links.
fn query(device: &str) -> Option<Vec<(u32, u32)>> {
    let sides = [BPF_TCX_EGRESS, BPF_TCX_INGRESS].map(|side| query_side(device, side));
    sides.into_iter().collect::<Option<Vec<_>>>().map(|sides| sides.concat())
}

fn query_side(device: &str, attach_type: u32) -> Option<Vec<(u32, u32)>> {
    let (mut ids, mut link_ids) = ([0_u32; 64], [0_u32; 64]);
    let query = Query {
        target_ifindex: if_nametoindex(Path::new(device)).expect("there is one"),
        attach_type,
        prog_ids: ids.as_mut_ptr() as u64,
        count: 64,
        link_ids: link_ids.as_mut_ptr() as u64,
        ..Query::default()
    };
    call(BPF_PROG_QUERY, &query).ok()?;
    // No program has the id 0.
    Some(ids.into_iter().zip(link_ids).filter(|(id, _)| *id != 0).collect())
}

/// Attaches a program to the egress hook of a device of the calling thread's namespace, in front of all others, that passes
/// each packet and lets no other program see it; until the result is dropped.
///
/// # Errors
///
/// When the kernel has no TCX (`EINVAL`), or the caller may not.
///
/// # Panics
///
/// When there is no such device.
pub fn pass_everything(device: &str) -> io::Result<OwnedFd> {
    attach(device, BPF_TCX_EGRESS, BPF_F_BEFORE, &PASS)
}

/// Attaches a program to the ingress hook of a device of the calling thread's namespace that sends each packet of IPv4
/// straight to the other end of the veth `to`; until the result is dropped.
///
/// # Errors
///
/// The same as those of [`pass_everything`].
///
/// # Panics
///
/// When there is no such device.
pub fn redirect_to_peer(device: &str, to: &str) -> io::Result<OwnedFd> {
    let to = u64::from(if_nametoindex(Path::new(to)).expect("there is one"));
    let program = [
        0x10_1261,             // r2 = skb->protocol
        0x0000_0008_0002_0215, // if r2 == htons(ETH_P_IP) skip 2
        0xffff_ffff_0000_00b7, // r0 = TCX_NEXT
        0x95,                  // exit
        to << 32 | 0x01b7,     // r1 = ifindex
        0x02b7,                // r2 = 0
        155 << 32 | 0x85,      // call bpf_redirect_peer
        0x95,                  // exit
    ];
    attach(device, BPF_TCX_INGRESS, 0, &program)
}

fn attach(device: &str, attach_type: u32, flags: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = CString::new("GPL").expect("it has no NUL");
    let load = Load {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: u32::try_from(instructions.len()).expect("it is short"),
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    let target_ifindex = if_nametoindex(Path::new(device)).expect("there is one");
    let prog_fd = u32::try_from(program.as_raw_fd()).expect("it is not negative");
    bpf(BPF_LINK_CREATE, &Create { prog_fd, target_ifindex, attach_type, flags, ..Create::default() })
}

fn call<T>(command: c_long, attributes: &T) -> io::Result<i32> {
    #[expect(unsafe_code, reason = "aya takes compiled objects only, and knows links only")]
    // SAFETY: the attributes are as long as is said, and what they point to lives, and has the room that is said.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let done = i32::try_from(done).expect("a small number");
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    #[expect(unsafe_code, reason = "the kernel gives a number")]
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
