//! Who may name whom in the sources, and which words belong to one place only.
//!
//! It reads text, not syntax: comments do not count, and a path is `crate::module` or a branch of `crate::{...}`.

use super::Complaint;
use super::text::contains_word;

/// The modules that connect the daemon with one kind of thing outside of it. They do not know one another.
const ADAPTERS: [&str; 5] = ["containers", "scope", "api", "datapath", "cli"];

/// Crates that do I/O.
const IO_CRATES: [&str; 8] =
    ["tokio", "aya", "axum", "bollard", "nix", "rtnetlink", "netlink_sys", "hyperlocal"];

/// The rooms of `shaper-policy`; each knows those before it.
const ROOMS: [&str; 6] = ["model", "text", "compile", "explain", "file", "change"];

/// Words that belong to the code that moves between network namespaces.
// Split, or this file would break the rule that it states.
const NAMESPACE_WORDS: [&str; 2] = [concat!("set", "ns"), concat!("CLONE_", "NEWNET")];

pub(super) fn check(path: &str, text: &str) -> Vec<Complaint> {
    let code: Vec<_> = text.lines().map(without_comment).collect();
    let mut complaints = Vec::new();
    if !path.starts_with("shaper/src/network/") && !path.starts_with("tests/") {
        complaints.extend(find_words(
            &code,
            &NAMESPACE_WORDS,
            "belongs in shaper/src/network/ and tests/ only",
        ));
    }
    if path.starts_with("shaper-policy/src/") {
        complaints.extend(check_purity(&code));
        complaints.extend(check_rooms(path, &code));
    }
    let Some(module) = module(path) else { return complaints };
    if module == "shaping" {
        complaints.extend(check_purity(&code));
    }
    for (line, named) in named_after(&code, "crate::") {
        if let Some(reason) = forbidden(module, &named) {
            complaints.push(Complaint::new(line, format!("`{module}` names `crate::{named}`: {reason}")));
        }
    }
    complaints
}

/// The module of `shaper` that a file belongs to.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("shaper/src/")?;
    let first = rest.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// Why one module of `shaper` may not name another.
fn forbidden(module: &str, named: &str) -> Option<&'static str> {
    let is_adapter = ADAPTERS.contains(&module);
    let names_adapter = ADAPTERS.contains(&named) && named != module;
    match module {
        "shaping" if names_adapter || named == "network" || named == "daemon" => {
            Some("the core knows nothing around it")
        }
        "network" if names_adapter => Some("it serves the datapath, which it does not know"),
        _ if is_adapter && names_adapter => {
            Some("adapters do not know one another; the daemon wires them together")
        }
        _ if is_adapter && named == "network" && module != "datapath" => {
            Some("only the datapath changes kernel networking")
        }
        _ => None,
    }
}

/// Names of rooms of `shaper-policy` that a file names, and that come after its own.
fn check_rooms(path: &str, code: &[&str]) -> Vec<Complaint> {
    let place = |room: &str| ROOMS.iter().position(|other| *other == room);
    let room = path.strip_prefix("shaper-policy/src/").and_then(|rest| rest.split('/').next());
    let Some(own) = room.and_then(place) else { return Vec::new() };
    let named = named_after(code, "crate::").into_iter();
    let later = named.filter(|(_, named)| place(named).is_some_and(|other| other > own));
    later
        .map(|(line, named)| {
            Complaint::new(line, format!("`{}` names `crate::{named}`, which comes after it", ROOMS[own]))
        })
        .collect()
}

/// Finds what makes the core depend on more than its arguments.
fn check_purity(code: &[&str]) -> Vec<Complaint> {
    let reason = "the core does no I/O and reads no clock: take it as an argument";
    let mut complaints = find_words(code, &["Instant", "SystemTime::now"], reason);
    for (line, number) in code.iter().zip(1..) {
        let crates = IO_CRATES.into_iter().chain(["netlink_packet_route", "netlink_packet_core"]);
        let used = |name: &&str| contains_word(line, &format!("{name}::")) || is_use_of(line, name);
        for name in crates.filter(used) {
            complaints.push(Complaint::new(number, format!("`{name}`: {reason}")));
        }
    }
    complaints
}

fn is_use_of(line: &str, name: &str) -> bool {
    line.trim_start().strip_prefix("use ").is_some_and(|rest| {
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(';') || rest.starts_with(" as "))
    })
}

fn find_words(code: &[&str], words: &[&str], reason: &str) -> Vec<Complaint> {
    let lines = code.iter().zip(1..);
    let found = lines.flat_map(|(line, number)| {
        let present = words.iter().filter(|word| contains_word(line, word));
        present.map(move |word| Complaint::new(number, format!("`{word}`: {reason}")))
    });
    found.collect()
}

