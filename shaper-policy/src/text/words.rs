//! Reads effects from words: netem's as `tc` takes and shows them (iproute2's `q_netem.c`), and our own.

use std::{iter::Peekable, str::SplitWhitespace, time::Duration};

use shaper_common::plan::MAX_QUEUE_PACKETS;

use crate::model::{
    Bottleneck, Bounds, Chance, Distribution, LossModel, Named, Percent, Rate, Slot, SlotTime, Unitless,
    parse_size, parse_time, quoted,
};

/// The names of distributions and of traces in words of effects, those that are always there left out.
pub fn names_in(text: &str) -> (Vec<&str>, Vec<&str>) {
    let pairs = || text.split_whitespace().zip(text.split_whitespace().skip(1));
    let is_distribution =
        |word: &str| "distribution".starts_with(word) && keyword(word) == Ok("distribution");
    let distributions = pairs().filter(|(word, _)| is_distribution(word)).map(|(_, name)| name);
    let traces = pairs().filter(|(word, _)| *word == "trace").map(|(_, name)| name);
    (distributions.filter(|name| Distribution::builtin(name).is_none()).collect(), traces.collect())
}

/// The words that begin a clause, and can be shortened as `tc` shortens its own.
const NETEM: [&str; 13] = [
    "limit",
    "latency",
    "delay",
    "loss",
    "drop",
    "seed",
    "ecn",
    "reorder",
    "corrupt",
    "gap",
    "duplicate",
    "distribution",
    "rate",
];
/// The keywords that cannot be shortened.
const WHOLE: [&str; 6] = ["slot", "reordering", "partition", "trace", "queue", "mark"];

/// Clauses that a document can have by themselves, and what may follow in each.
pub(crate) const CLAUSES: [(&str, &[&str]); 11] = [
    ("delay", &["distribution", "reordering"]),
    ("loss", &["ecn"]),
    ("duplicate", &[]),
    ("corrupt", &[]),
    ("reorder", &["gap"]),
    ("rate", &[]),
    ("trace", &[]),
    ("queue", &[]),
    ("mark", &[]),
    ("slot", &[]),
    ("limit", &[]),
];

/// The keyword that a word is or begins.
pub(super) fn keyword(word: &str) -> Result<&'static str, String> {
    if let Some(keyword) = NETEM.iter().chain(&WHOLE).find(|keyword| **keyword == word) {
        return Ok(keyword);
    }
    let begun: Vec<&str> =
        NETEM.iter().chain(["slot"].iter()).copied().filter(|keyword| keyword.starts_with(word)).collect();
    match begun[..] {
        [keyword] => Ok(keyword),
        [] => Err(unknown(word, NETEM.iter().chain(&WHOLE).copied())),
        _ => Err(format!("{} may be any of {}: write more of it", quoted(word), begun.join(", "))),
    }
}

/// No word that is longer resembles a keyword.
const LONGEST_KEYWORD: usize = 32;

/// Returns the error for an unknown word.
pub(super) fn unknown(word: &str, known: impl Iterator<Item = &'static str>) -> String {
    let distance = |known: &&str| strsim::damerau_levenshtein(&word.to_ascii_lowercase(), known);
    let is_near = |nearest: &&str| distance(nearest) <= nearest.len().div_ceil(2);
    let nearest =
        (word.len() <= LONGEST_KEYWORD).then(|| known.min_by_key(distance)).flatten().filter(is_near);
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"));
    format!("unknown keyword {}{hint}", quoted(word))
}

