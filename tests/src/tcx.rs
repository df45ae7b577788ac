//! TCX programs (Linux 6.6) of somebody else.

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
const BPF_LINK_CREATE: c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
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

/// Attaches a program to the egress hook of a device of the calling thread's namespace that passes each packet and lets no
/// classifier see it; until the result is dropped.
///
/// # Errors
///
/// When the kernel has no TCX (`EINVAL`), or the caller may not.
///
/// # Panics
///
/// When there is no such device.
pub fn pass_everything(device: &str) -> io::Result<OwnedFd> {
    attach(device, BPF_TCX_EGRESS, &PASS)
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
    attach(device, BPF_TCX_INGRESS, &program)
}

fn attach(device: &str, attach_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
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
    bpf(BPF_LINK_CREATE, &Create { prog_fd, target_ifindex, attach_type, ..Create::default() })
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "aya takes compiled objects only")]
    // SAFETY: the attributes are as long as is said, and what they point to lives.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let fd = i32::try_from(fd).expect("a descriptor or -1");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "the kernel gives a number")]
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
