//! Translates the output of `tc -j qdisc show` to netem's words (iproute2's `netem_print_opt`).

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::qdiscs::{PLAIN_QDISCS, refused};
use crate::model::{quoted, short};

#[derive(Deserialize)]
struct Qdisc {
    kind: String,
    #[serde(default)]
    options: Map<String, Value>,
}

/// The words of the one netem in a list of qdiscs.
///
/// # Errors
///
/// When it is no such list, or has another qdisc that shapes, or several netems, or an option that is unknown.
pub(super) fn words(json: &str) -> Result<String, String> {
    let list: Vec<Qdisc> = serde_json::from_str(json)
        .map_err(|error| format!("this is not what `tc -j qdisc show` prints: {error}"))?;
    let mut found = None;
    for Qdisc { kind, options } in list {
        match kind.as_str() {
            "netem" if found.is_some() => {
                return Err("there are several netem qdiscs: paste what belongs to one device".to_owned());
            }
            "netem" => found = Some(netem(&options)?),
            kind if PLAIN_QDISCS.contains(&kind) => {}
            kind => return Err(refused("", kind)),
        }
    }
    Ok(found.unwrap_or_default())
}

fn netem(options: &Map<String, Value>) -> Result<String, String> {
    let mut words = String::new();
    for (name, value) in options {
        let option = Option { name, value };
        match name.as_str() {
            "gap" if *value == 0 => {}
            "limit" | "gap" | "seed" => option.number(&mut words)?,
            "delay" => option.values(
                &mut words,
                "delay",
                &[("delay", Unit::Seconds), ("jitter", Unit::Seconds), ("correlation", Unit::Share)],
            )?,
            "loss-random" => {
                option.values(&mut words, "loss", &[("loss", Unit::Share), ("correlation", Unit::Share)])?
            }
            "loss-state" => option.values(
                &mut words,
                "loss state",
                &["p13", "p31", "p32", "p23", "p14"].map(|name| (name, Unit::Share)),
            )?,
            "loss-gemodel" => option.values(
                &mut words,
                "loss gemodel",
                &["p", "r", "1-h", "1-k"].map(|name| (name, Unit::Share)),
            )?,
            "duplicate" | "reorder" | "corrupt" => {
                option.values(&mut words, name, &[(name, Unit::Share), ("correlation", Unit::Share)])?;
            }
            "rate" => option.values(
                &mut words,
                "rate",
                &[
                    ("rate", Unit::BytesPerSecond),
                    ("packetoverhead", Unit::None),
                    ("cellsize", Unit::None),
                    ("celloverhead", Unit::None),
                ],
            )?,
            "slot" => option.slot(&mut words)?,
            "ecn" if *value == false => {}
            "ecn" if *value == true => words.push_str(" ecn"),
            _ => return Err(option.unknown()),
        }
    }
    Ok(words)
}

#[derive(Clone, Copy)]
enum Unit {
    None,
    Seconds,
    Share,
    BytesPerSecond,
}

struct Option<'a> {
    name: &'a str,
    value: &'a Value,
}

impl Option<'_> {
    fn unknown(&self) -> String {
        format!(
            "the option {} of netem is not understood: {}",
            quoted(self.name),
            short(&self.value.to_string())
        )
    }

    fn number(&self, words: &mut String) -> Result<(), String> {
        let number = self.value.as_u64().ok_or_else(|| self.unknown())?;
        let _ = write!(words, " {} {number}", self.name);
        Ok(())
    }

    fn slot(&self, words: &mut String) -> Result<(), String> {
        let Value::Object(fields) = self.value else { return Err(self.unknown()) };
        if fields.contains_key("distribution") {
            return Err("`tc` does not show which distribution a slot has: write its name".to_owned());
        }
        let (bounds, times): (Vec<_>, Vec<_>) =
            fields.iter().partition(|(name, _)| matches!(name.as_str(), "packets" | "bytes"));
        let times =
            Value::Object(times.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect());
        let option = Option { value: &times, ..*self };
        option.values(words, "slot", &[("min-delay", Unit::Seconds), ("max-delay", Unit::Seconds)])?;
        bounds.into_iter().try_for_each(|(name, value)| Option { name, value }.number(words))
    }

    /// Writes the values in the order that netem's words have.
    fn values(&self, words: &mut String, keyword: &str, values: &[(&str, Unit)]) -> Result<(), String> {
        let Value::Object(fields) = self.value else { return Err(self.unknown()) };
        if fields.keys().any(|field| values.iter().all(|(name, _)| name != field)) {
            return Err(self.unknown());
        }
        let _ = write!(words, " {keyword}");
        for (name, unit) in values {
            let Some(value) = fields.get(*name) else { continue };
            let number = value.as_f64().ok_or_else(|| self.unknown())?;
            let _ = match unit {
                Unit::None => write!(words, " {number}"),
                Unit::Seconds => write!(words, " {number}s"),
                Unit::Share => write!(words, " {}%", number * 100.0),
                Unit::BytesPerSecond => write!(words, " {number}bps"),
            };
        }
        Ok(())
    }
}
