//! Qdiscs other than netem, which `tc` lists or sets.

use crate::model::{quoted, short};

/// Qdiscs that `tc qdisc show` lists where nobody shapes.
pub(super) const PLAIN_QDISCS: [&str; 9] =
    ["noqueue", "noop", "pfifo_fast", "pfifo", "mq", "fq", "fq_codel", "clsact", "ingress"];

/// The error for what netem does not do, with what does the same here.
pub(super) fn refused(text: &str, what: &str) -> String {
    let value = |name: &str| {
        let mut words = text.split_whitespace().skip_while(|word| *word != name).skip(1);
        words.next().map(short)
    };
    let hint = match (value("rate"), value("latency")) {
        (Some(rate), Some(latency)) => format!("; the same here is `rate {rate} queue {latency}`"),
        (Some(rate), None) => format!("; the same here is `rate {rate}`, with `queue` for what may wait"),
        (None, _) => "; targets are chosen by `--to`".to_owned(),
    };
    match what {
        "" => format!("{} names no qdisc", quoted(text)),
        "tbf" | "htb" | "hfsc" | "cbq" | "class" => format!("{what} is not netem{hint}"),
        _ => format!(
            "{} of tc's is not understood, only netem is{}",
            quoted(what),
            if what == "filter" { &hint } else { "" }
        ),
    }
}