/// Words one by one.
pub(super) struct Words<'a> {
    left: Peekable<SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { left: text.split_whitespace().peekable() }
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.left.next()
    }

    /// Drops the next word if it is `word`, and returns whether it was.
    pub(super) fn skip(&mut self, word: &str) -> bool {
        self.left.next_if_eq(&word).is_some()
    }

    /// The next word, if it is a number; a sign makes none of it, as with `tc`.
    fn number(&mut self) -> Option<&'a str> {
        self.left.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
    }

    fn signed_number(&mut self) -> Option<&'a str> {
        self.left.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    }

    /// The next word, whatever it is, for `keyword`.
    pub(super) fn value(&mut self, keyword: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{keyword} needs a value: write {}", example(keyword)))
    }

    pub(super) fn integer<T: std::str::FromStr>(&mut self, keyword: &str) -> Result<T, String> {
        let word = self.value(keyword)?;
        integer(word, keyword)
    }

    pub(super) fn delay(&mut self) -> Result<(Duration, Duration, Percent), String> {
        let time = |word, what| parse_time(word, what, Unitless::Microseconds);
        let delay = time(self.value("delay")?, "delay")?;
        let Some(jitter) = self.number() else { return Ok((delay, Duration::ZERO, Percent::ZERO)) };
        Ok((delay, time(jitter, "jitter")?, self.correlation("delay's correlation")?))
    }

    fn correlation(&mut self, what: &str) -> Result<Percent, String> {
        self.number().map_or(Ok(Percent::ZERO), |word| Percent::parse(word, what))
    }

    pub(super) fn chance(&mut self, keyword: &str) -> Result<Chance, String> {
        let word = self.value(keyword)?;
        self.chance_of(word, keyword)
    }

    fn chance_of(&mut self, word: &str, keyword: &str) -> Result<Chance, String> {
        let probability = Percent::parse(word, keyword)?;
        let correlation = self.correlation(&format!("{keyword}'s correlation"))?;
        Ok(Chance { probability, correlation })
    }

    pub(super) fn loss(&mut self) -> Result<LossModel, String> {
        match self.value("loss")? {
            "random" => Ok(LossModel::Random(self.chance("loss")?)),
            "gemodel" => {
                let p = self.percent("loss gemodel", "p")?;
                self.percents(["p", "r", "1-h", "1-k"], LossModel::gemodel(p)).map(LossModel::Gemodel)
            }
            "state" => {
                let p13 = self.percent("loss state", "p13")?;
                let names = ["p13", "p31", "p32", "p23", "p14"];
                let values = self.percents(names, LossModel::state(p13))?;
                check_state(values).map(LossModel::State)
            }
            "every" => match self.integer("loss every")? {
                0 => Err("loss every 0 is none of them: the least is 1, which loses all".to_owned()),
                number => Ok(LossModel::Every(number)),
            },
            word if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+')) => {
                Ok(LossModel::Random(self.chance_of(word, "loss")?))
            }
            word => Err(unknown(word, ["random", "gemodel", "state", "every"].into_iter())),
        }
    }

    /// The first value of a loss model, by its name or not.
    fn percent(&mut self, model: &str, name: &str) -> Result<Percent, String> {
        self.skip(name);
        Percent::parse(self.value(model)?, &format!("{model} {name}"))
    }

    /// The values behind the first one, each by its name or not, as far as they go.
    fn percents<const N: usize>(
        &mut self,
        names: [&str; N],
        mut values: [Percent; N],
    ) -> Result<[Percent; N], String> {
        for (value, name) in values.iter_mut().zip(names).skip(1) {
            self.skip(name);
            let Some(word) = self.number() else { break };
            *value = Percent::parse(word, name)?;
        }
        Ok(values)
    }

    pub(super) fn rate(&mut self) -> Result<Bottleneck, String> {
        let rate = Rate::parse(self.value("rate")?)?;
        self.skip("packetoverhead");
        let overhead = self.signed_number().map_or(Ok(0), |word| small(word, "packet overhead"))?;
        self.skip("cellsize");
        let cell_bytes = self.number().map_or(Ok(0), |word| small(word, "cell size"))?;
        self.skip("celloverhead");
        let cell_overhead = self.signed_number().map_or(Ok(0), |word| small(word, "cell overhead"))?;
        if cell_bytes == 0 && cell_overhead != 0 {
            return Err(
                "a cell overhead needs a cell size before it: write for example `rate 1mbit 0 48 5`".into()
            );
        }
        Ok(Bottleneck::Rate { rate, overhead, cell_bytes: cell_bytes.unsigned_abs(), cell_overhead })
    }

    /// The packets of netem's queue, at most as many as can wait here.
    pub(super) fn limit(&mut self) -> Result<u32, String> {
        parse_size(self.value("limit")?, "limit").map(|packets| packets.min(MAX_QUEUE_PACKETS))
    }

    /// Parses as many bounds as there are; zero is no bound.
    pub(super) fn bounds(&mut self, keyword: &str, bounds: &mut Bounds) -> Result<(), String> {
        let mut word = self.value(keyword)?;
        loop {
            self.bound(word, keyword, bounds)?;
            let Some(next) = self.number() else { return Ok(()) };
            word = next;
        }
    }

    fn bound(&mut self, word: &str, keyword: &str, bounds: &mut Bounds) -> Result<(), String> {
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let (number, unit) = word.split_at(end);
        let unit =
            if unit.is_empty() { self.left.next_if(|word| is_packets(word)).unwrap_or(unit) } else { unit };
        match unit.to_ascii_lowercase().as_str() {
            unit if is_packets(unit) => match Bounds::packets(integer(number, keyword)?)? {
                0 => Ok(()),
                packets => once(&mut bounds.packets, &format!("{keyword} in packets"), packets),
            },
            "b" | "kb" | "mb" | "gb" | "kbit" | "mbit" | "gbit" => match parse_size(word, keyword)? {
                0 => Ok(()),
                bytes => once(&mut bounds.bytes, &format!("{keyword} in bytes"), bytes),
            },
            "ns" | "us" | "ms" | "s" | "sec" | "secs" | "msec" | "msecs" | "usec" | "usecs" => {
                match parse_time(word, keyword, Unitless::Microseconds)? {
                    Duration::ZERO => Ok(()),
                    time => once(&mut bounds.time, &format!("{keyword} in time"), time),
                }
            }
            _ if word == "0" => Ok(()),
            _ => Err(format!(
                "invalid bound {} of a {keyword}: expected for example 100ms, 64kb or 50packets",
                quoted(word)
            )),
        }
    }

    pub(super) fn slot(&mut self, named: &Named) -> Result<Slot, String> {
        let time = |word, what| parse_time(word, what, Unitless::Nanoseconds);
        let opens = if self.skip("distribution") {
            self.slot_distribution(named)?
        } else {
            let least = time(self.value("slot")?, "slot")?;
            let most = self.number().map_or(Ok(least), |word| time(word, "slot"))?;
            if most < least {
                return Err(
                    "the longest time of a slot is shorter than the shortest one: swap them".to_owned()
                );
            }
            SlotTime::Between(least, most)
        };
        let mut slot = Slot { opens, packets: 0, bytes: 0 };
        loop {
            if self.skip("packets") {
                slot.packets = self.integer("slot packets")?;
            } else if self.skip("bytes") {
                slot.bytes = parse_size(self.value("slot bytes")?, "slot in bytes")?;
            } else {
                return Ok(slot);
            }
        }
    }

    fn slot_distribution(&mut self, named: &Named) -> Result<SlotTime, String> {
        let name = self.value("slot distribution")?;
        if parse_time(name, "slot", Unitless::Nanoseconds).is_ok() {
            return Err(
                "`tc` does not show which distribution a slot has: write its name behind the word".to_owned()
            );
        }
        let distribution = named.distribution(name)?;
        let mut time = |what: &str| parse_time(self.value("slot distribution")?, what, Unitless::Nanoseconds);
        let (mean, spread) = (time("slot")?, time("slot's jitter")?);
        if spread.is_zero() {
            return Err("a slot's distribution needs a jitter: write `slot MIN` if there is none".to_owned());
        }
        if distribution == Distribution::Uniform && spread > mean {
            return Err("a slot's uniform jitter is at most its mean, so that no time is negative".to_owned());
        }
        Ok(SlotTime::About { distribution, mean, spread })
    }
}

