//! The abilities of the running kernel, found out by trying, and the demands that tests may make.

use std::env;
use std::process::Command;

use crate::process::{find_program, succeeds};

/// The variable that turns a test's skip for want of a capability into a failure.
pub(crate) const REQUIRE: &str = "SHAPER_REQUIRE";

/// Returns true if this kernel has a queueing discipline, tried in a network namespace that is thrown away.
pub(crate) fn has_qdisc(name: &str) -> bool {
    let (Some(tc), Some(unshare)) = (find_program("tc"), find_program("unshare")) else { return false };
    if let Some(modprobe) = find_program("modprobe") {
        // A kernel without modules may still have it: the attempt below decides.
        succeeds(Command::new(modprobe).args(["--quiet", &format!("sch_{name}")]));
    }
    let mut attempt = Command::new(unshare);
    attempt.arg("--net").arg(tc).args(["qdisc", "add", "dev", "lo", "root", name]);
    succeeds(&mut attempt)
}

/// Returns the needs that tests on this machine must not skip for: what the caller demands and `defaults`, without what
/// this kernel cannot have.
pub(crate) fn required_on_host(defaults: &[&str]) -> String {
    let absent = ["fq", "netem"].into_iter().filter(|qdisc| !has_qdisc(qdisc));
    merge(&env::var(REQUIRE).unwrap_or_default(), defaults, &absent.collect::<Vec<_>>())
}

/// Returns the needs that tests in the virtual machine must not skip for: it has everything.
pub(crate) fn required_in_vm() -> String {
    merge(&env::var(REQUIRE).unwrap_or_default(), &["root", "fq", "netem", "docker", "nic"], &[])
}

fn merge(demanded: &str, more: &[&str], absent: &[&str]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in demanded.split(',').map(str::trim).chain(more.iter().copied()) {
        if !name.is_empty() && !absent.contains(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn demands_are_merged_without_what_is_absent() {
        assert_eq!(merge("root,docker,fq,netem", &["root", "docker"], &["fq", "netem"]), "root,docker");
        assert_eq!(merge("", &["root", "docker"], &["fq"]), "root,docker");
        assert_eq!(merge(" fq ,", &["root"], &[]), "fq,root");
    }
}
