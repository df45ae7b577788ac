//! The results for many containers, in a table.

use std::io::Write as _;

use anyhow::Result;
use comfy_table::{Table, presets};

use super::{Streams, client::Results, print_json};
use crate::shaping::{Changed, Completion, ContainerResult, Direction, InForce};

/// The words for what was done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done {
    Set,
    Cleared,
}

/// The most names of a network namespace that are shown.
const SHOWN_NAMES: usize = 3;

/// Prints the results, and fails if not all containers have what was asked.
///
/// # Errors
///
/// The daemon's own, with its exit code.
pub(super) fn print(results: Results, done: Done, as_json: bool, streams: &mut Streams<'_>) -> Result<()> {
    match as_json {
        true => print_json(&results.changed, streams)?,
        false => write!(streams.out, "{}", table(&results.changed, done))?,
    }
    results.refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// A line for each container: its name and those that share its shaping, the result, and the shaping by direction, in
/// netem's words; where it changes, also the one before.
pub(super) fn table(changed: &Changed, done: Done) -> String {
    if changed.results.is_empty() {
        return "no container fits\n".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["NAME", "ID", "RESULT", "EGRESS", "INGRESS"]);
    table.add_rows(changed.results.iter().map(|result| row(result, done)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", table.trim_fmt())
}

fn row(result: &ContainerResult, done: Done) -> [String; 5] {
    [
        names(result),
        result.container.id.short().to_owned(),
        words(&result.end, done),
        shaping(result, Direction::Egress),
        shaping(result, Direction::Ingress),
    ]
}

fn names(result: &ContainerResult) -> String {
    let all: Vec<_> = [&result.container.name].into_iter().chain(&result.shared_with).collect();
    let shown: Vec<_> = all.iter().take(SHOWN_NAMES).map(|name| name.as_str()).collect();
    match all.len().saturating_sub(SHOWN_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn words(end: &Completion, done: Done) -> String {
    match (end, done) {
        (Completion::Changed, Done::Set) => "set".to_owned(),
        (Completion::Changed, Done::Cleared) => "cleared".to_owned(),
        (Completion::Planned, Done::Set) => "would be set".to_owned(),
        (Completion::Planned, Done::Cleared) => "would be cleared".to_owned(),
        (Completion::Unchanged, _) => "was not shaped".to_owned(),
        (Completion::Skipped(reason), _) => format!("left out: {reason}"),
        (Completion::Refused(reason), _) => format!("refused: {reason}"),
        (Completion::Failed(reason), _) => format!("failed: {reason}"),
        (Completion::Restored, _) => "put back".to_owned(),
        (Completion::Stuck(reason), _) => format!("not put back: {reason}"),
        (Completion::Untouched, _) => "untouched".to_owned(),
    }
}

/// `delay 50ms -> delay 50ms loss 1%` where it changes.
fn shaping(result: &ContainerResult, direction: Direction) -> String {
    let of = |lines: &[InForce]| {
        let line = lines.iter().find(|line| line.direction == direction);
        line.map_or_else(|| "-".to_owned(), line_of)
    };
    let (before, after) = (of(&result.before), of(&result.after));
    match result.end.is_done() {
        true if before != after => format!("{before} -> {after}"),
        true => after,
        false => before,
    }
}

fn line_of(line: &InForce) -> String {
    let targets = match line.targets {
        0 => None,
        1 => Some("1 target".to_owned()),
        number => Some(format!("{number} targets")),
    };
    let words = Some(line.netem.clone()).filter(|words| !words.is_empty());
    let parts: Vec<_> = words.into_iter().chain(targets).collect();
    if parts.is_empty() { "prepared".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::fake;

    fn line(direction: Direction, netem: &str, targets: usize) -> InForce {
        InForce {
            interface: "eth0".to_owned(),
            direction,
            netem: netem.to_owned(),
            targets,
            remaining_ms: None,
        }
    }

    #[test]
    fn each_container_has_a_line_with_what_was_done_to_it() {
        let result = |name: &str, end: Completion, before: &[InForce], after: &[InForce]| ContainerResult {
            container: crate::shaping::Container { name: name.to_owned(), ..fake::web().container },
            shared_with: Vec::new(),
            end,
            before: before.to_vec(),
            after: after.to_vec(),
        };
        let loss = [line(Direction::Egress, "loss 1%", 0)];
        let both = [line(Direction::Egress, "loss 1%", 2), line(Direction::Ingress, "delay 50ms", 0)];
        let refused = Completion::Refused("it has no network interface".to_owned());
        let stopped = Completion::Skipped("it is stopped".to_owned());
        let mut pod = result("pod", Completion::Planned, &[], &loss);
        pod.shared_with = ["a", "b", "c"].map(str::to_owned).to_vec();
        let results = vec![
            result("web", Completion::Changed, &loss, &both),
            result("same", Completion::Changed, &loss, &loss),
            pod,
            result("db", refused, &loss, &[]),
            result("old", stopped, &[], &[]),
            result("back", Completion::Restored, &loss, &loss),
        ];
        insta::assert_snapshot!(table(&Changed { results }, Done::Set), @r#"
        NAME                  ID            RESULT                                EGRESS                         INGRESS
        web                   c0ffee000000  set                                   loss 1% -> loss 1%, 2 targets  - -> delay 50ms
        same                  c0ffee000000  set                                   loss 1%                        -
        pod, a, b and 1 more  c0ffee000000  would be set                          - -> loss 1%                   -
        db                    c0ffee000000  refused: it has no network interface  loss 1%                        -
        old                   c0ffee000000  left out: it is stopped               -                              -
        back                  c0ffee000000  put back                              loss 1%                        -
        "#);
        assert_eq!(table(&Changed::default(), Done::Set), "no container fits\n");
    }
}