/// Gives a clause what it says.
pub(super) fn once<T>(place: &mut Option<T>, what: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} is given twice: leave one of them out")),
    }
}

/// A number of bytes that is added to packets or cells.
fn small(word: &str, what: &str) -> Result<i32, String> {
    let number: i32 = integer(word, what)?;
    if number.abs() > i32::from(u16::MAX) {
        return Err(format!("a {what} of {number} bytes is too large: it is at most 65535"));
    }
    Ok(number)
}

fn integer<T: std::str::FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse().map_err(|_| {
        format!("invalid number {} for {what}: expected a whole one that is not too large", quoted(word))
    })
}

fn is_packets(word: &str) -> bool {
    matches!(word, "packet" | "packets")
}

/// Checks that no state of the model is left with a chance above one.
fn check_state(values: [Percent; 5]) -> Result<[Percent; 5], String> {
    let [p13, p31, p32, _, p14] = values;
    for (one, other, names) in [(p13, p14, "p13 and p14"), (p31, p32, "p31 and p32")] {
        if one > other.rest() {
            return Err(format!("loss state: {names} are more than 100% together: make one of them smaller"));
        }
    }
    Ok(values)
}

fn example(keyword: &str) -> &'static str {
    match keyword {
        "delay" => "for example `delay 100ms 20ms 25%`",
        "distribution" | "slot distribution" => "for example `distribution normal`",
        "loss gemodel" => "for example `loss gemodel 1% 10%`",
        "loss state" => "for example `loss state 1% 10%`",
        "rate" => "for example `rate 10mbit`",
        "trace" => "the name of a trace",
        "queue" | "mark" => "for example 100ms, 64kb or 50packets",
        "slot" => "for example `slot 20ms`",
        "limit" | "gap" | "seed" | "loss every" | "slot packets" | "slot bytes" => "a whole number",
        _ => "per cent, for example 1%",
    }
}
