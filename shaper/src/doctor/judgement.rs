//! Judges what was found. Pure.

use super::{Access, Answer, Check, Fact, Facts, Level, Process};
use crate::shaping::Status;

/// The oldest kernel that is worth a try.
const OLDEST: (u32, u32) = (5, 15);
/// The most programs of others that are named.
const SHOWN: usize = 3;
/// The advice where something could not be looked at.
const AS_ROOT: &str = "run `shaper doctor` as root";

/// The capabilities that the daemon needs, by their bits (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_PTRACE", 19), ("CAP_SYS_ADMIN", 21)];

impl Check {
    fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, finding: finding.into(), advice: None }
    }

    fn warning(check: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, finding: finding.into(), advice: Some(advice.into()) }
    }

    fn problem(check: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, finding, advice) }
    }
}

impl Facts {
    /// The findings, the kernel's first.
    pub(crate) fn judge(&self) -> Vec<Check> {
        let kernel = [self.kernel(), self.hook(), self.queue(), self.btf(), self.jit(), self.bpffs()];
        let daemon = self.daemon().into_iter().chain(self.socket()).chain(self.daemons_capabilities());
        let rest = [self.security(), self.foreign()].into_iter().chain(self.own_capabilities());
        kernel.into_iter().chain(daemon).chain(rest).collect()
    }

    fn kernel(&self) -> Check {
        let release = &self.release;
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = numbers.next().zip(numbers.next());
        match version {
            Some(version) if version >= OLDEST => Check::ok("kernel", format!("Linux {release}")),
            _ => Check::warning(
                "kernel",
                format!("Linux {release} has not been tested"),
                "use Linux 5.15 or newer; from 6.6 on no packet is lost when shaping begins",
            ),
        }
    }

    fn hook(&self) -> Check {
        match (&self.has_tcx, &self.has_clsact) {
            (Fact::Known(true), _) => Check::ok("hook", "TCX"),
            (_, Fact::Known(true)) => Check::warning(
                "hook",
                "clsact, as the kernel has no TCX: packets may be lost when shaping begins or ends",
                "use Linux 6.6 or newer if that matters",
            ),
            (_, Fact::Known(false)) => Check::problem(
                "hook",
                "the kernel has neither TCX nor clsact",
                "modprobe sch_ingress, or use a kernel with CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_ACT and \
                 CONFIG_NET_CLS_BPF",
            ),
            (_, Fact::Unknown(reason)) => Check::warning("hook", format!("not known: {reason}"), AS_ROOT),
        }
    }

    fn queue(&self) -> Check {
        match &self.has_fq {
            Fact::Known(true) => Check::ok("fq", "the kernel has this queue, which delays and rates need"),
            Fact::Known(false) => Check::warning(
                "fq",
                "the kernel lacks this queue: losses can be had, but no delays and no rates",
                "modprobe sch_fq, or use a kernel with CONFIG_NET_SCH_FQ",
            ),
            Fact::Unknown(reason) => Check::warning("fq", format!("not known: {reason}"), AS_ROOT),
        }
    }

    fn btf(&self) -> Check {
        match self.has_btf {
            true => Check::ok("BTF", "the kernel tells its types"),
            false => Check::problem(
                "BTF",
                "there is no /sys/kernel/btf/vmlinux",
                "use a kernel with CONFIG_DEBUG_INFO_BTF; in a container, mount /sys",
            ),
        }
    }

    fn jit(&self) -> Check {
        match &self.jit {
            Fact::Known(1) => Check::ok("JIT", "BPF programs are compiled"),
            Fact::Known(0) => Check::problem(
                "JIT",
                "BPF programs are interpreted",
                "sysctl -w net.core.bpf_jit_enable=1, or use a kernel with CONFIG_BPF_JIT",
            ),
            Fact::Known(_) => Check::warning(
                "JIT",
                "the compiler of BPF programs writes all of them to the kernel's log",
                "sysctl -w net.core.bpf_jit_enable=1",
            ),
            Fact::Unknown(reason) => Check::warning(
                "JIT",
                format!("not known: {reason}"),
                "look as root, in the host's network namespace",
            ),
        }
    }

    fn bpffs(&self) -> Check {
        let path = self.pins.display();
        match self.bpffs {
            None => Check::problem(
                "bpffs",
                format!("none is mounted: {path} is in another file system"),
                "mount -t bpf -o mode=0700 bpf /sys/fs/bpf; in a container, mount /sys/fs/bpf into it",
            ),
            Some(access) if access.is_writable_by_others() => Check::warning(
                "bpffs",
                format!("{path} has mode {:04o}: other users may take the place of the pins", access.mode),
                format!("mount -o remount,mode=0700 {path}"),
            ),
            Some(access) => Check::ok("bpffs", format!("{path}, mode {:04o}", access.mode)),
        }
    }

