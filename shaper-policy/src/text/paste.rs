//! Text pasted from a shell: commands of `tc`, and what `tc qdisc show` prints, as text and as JSON.
//!
//! All of it is understood, or all of it refused, with the part that is not understood.

use std::borrow::Cow;

use super::{
    paste_json,
    qdiscs::{PLAIN_QDISCS, refused},
};
use crate::model::{PolicyError, short};

/// The effects of a text, in netem's words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pasted<'a> {
    /// The words in force in the end.
    pub(super) words: Cow<'a, str>,
    /// Words of commands that later ones undo. They are to be read as well.
    pub(super) undone: Vec<&'a str>,
}

/// Finds the words of effects in a text. One without `tc` or `qdisc` in front is taken for such words as it is.
///
/// # Errors
///
/// When a command does something else than set or delete netem on one device.
pub(super) fn read(text: &str) -> Result<Pasted<'_>, PolicyError> {
    let text = text.trim_start();
    if text.starts_with('[') {
        return Ok(Pasted { words: paste_json::words(text)?.into(), undone: Vec::new() });
    }
    if !commands(text).any(|command| Command::of(command).is_some()) {
        return Ok(Pasted { words: bare(text), undone: Vec::new() });
    }
    let (mut pasted, mut device, mut is_shown) = (Pasted::default(), None, false);
    for text in commands(text) {
        if is_shown && is_statistics(text) {
            continue;
        }
        let command = Command::of(text).ok_or_else(|| {
            PolicyError::unsupported(text, "is neither a command of tc nor a line of `tc qdisc show`")
        })?;
        is_shown = command == Command::Show;
        let Some(qdisc) = Qdisc::read(command, text)? else { continue };
        if let Some(other) = device.filter(|device| *device != qdisc.device) {
            let what = format!("there are two devices, {} and {}", short(other), short(qdisc.device));
            return Err(PolicyError::contradiction(what, "paste what belongs to one of them"));
        }
        device = Some(qdisc.device);
        if let Cow::Borrowed(words) = pasted.words {
            pasted.undone.push(words);
        }
        match qdisc.is_deleted {
            true => {
                pasted.undone.push(qdisc.words);
                pasted.words = "".into();
            }
            false => pasted.words = qdisc.words.into(),
        }
    }
    Ok(pasted)
}

/// The commands of a shell's text, `\` before a line's end not ending one.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    let ends = move |c: char| {
        let ends = c == ';' || (c == '\n' && !escaped);
        escaped = c == '\\' || (escaped && c == '\r');
        ends
    };
    text.split(ends).map(str::trim).filter(|command| !command.is_empty() && !command.starts_with("# "))
}

/// Words without a command, with what a shell would have taken away.
fn bare(text: &str) -> Cow<'_, str> {
    let text = match text.split_once(char::is_whitespace) {
        Some(("netem", words)) => words,
        _ => text,
    };
    if text.contains(['\\', ';']) { text.replace(['\\', ';'], " ").into() } else { text.into() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// A command line of tc.
    Tc,
    /// A line of its output.
    Show,
}

impl Command {
    fn of(text: &str) -> Option<Self> {
        words(text).find(|word| !is_prompt(word)).and_then(|word| match word {
            "qdisc" => Some(Self::Show),
            word if word.rsplit('/').next() == Some("tc") => Some(Self::Tc),
            _ => None,
        })
    }
}

/// A qdisc in a command or in a line of output.
struct Qdisc<'a> {
    device: &'a str,
    is_deleted: bool,
    /// The words behind `netem`.
    words: &'a str,
}

