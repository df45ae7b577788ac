//! Translates the output of `tc -j qdisc show` to netem's words (iproute2's `netem_print_opt`).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    qdiscs::{PLAIN_QDISCS, refused},
    table::CLAUSES,
    tc::not_understood,
};
use crate::model::PolicyError;

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
pub(super) fn words(json: &str) -> Result<String, PolicyError> {
    let list: Vec<Qdisc> = serde_json::from_str(json).map_err(|error| {
        PolicyError::unsupported(json, format!("is not what `tc -j qdisc show` prints: {error}"))
    })?;
    let mut found = None;
    for Qdisc { kind, options } in list {
        match kind.as_str() {
            "netem" if found.is_some() => {
                let what = "there are several netem qdiscs";
                return Err(PolicyError::contradiction(what, "paste what belongs to one device"));
            }
            "netem" => found = Some(netem(&options)?),
            kind if PLAIN_QDISCS.contains(&kind) => {}
            kind => return Err(refused("", kind)),
        }
    }
    Ok(found.unwrap_or_default())
}

fn netem(options: &Map<String, Value>) -> Result<String, PolicyError> {
    let mut words = String::new();
    for (name, value) in options {
        let mut known = CLAUSES.iter().flat_map(|clause| clause.tc);
        let option = known.find(|option| option.name == name).ok_or_else(|| not_understood(name, value))?;
        option.write(&mut words, value)?;
    }
    Ok(words)
}