    /// The daemon's own findings: its state, and each runtime that it cannot watch.
    fn daemon(&self) -> Vec<Check> {
        let status = match &self.daemon {
            Answer::None(reason) => {
                return vec![Check::warning("daemon", reason, "start it, and see its log")];
            }
            Answer::Status(status) => status,
        };
        let Status { version, started, containers, problem, runtimes, .. } = &**status;
        let own = env!("CARGO_PKG_VERSION");
        let state = match problem {
            Some(problem) => {
                Check::problem("daemon", format!("it can shape nothing: {problem}"), "see the daemon's log")
            }
            None if version != own => Check::warning(
                "daemon",
                format!("it is version {version}, and this command is {own}"),
                "upgrade the older one",
            ),
            None => {
                Check::ok("daemon", format!("version {version} since {started}, {containers} containers"))
            }
        };
        let unwatched = runtimes.iter().filter_map(|one| Some((one, one.problem.as_ref()?)));
        let unwatched = unwatched.map(|(one, problem)| {
            let finding = format!("{} is not watched: {problem}", one.runtime);
            Check::warning("runtime", finding, "start it, or leave it out of `shaper serve --runtime`")
        });
        [state].into_iter().chain(unwatched).collect()
    }

    fn socket(&self) -> Option<Check> {
        let access = self.socket?;
        let Access { uid, mode } = access;
        let finding = format!("user {uid}, mode {mode:04o}");
        Some(match mode & 0o077 {
            0 => Check::ok("socket", finding),
            _ => Check::warning(
                "socket",
                format!("{finding}: whoever may write to it may shape every container"),
                "chmod 0600 it, or give users tokens (`shaper serve --tokens`)",
            ),
        })
    }

    fn daemons_capabilities(&self) -> Option<Check> {
        let Process { capabilities, .. } = self.process.as_ref()?;
        let missing = missing(*capabilities);
        Some(match missing.is_empty() {
            true => Check::ok("privileges", "the daemon has the capabilities that it needs"),
            false => {
                let names = missing.join(", ");
                Check::problem(
                    "privileges",
                    format!("the daemon lacks {names}"),
                    format!("run it as root, in a container with --cap-add {}", missing.join(" --cap-add ")),
                )
            }
        })
    }

    fn security(&self) -> Check {
        let label = self.process.as_ref().map(|process| &*process.label).unwrap_or_default();
        if self.is_selinux_enforcing {
            return Check::warning(
                "security",
                "SELinux is enforced, which has not been tested",
                "for a daemon in a container, add --security-opt label=disable",
            );
        }
        match label {
            "" | "unconfined" => Check::ok("security", "no security module confines the daemon"),
            label if label.ends_with("(enforce)") => Check::warning(
                "security",
                format!("AppArmor confines the daemon: {label}"),
                "if pins cannot be made, add --security-opt apparmor=unconfined",
            ),
            label => Check::ok("security", format!("the daemon runs under {label}")),
        }
    }

    fn foreign(&self) -> Check {
        let found = match &self.foreign {
            Fact::Unknown(reason) => {
                return Check::warning("programs", format!("not known: {reason}"), AS_ROOT);
            }
            Fact::Known(found) if found.is_empty() => {
                return Check::ok("programs", "nobody else's are on the devices that lead to containers");
            }
            Fact::Known(found) => found,
        };
        let named = found.iter().take(SHOWN).map(|one| format!("{} on {}", one.program, one.device));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if found.len() > SHOWN {
            named = format!("{named} and {} more", found.len() - SHOWN);
        }
        match self.has_tcx {
            Fact::Known(true) => Check::ok("programs", format!("those of others run after ours: {named}")),
            _ => Check::warning(
                "programs",
                format!("others have some: {named}"),
                "if shaping is refused, do as the error says: ours has to be the first",
            ),
        }
    }

    /// A finding only where it keeps this command from looking.
    fn own_capabilities(&self) -> Option<Check> {
        let missing = missing(self.capabilities);
        (!missing.is_empty()).then(|| {
            Check::warning(
                "this command",
                format!("it lacks {}: not all can be looked at", missing.join(", ")),
                AS_ROOT,
            )
        })
    }
}

impl Access {
    const fn is_writable_by_others(self) -> bool {
        self.mode & 0o022 != 0
    }
}

/// The capabilities that a daemon with these would lack.
fn missing(capabilities: u64) -> Vec<&'static str> {
    let lacks = |bit: u32| capabilities & (1 << bit) == 0;
    CAPABILITIES.iter().filter(|(_, bit)| lacks(*bit)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests;
