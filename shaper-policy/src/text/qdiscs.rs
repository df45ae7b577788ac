//! Qdiscs other than netem, which `tc` lists or sets.

use crate::model::{PolicyError, short};

/// Qdiscs that `tc qdisc show` lists where nobody shapes.
pub(super) const PLAIN_QDISCS: [&str; 9] =
    ["noqueue", "noop", "pfifo_fast", "pfifo", "mq", "fq", "fq_codel", "clsact", "ingress"];

/// The error for what netem does not do, with what does the same here.
pub(super) fn refused(text: &str, what: &str) -> PolicyError {
    let value = |name: &str| {
        let mut words = text.split_whitespace().skip_while(|word| *word != name).skip(1);
        words.next().map(short)
    };
    let hint = match (value("rate"), value("latency")) {
        (Some(rate), Some(latency)) => format!("the same here is `rate {rate} queue {latency}`"),
        (Some(rate), None) => format!("the same here is `rate {rate}`, with `queue` for what may wait"),
        (None, _) => "targets are chosen by `--to`".to_owned(),
    };
    match what {
        "" => PolicyError::unsupported(text, "names no qdisc"),
        "tbf" | "htb" | "hfsc" | "cbq" | "class" | "filter" => {
            PolicyError::unsupported(what, format!("is not netem; {hint}"))
        }
        _ => PolicyError::unsupported(what, "of tc's is not understood, only netem is"),
    }
}