impl<'a> Qdisc<'a> {
    /// Reads a command; none of one that shapes nothing.
    fn read(command: Command, text: &'a str) -> Result<Option<Self>, PolicyError> {
        let mut words = words(text).skip_while(|word| is_prompt(word)).peekable();
        words.next();
        let verb = match command {
            Command::Show => "show",
            Command::Tc => {
                while words.next_if(|word| word.starts_with('-')).is_some() {}
                let object = words.next().unwrap_or_default();
                if object != "qdisc" {
                    return Err(refused(text, object));
                }
                words.next().unwrap_or_default()
            }
        };
        let is_deleted = matches!(verb, "del" | "delete");
        if !is_deleted && !matches!(verb, "add" | "change" | "replace" | "link" | "show") {
            let why = "of tc's is not understood: paste a line with add, change, replace or del, or what `tc qdisc show` \
                       prints";
            return Err(PolicyError::unsupported(&format!("qdisc {verb}"), why));
        }
        let (mut device, mut kind) = ("", None);
        if command == Command::Show {
            kind = words.next();
        }
        while let Some(word) = words.peek().copied() {
            match word {
                "dev" => {
                    words.next();
                    device = words.next().unwrap_or_default();
                }
                "parent" | "handle" | "refcnt" => drop((words.next(), words.next())),
                "root" | "offloaded" => drop(words.next()),
                word if command == Command::Show && word.ends_with(':') => drop(words.next()),
                word if command == Command::Tc && kind.is_none() => {
                    kind = Some(word);
                    words.next();
                    break;
                }
                _ => break,
            }
        }
        let rest = words.next().map_or("", |word| &text[word.as_ptr() as usize - text.as_ptr() as usize..]);
        match kind {
            Some("netem") => Ok(Some(Self { device, is_deleted, words: rest })),
            None if is_deleted => Ok(Some(Self { device, is_deleted, words: "" })),
            Some(kind) if command == Command::Show && PLAIN_QDISCS.contains(&kind) => Ok(None),
            kind => Err(refused(text, kind.unwrap_or_default())),
        }
    }
}

/// Words of a command, without those that only join its lines.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().filter(|word| *word != "\\")
}

fn is_prompt(word: &str) -> bool {
    matches!(word, "$" | "#" | "sudo")
}

/// Lines that `tc -s qdisc show` prints below a qdisc.
fn is_statistics(text: &str) -> bool {
    ["Sent ", "backlog ", "rate ", "delayed "].iter().any(|first| text.starts_with(first))
}

#[cfg(test)]
mod tests {
    use crate::{
        model::Effects,
        samples::{effects, named},
    };

