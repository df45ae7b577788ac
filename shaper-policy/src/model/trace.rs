//! Packet-delivery traces, as Mahimahi has them: one opportunity to deliver a packet per line, in milliseconds.

use std::sync::Arc;

use shaper_common::policy::DELIVERY_BYTES;

use super::{distribution::content, error::PolicyError};

/// The most opportunities of a trace: as many as the kernel searches (`shaper_common::bottleneck::Trace::next`).
pub(crate) const MAX_OPPORTUNITIES: usize = 1_000_000;

/// A bottleneck that carries packets when its trace says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The name.
    pub name: String,
    /// The times of the opportunities, in milliseconds from its beginning, in order; the last one is its length.
    pub times_ms: Arc<[u32]>,
}

impl Trace {
    /// Makes a trace of these times, in milliseconds.
    ///
    /// # Errors
    ///
    /// When there are none or more than 1,000,000, one is earlier than the one before it (says which, from 1 on), the
    /// last one is 0, or the name is not one word.
    pub fn from_times(name: &str, times_ms: impl Into<Arc<[u32]>>) -> Result<Self, PolicyError> {
        let times_ms = times_ms.into();
        if let Some(at) = times_ms.windows(2).position(|pair| pair[0] > pair[1]) {
            let (before, time) = (times_ms[at], times_ms[at + 1]);
            return Err(backwards(time, before).within(format!("trace {name}, opportunity {}", at + 2)));
        }
        Self::of_ordered(name, times_ms)
    }

    /// Parses a trace: a time in milliseconds on each line, and comments from `#` on.
    ///
    /// # Errors
    ///
    /// As [`Self::from_times`], and when a line is no whole number from 0 to 4294967295; names the line.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        let mut times_ms = Vec::new();
        for (number, line) in content(text) {
            let at = |error: PolicyError| error.within(format!("trace {name}, line {number}"));
            let time = line
                .parse()
                .map_err(|_| at(PolicyError::invalid("time", line, "a whole number of milliseconds")))?;
            let before = times_ms.last().copied().unwrap_or_default();
            if time < before {
                return Err(at(backwards(time, before)));
            }
            if times_ms.len() == MAX_OPPORTUNITIES {
                return Err(at(too_long()));
            }
            times_ms.push(time);
        }
        Self::of_ordered(name, times_ms.into())
    }

    /// Returns its mean rate, in bits per second, with [`DELIVERY_BYTES`] at each opportunity.
    pub fn mean_rate(&self) -> u64 {
        let length_ms = self.times_ms.last().map_or(1, |&last| u64::from(last));
        self.times_ms.len() as u64 * u64::from(DELIVERY_BYTES) * 8 * 1_000 / length_ms
    }

    fn of_ordered(name: &str, times_ms: Arc<[u32]>) -> Result<Self, PolicyError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PolicyError::invalid("name of a trace", name, "one word"));
        }
        if times_ms.len() > MAX_OPPORTUNITIES {
            return Err(too_long().within(format!("trace {name}")));
        }
        match times_ms.last() {
            None => Err(PolicyError::contradiction(
                format!("trace {name} is empty"),
                "it needs at least one opportunity",
            )),
            Some(0) => Err(PolicyError::contradiction(
                format!("trace {name} ends at 0 ms"),
                "its last opportunity is its length, and has to be later",
            )),
            Some(_) => Ok(Self { name: name.to_owned(), times_ms }),
        }
    }
}

fn too_long() -> PolicyError {
    PolicyError::too_many("opportunities", MAX_OPPORTUNITIES, "cut the trace")
}

fn backwards(time: u32, before: u32) -> PolicyError {
    PolicyError::contradiction(
        format!("{time} ms is earlier than {before} ms before it"),
        "opportunities have to be in order",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_trace_is_times_in_order() {
        let trace = Trace::parse("lte", "# a bottleneck\n0\n0\n5\n\n10\n").expect("a trace");
        assert_eq!(*trace.times_ms, [0, 0, 5, 10]);
        assert_eq!(trace.name, "lte");
    }

    #[test]
    fn a_link_of_one_packet_a_millisecond_carries_12_mbit() {
        let trace = Trace::parse("constant", "1").expect("a trace");
        assert_eq!(trace.mean_rate(), 12_032_000);
        let trace = Trace::from_times("burst", [0, 0, 0, 4]).expect("a trace");
        assert_eq!(trace.mean_rate(), 12_032_000);
    }

    #[test]
    fn bad_traces_say_what_is_wrong_and_where() {
        for (name, text, error) in [
            (
                "lte",
                "1\n3\n2",
                "trace lte, line 3: 2 ms is earlier than 3 ms before it: opportunities have to be in order",
            ),
            (
                "lte",
                "1\n\n2.5",
                "trace lte, line 3: invalid time \"2.5\": expected a whole number of milliseconds",
            ),
            ("lte", "-1", "trace lte, line 1: invalid time \"-1\": expected a whole number of milliseconds"),
            ("lte", "", "trace lte is empty: it needs at least one opportunity"),
            (
                "lte",
                "0\n0",
                "trace lte ends at 0 ms: its last opportunity is its length, and has to be later",
            ),
            ("", "1", "invalid name of a trace \"\": expected one word"),
        ] {
            assert_eq!(Trace::parse(name, text).expect_err(error).to_string(), error);
        }
        assert_eq!(
            Trace::from_times("lte", [1, 3, 2]).expect_err("backwards").to_string(),
            "trace lte, opportunity 3: 2 ms is earlier than 3 ms before it: opportunities have to be in order"
        );
    }

    #[test]
    fn a_trace_of_a_million_opportunities_is_the_longest() {
        let text = "7\n".repeat(MAX_OPPORTUNITIES);
        assert!(Trace::parse("long", &text).is_ok());
        let error = Trace::parse("long", &(text + "7")).expect_err("too long").to_string();
        assert_eq!(
            error.to_string(),
            "trace long, line 1000001: too many opportunities: the most are 1000000; cut the trace"
        );
    }

    proptest! {
        #[test]
        fn a_trace_survives_its_text(mut times in prop::collection::vec(any::<u32>(), 1..100)) {
            times.sort_unstable();
            times.push(u32::MAX);
            let text: String = times.iter().map(|time| format!("{time}\n")).collect();
            prop_assert_eq!(Trace::parse("lte", &text), Trace::from_times("lte", times));
        }

        #[test]
        fn what_is_parsed_is_in_order_and_ends_after_it_begins(text in "([0-9]{1,3}\n){0,5}") {
            if let Ok(trace) = Trace::parse("lte", &text) {
                prop_assert!(trace.times_ms.is_sorted());
                prop_assert!(trace.times_ms.last().is_some_and(|&last| last > 0));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9. \n#e]*|.*") {
            let _ = Trace::parse("lte", &text);
        }
    }
}