/// The modules that code names after `prefix`, by line: in `crate::a::b`, and in `crate::{a, b::{c, d}}` over many lines.
pub(super) fn named_after(code: &[&str], prefix: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    // Depth of the braces after the prefix; zero outside of them.
    let mut depth = 0;
    for (line, number) in code.iter().zip(1..) {
        let mut rest = *line;
        while !rest.is_empty() {
            if depth == 0 {
                let Some(at) = rest.find(prefix) else { break };
                rest = &rest[at + prefix.len()..];
                if let Some(inside) = rest.strip_prefix('{') {
                    (depth, rest) = (1, inside);
                } else {
                    named.push((number, identifier(rest).to_owned()));
                }
                continue;
            }
            let name = identifier(rest);
            if !name.is_empty() {
                rest = &rest[name.len()..];
                if depth == 1 {
                    named.push((number, name.to_owned()));
                }
                // What follows in the same path is not at the top any more.
                let path =
                    rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).unwrap_or(rest.len());
                rest = &rest[path..];
                continue;
            }
            let mut chars = rest.chars();
            match chars.next() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                _ => {}
            }
            rest = chars.as_str();
        }
    }
    named
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// A line up to its comment. The `//` of a URL does not start one.
pub(super) fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::super::{check, rendered};

    /// The lines that a file with this text is refused for.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(path, text).iter().map(|complaint| complaint.line).collect()
    }

    #[test]
    fn the_core_does_no_io_and_reads_no_clock() {
        let text = "\
use std::time::Duration;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
let now = std::time::SystemTime::now();
/// Unlike `tokio::time`, this takes the time.
fn mayaya(unixnix: u8) {}
use netlink_packet_route::link;
use nix as os;
";
        assert_eq!(lines("shaper/src/shaping/policy.rs", text), [2, 3, 4, 7, 8]);
        assert_eq!(lines("shaper/src/shaping.rs", text), [2, 3, 4, 7, 8]);
        assert_eq!(lines("shaper/src/daemon.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn adapters_do_not_name_one_another() {
        let text = "use crate::scope::Report;\nuse crate::api::Body;\nuse crate::shaping::Policy;\n";
        assert_eq!(lines("shaper/src/api/mod.rs", text), [1]);
        assert_eq!(lines("shaper/src/scope.rs", text), [2]);
        assert_eq!(lines("shaper/src/containers/docker.rs", text), [1, 2]);
        assert_eq!(lines("shaper/src/shaping/mod.rs", text), [1, 2]);
        assert_eq!(lines("shaper/src/main.rs", text), [] as [usize; 0]);
        assert_eq!(lines("shaper/src/daemon/wiring.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn a_room_of_policies_names_none_after_it() {
        let text = "use crate::{\n    model::Policy,\n    change::Request,\n};\nuse std::time::Instant;\n";
        assert_eq!(lines("shaper-policy/src/file/mod.rs", text), [3, 5]);
        assert_eq!(lines("shaper-policy/src/change/request.rs", text), [5]);
        assert_eq!(lines("shaper-policy/src/lib.rs", text), [5]);
    }

    #[test]
    fn only_the_datapath_names_the_network() {
        let text = "fn f() { crate::network::attach() }\n";
        assert_eq!(lines("shaper/src/datapath/mod.rs", text), [] as [usize; 0]);
        assert_eq!(lines("shaper/src/network/clsact.rs", text), [] as [usize; 0]);
        let expected = "1: `cli` names `crate::network`: only the datapath changes kernel networking\n";
        assert_eq!(rendered(&check("shaper/src/cli/mod.rs", text)), expected);
    }

    #[test]
    fn modules_named_in_groups_are_found() {
        let text = "\
use crate::{
    shaping::{api, Policy},
    scope::{self, network},
    daemon, cli,
};
use crate::scope;
";
        assert_eq!(lines("shaper/src/api/mod.rs", text), [3, 4, 6]);
    }

    #[test]
    fn only_network_and_tests_move_between_namespaces() {
        let text = format!(
            "// {0} is explained here\nnix::sched::{0}(fd, CloneFlags::{1})?;\n",
            "se\u{74}ns", "CLONE_\u{4e}EWNET"
        );
        assert_eq!(lines("shaper/src/datapath/mod.rs", &text), [2, 2]);
        assert_eq!(lines("shaper/src/network/netns.rs", &text), [] as [usize; 0]);
        assert_eq!(lines("tests/src/netns.rs", &text), [] as [usize; 0]);
    }
}