    #[test]
    fn lines_pasted_from_tc_are_read() {
        for (line, shown) in [
            ("tc qdisc add dev eth0 root netem delay 100ms 20ms 25%", "delay 100ms 20ms 25%"),
            ("sudo tc qdisc change dev eth0 parent 1:1 handle 10: netem loss 0.3% 25%", "loss 0.3% 25%"),
            (
                "qdisc netem 8001: root refcnt 2 limit 1000 delay 100ms  20ms 25%",
                "limit 1000 delay 100ms 20ms 25%",
            ),
            (
                "qdisc netem 8002: dev eth0 root refcnt 13 limit 1000 delay 100.0ms reorder 25% 50% gap 5\n",
                "limit 1000 delay 100ms reorder 25% 50% gap 5",
            ),
            (
                "qdisc netem 8003: parent 1:3 limit 1000 loss gemodel p 1% r 10% 1-h 100% 1-k 0% ecn ",
                "limit 1000 loss gemodel 1% 10% ecn",
            ),
            (
                "qdisc netem 8004: root refcnt 2 limit 1000 loss state p13 1% p31 10% p32 5% p23 30% p14 2% seed 7",
                "limit 1000 loss state 1% 10% 5% 30% 2% seed 7",
            ),
            (
                "qdisc netem 8005: root refcnt 2 limit 1000 rate 1Mbit packetoverhead 14 cellsize 48 celloverhead 5",
                "limit 1000 rate 1Mbit 14 48 5",
            ),
            (
                "qdisc netem 8006: root refcnt 2 limit 1000 rate 256Kbit cellsize 48",
                "limit 1000 rate 256Kbit 0 48",
            ),
            (
                "qdisc netem 8007: root refcnt 2 limit 1000 slot 800us 1ms packets 42 bytes 512",
                "limit 1000 slot 0.8ms 1ms packets 42 bytes 512",
            ),
            ("netem delay 100ms", "delay 100ms"),
            ("delay 100ms;", "delay 100ms"),
            ("delay 100ms \\\n  loss 1%\n", "delay 100ms loss 1%"),
            ("$ sudo tc qdisc add dev eth0 root netem delay 1ms;", "delay 1ms"),
            ("/sbin/tc -s qdisc replace dev eth0 root handle 1: netem \\\n delay 1ms", "delay 1ms"),
            ("tc qdisc del dev eth0 root", ""),
            ("tc qdisc del dev eth0 root netem loss 100%", ""),
            ("tc qdisc del dev eth0 root\ntc qdisc add dev eth0 root netem delay 2ms", "delay 2ms"),
            ("tc qdisc add dev eth0 root netem delay 2ms; tc qdisc delete dev eth0 root", ""),
            (
                "tc qdisc add dev eth0 root netem delay 2ms\ntc qdisc change dev eth0 root netem loss 1%",
                "loss 1%",
            ),
            (
                "qdisc netem 8001: root refcnt 2 limit 1000 delay 100ms\n Sent 196 bytes 2 pkt (dropped 0, overlimits 0 \
             requeues 0)\n backlog 0b 0p requeues 0\n",
                "limit 1000 delay 100ms",
            ),
            (
                "qdisc noqueue 0: dev lo root refcnt 2\nqdisc netem 8001: dev eth0 root refcnt 2 limit 1000 loss 1%",
                "limit 1000 loss 1%",
            ),
            (
                r#"[{"kind":"netem","handle":"8001:","dev":"eth0","root":true,"refcnt":2,"options":{"limit":1000,
                "delay":{"delay":0.1,"jitter":0.02,"correlation":0.25},"loss-random":{"loss":0.01,"correlation":0},
                "reorder":{"reorder":0.25,"correlation":0.5},"rate":{"rate":125000,"packetoverhead":14,"cellsize":48,
                "celloverhead":5},"slot":{"min-delay":0.0008,"max-delay":0.001,"packets":42,"bytes":512},"seed":7,
                "ecn":true,"gap":5}},{"kind":"noqueue","handle":"0:","dev":"lo","root":true,"options":{}}]"#,
                "limit 1000 delay 100ms 20ms 25% loss 1% ecn reorder 25% 50% gap 5 seed 7 rate 1Mbit 14 48 5 slot 0.8ms 1ms \
             packets 42 bytes 512",
            ),
            (
                r#"[{"kind":"netem","options":{"limit":1000,"loss-gemodel":{"p":0.01,"r":0.1,"1-h":1,"1-k":0},"ecn":false,
            "gap":0}}]"#,
                "limit 1000 loss gemodel 1% 10%",
            ),
            ("[]", ""),
        ] {
            assert_eq!(effects(line).to_string(), shown, "{line}");
        }
    }

    #[test]
    fn what_was_pasted_and_is_not_netem_is_refused_whole() {
        for (text, said) in [
            (
                "tc qdisc add dev eth0 root tbf rate 1mbit burst 32kbit latency 400ms",
                "\"tbf\" is not netem; the same here is `rate 1mbit queue 400ms`",
            ),
            (
                "tc qdisc add dev eth0 root handle 1: htb default 10\ntc class add dev eth0 parent 1: classid 1:10 htb rate \
             10mbit\ntc qdisc add dev eth0 parent 1:10 netem delay 1ms",
                "\"htb\" is not netem; targets are chosen by `--to`",
            ),
            (
                "tc class add dev eth0 parent 1: classid 1:10 htb rate 10mbit",
                "\"class\" is not netem; the same here is `rate 10mbit`, with `queue` for what may wait",
            ),
            (
                "tc qdisc add dev eth0 root handle 1: prio",
                "\"prio\" of tc's is not understood, only netem is",
            ),
            (
                "tc filter add dev eth0 parent 1: u32 match ip dst 10.0.0.1 flowid 1:1",
                "\"filter\" is not netem; targets are chosen by `--to`",
            ),
            (
                "tc qdisc add dev eth0 root netem delay 1ms\nrm -rf /tmp/x",
                "\"rm -rf /tmp/x\" is neither a command of tc nor a line of `tc qdisc show`",
            ),
            (
                "tc qdisc add dev eth0 root netem delay 1ms; tc qdisc add dev eth1 root netem delay 2ms",
                "there are two devices, eth0 and eth1: paste what belongs to one of them",
            ),
            (
                "tc qdisc del dev eth0 root netem losss 100%",
                "unknown keyword \"losss\"; did you mean \"loss\"?",
            ),
            ("tc qdisc add dev eth0 root", "\"tc qdisc add dev eth0 root\" names no qdisc"),
            ("tc qdisc get dev eth0", "\"qdisc get\" of tc's is not understood"),
            (
                "qdisc tbf 8001: root refcnt 2 rate 1Mbit burst 4Kb lat 50ms",
                "\"tbf\" is not netem; the same here is `rate 1Mbit`",
            ),
            (
                "qdisc netem 8001: root limit 1000 delay 1ms\nSend 7 bytes",
                "\"Send 7 bytes\" is neither a command of tc",
            ),
            (
                r#"[{"kind":"netem","options":{"limits":1}}]"#,
                "\"limits\" is an option of netem that is not understood: 1",
            ),
            (r#"[{"kind":"netem"},{"kind":"netem"}]"#, "there are several netem qdiscs"),
            (r#"[{"kind":"htb","options":{}}]"#, "\"htb\" is not netem"),
            ("[{", "\"[{\" is not what `tc -j qdisc show` prints"),
        ] {
            let error = Effects::parse(text, &named()).expect_err(text).to_string();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
