//! Looks at the host.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use nix::sys::{
    socket::{getsockopt, sockopt::PeerCredentials},
    statfs::{BPF_FS_MAGIC, statfs},
    utsname::uname,
};

use super::{Access, Answer, Fact, Facts, Places, Process};
use crate::datapath;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
const SELINUX: &str = "/sys/fs/selinux/enforce";

impl Facts {
    /// Looks at the host, with what the `daemon` answered.
    pub(crate) fn look(places: &Places, daemon: Answer) -> Self {
        let pins = nearest(&places.pin_dir);
        let process = match &daemon {
            Answer::Status(_) => process_behind(&places.socket),
            Answer::None(_) => None,
        };
        Self {
            release: uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default(),
            has_tcx: datapath::has_tcx().into(),
            has_clsact: datapath::has_clsact().into(),
            has_fq: datapath::has_fq().into(),
            has_btf: Path::new(BTF).exists(),
            jit: jit(),
            bpffs: is_bpffs(&pins).then(|| access(&pins)).flatten(),
            pins,
            capabilities: capabilities("self").unwrap_or_default(),
            socket: access(&places.socket),
            daemon,
            process,
            is_selinux_enforcing: fs::read_to_string(SELINUX).is_ok_and(|text| text.trim() == "1"),
            foreign: datapath::foreign().into(),
        }
    }
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Fact<T> {
    fn from(found: Result<T, E>) -> Self {
        found.map_or_else(|error| Self::Unknown(error.to_string()), Self::Known)
    }
}

fn jit() -> Fact<u8> {
    match fs::read_to_string(JIT) {
        Ok(text) => text.trim().parse::<u8>().into(),
        Err(error) => Fact::Unknown(format!("{JIT}: {error}")),
    }
}

/// The mount of the pins, if they are in a bpffs; else the nearest directory that exists.
fn nearest(pin_dir: &Path) -> PathBuf {
    let mut existing = pin_dir.ancestors().filter(|path| path.exists());
    let first = existing.next().unwrap_or(Path::new("/"));
    let within = existing.take_while(|path| is_bpffs(path));
    within.last().unwrap_or(first).to_owned()
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn access(path: &Path) -> Option<Access> {
    let found = fs::metadata(path).ok()?;
    Some(Access { uid: found.uid(), mode: found.mode() & 0o7777 })
}

/// The process that listens on a socket, if it can be looked at from here.
fn process_behind(socket: &Path) -> Option<Process> {
    let stream = UnixStream::connect(socket).ok()?;
    let pid = getsockopt(&stream, PeerCredentials).ok()?.pid();
    let capabilities = capabilities(&pid.to_string())?;
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap_or_default();
    Some(Process { capabilities, label: label.trim_end_matches(['\0', '\n']).to_owned() })
}

/// The effective capabilities of a process.
fn capabilities(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
