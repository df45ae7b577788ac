//! Rule files: TOML with a table `[[rule]]` for each rule.

use std::fmt;

use serde::Deserialize;
use shaper_policy::Segment;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::{MAX_RULES, Rule, RuleDocument, RuleError, RuleName};

/// The longest rule file, in bytes.
const LONGEST_FILE: usize = 512 << 10;

/// An error in a rule file, with its line where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}{}: {problem}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub(crate) struct RuleFileError {
    file: String,
    line: Option<usize>,
    problem: Box<RuleFileProblem>,
}

/// The kind of an error in a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleFileProblem {
    /// It is no TOML, or not of the form of a rule file: in the words of its reader.
    Form(String),
    /// An error in a rule.
    Rule(String, RuleError),
    /// A second rule of a name.
    Twice(RuleName),
    /// More bytes or rules than there may be.
    TooMany(usize, &'static str),
}

impl fmt::Display for RuleFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(said) => f.write_str(said),
            Self::Rule(name, error) => write!(f, "rule {}: {error}", crate::shaping::quoted(name)),
            Self::Twice(name) => write!(f, "a second rule is called {name}"),
            Self::TooMany(most, what) => write!(f, "expected at most {most} {what}"),
        }
    }
}

/// A rule file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rule: Vec<RuleDocument>,
}

/// Reads the rules in a text, called `file` in errors.
///
/// # Errors
///
/// When it has another form, a rule says what cannot be, or two have one name; names the line.
pub(crate) fn read_rules(file: &str, text: &str) -> Result<Vec<Rule>, RuleFileError> {
    let error = |line, problem| RuleFileError { file: file.to_owned(), line, problem: Box::new(problem) };
    if text.len() > LONGEST_FILE {
        return Err(error(None, RuleFileProblem::TooMany(LONGEST_FILE, "bytes")));
    }
    let document: Document = toml::from_str(text).map_err(|cause| {
        let line = cause.span().map(|span| line_at(text, span.start));
        error(line, RuleFileProblem::Form(cause.message().to_owned()))
    })?;
    if document.rule.len() > MAX_RULES {
        return Err(error(None, RuleFileProblem::TooMany(MAX_RULES, "rules")));
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (number, document) in document.rule.into_iter().enumerate() {
        let name = document.name.clone();
        let rule = Rule::try_from(document).map_err(|cause| {
            let line = line_of(text, number, cause.key(), cause.path());
            error(line, RuleFileProblem::Rule(name, cause))
        })?;
        if rules.iter().any(|other| other.name == rule.name) {
            return Err(error(line_of(text, number, "name", &[]), RuleFileProblem::Twice(rule.name)));
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// The line of a value of a rule, or of what is there on the way to it.
fn line_of(text: &str, number: usize, key: &str, path: &[Segment]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let rules = document.get_ref().get("rule")?;
    let DeValue::Array(rules) = rules.get_ref() else { return None };
    let rule = rules.get(number)?;
    let mut place = rule.span();
    let mut value = rule.get_ref();
    let keys = [Segment::Field(key.to_owned().into())];
    for segment in keys.iter().chain(path) {
        let next = match (segment, value) {
            (Segment::Field(field), DeValue::Table(table)) => table.get(&**field),
            (Segment::Index(index), DeValue::Array(list)) => list.get(*index),
            _ => None,
        };
        let Some(next) = next else { break };
        (place, value) = (next.span(), next.get_ref());
    }
    Some(line_at(text, place.start))
}

/// The number of the line in which a byte is.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[rule]]
name = "slow-db"
select = ["service:db", "label:tier=data"]
priority = 10
until = "2026-12-01T18:00:00Z"
set = { latency = "100ms", direction = "both" }

[[rule]]
name = "commute"
select = "label:app=phone"
count = "30%"
suspended = true
[rule.set]
preset = "lte"
"#;

    #[test]
    fn a_file_has_a_table_for_each_rule() {
        let rules = read_rules("shop.toml", GOOD).expect("rules");
        assert_eq!(rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["slow-db", "commute"]);
        assert_eq!(rules[0].priority, 10);
        assert!(rules[1].is_suspended);
        assert_eq!(read_rules("empty.toml", ""), Ok(Vec::new()));
    }

    #[test]
    fn errors_name_the_line() {
        for (from, to, said) in [
            ("priority = 10", "priority = \"high\"", "shop.toml, line 5: invalid type: string"),
            ("priority = 10", "prioriti = 10", "shop.toml, line 5: unknown field `prioriti`"),
            ("100ms", "100 parsecs", "shop.toml, line 7: rule \"slow-db\": set: "),
            ("\"label:tier=data\"", "\"tier:data\"", "shop.toml, line 4: rule \"slow-db\": select: selector"),
            ("30%", "300%", "shop.toml, line 12: rule \"commute\": count: invalid count"),
            ("commute", "slow-db", "shop.toml, line 10: a second rule is called slow-db"),
            (
                "preset = \"lte\"",
                "preset = 5",
                "shop.toml, line 14: rule \"commute\": set: invalid type: integer `5`, expected a string",
            ),
            ("[rule.set]", "[rule.set", "shop.toml, line 14: "),
        ] {
            let text = GOOD.replace(from, to);
            let error = read_rules("shop.toml", &text).expect_err(to).to_string();
            assert!(error.starts_with(said), "{to}: {error}");
        }
    }

    #[test]
    fn there_are_not_more_rules_than_may_be() {
        let rule = |number| format!("[[rule]]\nname = \"r{number}\"\nselect = \"all\"\nset.loss = \"1%\"\n");
        let text: String = (0..=MAX_RULES).map(rule).collect();
        let error = read_rules("many.toml", &text).expect_err("too many");
        assert_eq!(error.to_string(), "many.toml: expected at most 1000 rules");
        let long = "#".repeat(LONGEST_FILE + 1);
        assert!(read_rules("long.toml", &long).is_err());
    }
}
