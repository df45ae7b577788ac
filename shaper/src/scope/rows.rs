//! Rows of the tables and lines of metadata of a container.

use std::{borrow::Cow, collections::BTreeSet};

use super::{networks::Networks, report::Rows};
use crate::shaping::{ContainerView, Direction, OUTCOMES, Shaping};

/// The metadata keys must not begin with it, or they would be rows of the table.
pub(super) const ROW_PREFIX: &str = "traffic-control-table-";
/// Must not begin with the other prefix: rows of one table would be rows of both.
pub(super) const COUNT_PREFIX: &str = "traffic-control-count-";

/// The key of a row of the first table.
macro_rules! row {
    ($name:literal) => {
        concat!("traffic-control-table-", $name)
    };
}

/// The key of a row of the table of counts.
macro_rules! count {
    ($name:literal) => {
        concat!("traffic-control-count-", $name)
    };
}

/// All that is set, in a line.
pub(super) const SUMMARY: &str = "traffic-control-summary";
pub(super) const LATENCY: &str = "traffic-control-latency";
pub(super) const LOSS: &str = "traffic-control-pktloss";
/// The value of a row that has none.
pub(super) const NOT_SET: &str = "-";
/// A policy may have more targets than anybody reads in a table.
const MAX_TARGET_ROWS: usize = 32;

/// The rows that every container has, shaped or not.
pub(super) fn fixed(view: &ContainerView) -> Rows<String> {
    let latency = both_ways(view, |shaping| shaping.overall_latency().map(|latency| latency.to_string()));
    let loss = both_ways(view, |shaping| shaping.overall_loss().map(|loss| loss.to_string()));
    [(row!("latency"), &latency), (row!("pktloss"), &loss), (LATENCY, &latency), (LOSS, &loss)]
        .map(|(row, text)| (row.into(), text.clone()))
        .into()
}

/// The rows that come and go with what is set.
pub(super) fn passing(view: &ContainerView, networks: &Networks) -> Rows<String> {
    let mut rows: Rows<String> = policy_rows(view).into_iter().collect();
    if !view.interfaces.is_empty() {
        rows.extend(counts(view).map(|(row, count)| (row, count.to_string())));
    }
    let preset = networks.name_of(view);
    if let Some(preset) = preset {
        rows.insert(row!("preset").into(), preset.to_owned());
    }
    let remaining = view.remaining().map(|remaining| humantime::format_duration(remaining).to_string());
    if let Some(summary) = summary(view, preset) {
        let end = remaining.as_ref().map(|remaining| format!(", ends in {remaining}"));
        rows.insert(SUMMARY.into(), summary + &end.unwrap_or_default());
    }
    rows.extend(remaining.map(|remaining| (row!("remaining").into(), remaining)));
    rows
}

/// Counts of packets; those of rare outcomes if there are any.
fn counts(view: &ContainerView) -> impl Iterator<Item = (Cow<'static, str>, u64)> {
    let totals = view.totals();
    let always = [
        (count!("packets").into(), totals.passed),
        (count!("delayed").into(), totals.delayed),
        (count!("dropped").into(), totals.dropped),
    ];
    let rare = OUTCOMES.iter().filter(|outcome| outcome.is_rare).map(|outcome| {
        let packets = view.interfaces.iter().map(|view| view.outcomes.of(outcome.name).packets);
        (format!("{COUNT_PREFIX}{}", outcome.name).into(), packets.fold(0, u64::saturating_add))
    });
    always.into_iter().chain(rare.filter(|(_, count)| *count > 0))
}

/// All effects in netem's words where latency and loss are not all, and those of targets.
fn policy_rows(view: &ContainerView) -> Vec<(Cow<'static, str>, String)> {
    let policies = || [Direction::Egress, Direction::Ingress].into_iter().filter_map(|way| view.shaping(way));
    let mut rows = Vec::new();
    if policies().any(|shaping| !shaping.is_simple()) {
        rows.push((row!("netem").into(), set_both_ways(view, words)));
    }
    let rules = policies().flat_map(|shaping| shaping.targets().map(|(rule, _)| rule));
    for rule in rules.take(MAX_TARGET_ROWS).collect::<BTreeSet<_>>() {
        let words = set_both_ways(view, |shaping| {
            shaping.targets().find(|(other, _)| *other == rule).map(|(_, words)| words)
        });
        let words = match without_address(view, &rule) {
            Some(name) => format!("{words}; nothing yet: {name} has no address"),
            None => words,
        };
        rows.push((format!("{ROW_PREFIX}to {rule}").into(), words));
    }
    rows
}

/// A name in a target that stands for no address.
fn without_address<'a>(view: &'a ContainerView, rule: &str) -> Option<&'a str> {
    let mut names = view.interfaces.iter().flat_map(|view| &view.names);
    let of_target = |name: &str| rule.split([' ', '!']).any(|word| word == name);
    names.find(|named| named.addresses.is_empty() && of_target(&named.name)).map(|named| named.name.as_str())
}

/// The preset, or all in netem's words, if anything is set.
fn summary(view: &ContainerView, preset: Option<&str>) -> Option<String> {
    let is_broken = [Direction::Egress, Direction::Ingress].into_iter().any(|way| view.fault(way).is_some());
    let text = match preset {
        Some(preset) if !is_broken => format!("preset {preset}"),
        _ => both_ways(view, |shaping| {
            words(shaping).or_else(|| Some(format!("targets: {}", shaping.targets().count())))
        }),
    };
    (text != NOT_SET).then_some(text)
}

/// Returns the effects on packets of no target.
fn words(shaping: &Shaping) -> Option<String> {
    Some(shaping.words()).filter(|words| !words.is_empty())
}

/// Returns the setting in each direction; a shaping that is broken says so in its place.
fn both_ways(view: &ContainerView, setting: impl Fn(&Shaping) -> Option<String>) -> String {
    in_words(|way| {
        let fault = view.fault(way).map(ToString::to_string);
        fault.or_else(|| view.shaping(way).and_then(&setting))
    })
}

/// Returns the setting in each direction.
fn set_both_ways(view: &ContainerView, setting: impl Fn(&Shaping) -> Option<String>) -> String {
    in_words(|way| view.shaping(way).and_then(&setting))
}

/// `500ms` for what is sent only, as the old plugin knew nothing else; else both ways by name.
fn in_words(text: impl Fn(Direction) -> Option<String>) -> String {
    match [Direction::Egress, Direction::Ingress].map(text) {
        [None, None] => NOT_SET.to_owned(),
        [Some(out), None] => out,
        [None, Some(back)] => format!("{back} in"),
        [Some(out), Some(back)] if out == back => format!("{out} each way"),
        [Some(out), Some(back)] => format!("{out} out, {back} in"),
    }
}
