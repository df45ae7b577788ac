//! The output of a bench: each table as one line of JSON after `bench: `, among lines for people.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

const MARK: &[u8] = b"bench: ";

/// Takes what a bench prints as it comes, and keeps its tables.
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    tables: Vec<Vec<u8>>,
}

impl Lines {
    /// Takes some bytes; returns those that are for people.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut for_people = Vec::new();
        for &byte in bytes {
            self.line.push(byte);
            if byte != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            match line.strip_prefix(MARK) {
                Some(table) => self.tables.push(table.to_vec()),
                None => for_people.extend(line),
            }
        }
        for_people
    }

    /// The tables, at the end.
    pub(super) fn tables(self) -> Result<Vec<Table>> {
        if self.tables.is_empty() {
            bail!("the bench printed no table");
        }
        let parse = |line: Vec<u8>| -> Result<Table> {
            Ok(Table { value: serde_json::from_slice(&line).context("parse a table")? })
        };
        self.tables.into_iter().map(parse).collect()
    }
}

/// A table, as `tests/src/bin/bench/table.rs` makes it.
pub(super) struct Table {
    pub(super) value: Value,
}

impl Table {
    /// Adds to the title where it was measured.
    pub(super) fn measured_on(&mut self, place: &str) {
        let title = self.value["title"].as_str().unwrap_or_default();
        self.value["title"] = format!("{title}; {place}").into();
    }

    /// The table with its method and its bounds.
    pub(super) fn to_markdown(&self) -> String {
        let text = |name: &str| self.value[name].as_str().unwrap_or_default().to_owned();
        let line = |cells: &Value| {
            let cells = cells.as_array().into_iter().flatten().map(|cell| cell.as_str().unwrap_or_default());
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let columns = self.value["header"].as_array().map_or(0, Vec::len);
        let mut markdown = format!("#### {}\n\n{}\n\n", text("title"), text("method"));
        markdown += &line(&self.value["header"]);
        markdown += &format!("|---|{}\n", "---:|".repeat(columns.saturating_sub(1)));
        self.each("rows").for_each(|row| markdown += &line(row));
        let held = self.each("bounds").filter(|bound| bound["held"] == true).count();
        let count = self.each("bounds").count();
        if count > 0 {
            markdown += &format!("\nBounds held: {held} of {count}.\n");
        }
        self.broken_bounds().for_each(|bound| markdown += &format!("- Not held: {bound}\n"));
        markdown
    }

    /// The bounds that are not held, for people.
    pub(super) fn broken_bounds(&self) -> impl Iterator<Item = String> {
        self.each("bounds").filter(|bound| bound["held"] == false).map(|bound| {
            let figure = |name: &str| {
                let figure = bound[name].as_f64().unwrap_or(f64::NAN);
                format!("{:.*}", if figure.abs() < 100.0 { 3 } else { 0 }, figure)
            };
            let what = bound["what"].as_str().unwrap_or_default();
            format!("{what}: {}, where the limit is {}", figure("measured"), figure("limit"))
        })
    }

    fn each(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.value[name].as_array().into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"{"title":"Cost","method":"Counted.","header":["policy","netem","shaper"],"rows":[["1 ms","+2","+1"]],
        "bounds":[{"what":"1 ms","measured":1.0,"limit":2.0,"held":true},{"what":"2 ms","measured":3000.4,"limit":2.5,"held":false}]}"#;

    #[test]
    fn tables_are_found_however_the_bytes_are_cut() {
        let output = format!("one\nbench: {}\ntwo\n", TABLE.replace('\n', ""));
        for size in 1..40 {
            let mut lines = Lines::default();
            let for_people: Vec<u8> =
                output.as_bytes().chunks(size).flat_map(|piece| lines.feed(piece)).collect();
            assert_eq!(for_people, b"one\ntwo\n");
            assert_eq!(lines.tables().expect("there is one").len(), 1);
        }
    }

    #[test]
    fn a_table_says_which_bounds_are_not_held() {
        let table = Table { value: serde_json::from_str(TABLE).expect("it is JSON") };
        let expected = "#### Cost\n\nCounted.\n\n| policy | netem | shaper |\n|---|---:|---:|\n| 1 ms | +2 | +1 |\n\n\
                        Bounds held: 1 of 2.\n- Not held: 2 ms: 3000, where the limit is 2.500\n";
        assert_eq!(table.to_markdown(), expected);
    }

    #[test]
    fn a_bench_without_a_table_has_failed() {
        assert!(Lines::default().tables().is_err());
    }
}
