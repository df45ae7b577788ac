use std::path::PathBuf;

use super::*;
use crate::{
    datapath::Foreign,
    shaping::{RuntimeName, RuntimeStatus},
};

fn status() -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: "2026-11-28T07:12:03Z".to_owned(),
        problem: None,
        problem_since: None,
        runtimes: Vec::new(),
        containers: 12,
        shaped: 0,
        broken: 0,
        unknown: 0,
    }
}

/// A host on which all is well.
fn healthy() -> Facts {
    Facts {
        release: "6.12.9-amd64".to_owned(),
        has_tcx: Fact::Known(true),
        has_clsact: Fact::Known(true),
        has_fq: Fact::Known(true),
        has_btf: true,
        jit: Fact::Known(1),
        pins: PathBuf::from("/sys/fs/bpf"),
        bpffs: Some(Access { uid: 0, mode: 0o700 }),
        capabilities: u64::MAX,
        socket: Some(Access { uid: 0, mode: 0o600 }),
        daemon: Answer::Status(Box::new(status())),
        process: Some(Process { capabilities: u64::MAX, label: String::new() }),
        is_selinux_enforcing: false,
        foreign: Fact::Known(Vec::new()),
    }
}

fn unknown<T>() -> Fact<T> {
    Fact::Unknown("Operation not permitted".to_owned())
}

/// The complaints, a line each.
fn complaints(facts: &Facts) -> String {
    let lines = facts.judge().into_iter().filter(|check| check.level != Level::Ok).map(|check| {
        let Check { check, level, finding, advice } = check;
        format!("{level:?} {check}: {finding} => {}\n", advice.expect("it says what to do"))
    });
    lines.collect()
}

#[test]
fn a_host_on_which_all_is_well_has_no_complaints() {
    assert_eq!(complaints(&healthy()), "");
    assert!(healthy().judge().len() > 10);
}

#[test]
fn each_fault_is_told_with_its_remedy() {
    let unwatched = Status {
        runtimes: vec![RuntimeStatus {
            runtime: RuntimeName::Docker,
            socket: None,
            containers: 0,
            problem: Some("connect to /var/run/docker.sock: Permission denied".to_owned()),
        }],
        ..status()
    };
    let foreign =
        Foreign { device: "veth1".to_owned(), program: "a bpf classifier of priority 1".to_owned() };
    let foreign = Fact::Known(vec![foreign; 5]);
    let answer = |status: Status| Answer::Status(Box::new(status));
    let faults = [
        Facts { release: "5.4.0-generic".to_owned(), ..healthy() },
        Facts { release: "plan 9".to_owned(), ..healthy() },
        Facts { has_tcx: Fact::Known(false), ..healthy() },
        Facts { has_tcx: Fact::Known(false), has_clsact: Fact::Known(false), ..healthy() },
        Facts { has_tcx: unknown(), has_clsact: unknown(), ..healthy() },
        Facts { has_fq: Fact::Known(false), ..healthy() },
        Facts { has_btf: false, ..healthy() },
        Facts { jit: Fact::Known(0), ..healthy() },
        Facts { jit: Fact::Known(2), ..healthy() },
        Facts { jit: unknown(), ..healthy() },
        Facts { bpffs: None, pins: PathBuf::from("/sys/fs"), ..healthy() },
        Facts { bpffs: Some(Access { uid: 0, mode: 0o1777 }), ..healthy() },
        Facts { daemon: Answer::None("no daemon listens on /run/a.sock".to_owned()), ..healthy() },
        Facts { daemon: answer(Status { problem: Some("no bpffs".to_owned()), ..status() }), ..healthy() },
        Facts { daemon: answer(Status { version: "0.0.9".to_owned(), ..status() }), ..healthy() },
        Facts { daemon: answer(unwatched), ..healthy() },
        Facts { socket: Some(Access { uid: 0, mode: 0o666 }), ..healthy() },
        Facts { process: Some(Process { capabilities: 1 << 12, label: String::new() }), ..healthy() },
        Facts {
            process: Some(Process { capabilities: u64::MAX, label: "docker-default (enforce)".to_owned() }),
            ..healthy()
        },
        Facts { is_selinux_enforcing: true, ..healthy() },
        Facts { has_tcx: Fact::Known(false), foreign, ..healthy() },
        Facts { foreign: unknown(), ..healthy() },
        Facts { capabilities: 0, ..healthy() },
    ];
    insta::assert_snapshot!(faults.iter().map(complaints).collect::<String>());
}

#[test]
fn programs_of_others_are_no_fault_behind_tcx() {
    let foreign = Foreign { device: "veth1".to_owned(), program: "the TCX program cil (id 7)".to_owned() };
    let facts = Facts { foreign: Fact::Known(vec![foreign]), ..healthy() };
    assert_eq!(complaints(&facts), "");
    let told = facts.judge().into_iter().find(|check| check.check == "programs").expect("it is told");
    assert_eq!(told.finding, "those of others run after ours: the TCX program cil (id 7) on veth1");
}
