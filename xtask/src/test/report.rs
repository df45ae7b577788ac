//! Counts what libtest says, and shows it as a table.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Reads the output of test executables as it comes, and adds up their result lines.
#[derive(Default)]
pub(super) struct Tally {
    line: Vec<u8>,
    passed: u32,
    failed: u32,
}

impl Tally {
    /// Takes a piece of output.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some((passed, failed)) = parse(&String::from_utf8_lossy(&line)) {
                self.passed += passed;
                self.failed += failed;
            }
        }
    }

    /// The result of the executable that printed all this.
    pub(super) fn finish(self, title: String, succeeded: bool, time: Duration) -> Row {
        Row { title, passed: self.passed, failed: self.failed, succeeded, time }
    }
}

/// The counts in `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn parse(line: &str) -> Option<(u32, u32)> {
    // What a test printed without a newline may stand before it.
    let (_, result) = line.split_once("test result: ")?;
    let (_, counts) = result.split_once(". ")?;
    let count = |label: &str| {
        let count = counts.split("; ").find_map(|part| part.strip_suffix(label));
        count?.trim().parse().ok()
    };
    Some((count(" passed")?, count(" failed")?))
}

/// The result of one test executable.
pub(super) struct Row {
    title: String,
    passed: u32,
    failed: u32,
    succeeded: bool,
    time: Duration,
}

/// The results of all test executables.
#[derive(Default)]
pub(super) struct Report(pub(super) Vec<Row>);

impl Report {
    /// Returns true if nothing failed.
    pub(super) fn succeeded(&self) -> bool {
        self.0.iter().all(|row| row.succeeded)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.title.len()).max().unwrap_or(0).max("executable".len());
        writeln!(f, "{:width$}  passed  failed    time", "executable")?;
        for Row { title, passed, failed, succeeded, time } in &self.0 {
            let verdict = match (succeeded, failed) {
                (true, _) => "",
                (false, 0) => "  FAILED (it did not end as tests do)",
                (false, _) => "  FAILED",
            };
            writeln!(f, "{title:width$}  {passed:6}  {failed:6}  {:4.1} s{verdict}", time.as_secs_f64())?;
        }
        let passed: u32 = self.0.iter().map(|row| row.passed).sum();
        let failed: u32 = self.0.iter().map(|row| row.failed).sum();
        let verdict = if self.succeeded() { "ok" } else { "FAILED" };
        write!(f, "{verdict}: {passed} passed, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up_however_the_bytes_are_cut() {
        let output = b"\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
            noise test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.02s\n\
            test result: unknown\n";
        for size in 1..output.len() {
            let mut tally = Tally::default();
            output.chunks(size).for_each(|piece| tally.feed(piece));
            assert_eq!((tally.passed, tally.failed), (13, 1), "in pieces of {size}");
        }
    }

    #[test]
    fn an_executable_that_crashes_fails_the_whole() {
        let mut tally = Tally::default();
        tally.feed(b"test result: ok. 2 passed; 0 failed; 0 ignored\n");
        let fine = tally.finish("one".into(), true, Duration::from_millis(1500));
        let crashed = Tally::default().finish("two".into(), false, Duration::ZERO);
        let report = Report(vec![fine, crashed]);
        assert!(!report.succeeded());
        let expected = "\
executable  passed  failed    time
one              2       0   1.5 s
two              0       0   0.0 s  FAILED (it did not end as tests do)
FAILED: 2 passed, 0 failed";
        assert_eq!(report.to_string(), expected);
    }
}
