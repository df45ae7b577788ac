//! The needs of a test of the machine that it runs on.

use std::{path::Path, process::Command};

use crate::tcx;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The superuser: namespaces, BPF, qdiscs.
    Root,
    /// The `fq` qdisc.
    Fq,
    /// The `netem` qdisc, to compare with.
    Netem,
    /// The Docker Engine's programs.
    Docker,
    /// Compose, as a program of its own.
    Compose,
    /// `strace`.
    Strace,
    /// Podman, and what makes its networks.
    Podman,
    /// containerd, and the plugins for its pods' networks.
    Containerd,
    /// Prometheus, and its `promtool`.
    Prometheus,
    /// TCX, which Linux has from 6.6 on.
    Tcx,
    /// A network card called `spare` that nobody uses.
    Nic,
}

impl Need {
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Fq => "fq",
            Self::Netem => "netem",
            Self::Docker => "docker",
            Self::Compose => "compose",
            Self::Strace => "strace",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Prometheus => "prometheus",
            Self::Tcx => "tcx",
            Self::Nic => "nic",
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Fq => has_qdisc("fq"),
            Self::Netem => has_qdisc("netem"),
            Self::Tcx => tcx::programs("lo").is_some(),
            Self::Nic => Path::new("/sys/class/net/spare/device").exists(),
            Self::Docker => runs("dockerd", &["--version"]),
            Self::Compose => runs("docker-compose", &["--version"]),
            Self::Containerd => {
                runs("containerd", &["--version"]) && Path::new("/usr/lib/cni/bridge").exists()
            }
            Self::Strace => runs("strace", &["-V"]),
            Self::Prometheus => runs("prometheus", &["--version"]) && runs("promtool", &["--version"]),
            Self::Podman => {
                runs("podman", &["--version"]) && runs("/usr/lib/podman/netavark", &["--version"])
            }
        }
    }
}

/// Tries the qdisc on the loopback of a namespace that ends with the command.
fn has_qdisc(kind: &str) -> bool {
    runs("unshare", &["--net", "tc", "qdisc", "add", "dev", "lo", "root", kind])
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Returns true if the machine has all of `needs`; says so when it has not.
///
/// # Panics
///
/// When one is missing that `SHAPER_REQUIRE` (a list with commas) names: there, nothing may be skipped.
#[must_use]
pub fn met(needs: &[Need]) -> bool {
    let required = std::env::var("SHAPER_REQUIRE").unwrap_or_default();
    let missing: Vec<_> = needs.iter().filter(|need| !need.is_met()).map(|need| need.name()).collect();
    for name in &missing {
        assert!(
            !required.split(',').any(|required| required.trim() == *name),
            "SHAPER_REQUIRE demands {name}, which is missing"
        );
    }
    if !missing.is_empty() {
        eprintln!("skipped: this machine has no {}", missing.join(" and no "));
    }
    missing.is_empty()
}

/// Returns from the test, saying why, when the machine lacks what it needs.
#[macro_export]
macro_rules! needs {
    ($($need:ident),+) => {
        if !$crate::require::met(&[$($crate::require::Need::$need),+]) {
            return;
        }
    };
}
