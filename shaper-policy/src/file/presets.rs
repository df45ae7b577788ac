//! Networks by name: what a container's packets go through on a bottleneck of some kind, with the sources of the figures.
//!
//! It does not know what the words of the effects mean: whoever loads presets passes a check.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::MAX_TOML;
use crate::model::{Direction, PolicyError};

/// The shipped presets, in the format of a user's file.
const SHIPPED: &str = include_str!("../../presets.toml");

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    /// The title, for people.
    pub title: String,
    /// Where its figures are from.
    pub sources: Vec<String>,
    /// The effects on what the container sends, in netem's words and ours; empty is none.
    pub egress: String,
    /// The effects on what the container receives.
    pub ingress: String,
}

impl Preset {
    /// The effects in one direction, in words; none leaves it alone.
    pub fn effects(&self, direction: Direction) -> Option<&str> {
        let words = match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        };
        (!words.is_empty()).then_some(words)
    }
}

/// All presets that there are, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presets(BTreeMap<String, Preset>);

impl Presets {
    /// Returns the shipped presets. `check` tells whether words of effects can be carried out.
    ///
    /// # Errors
    ///
    /// When `check` refuses one.
    pub fn shipped(check: impl Fn(&str) -> Result<(), PolicyError>) -> Result<Self, PolicyError> {
        Self::parse("presets.toml", SHIPPED, check)
    }

    /// Parses a TOML file, called `file` in errors: a table for each preset with `title`, `sources` (a list, may be left
    /// out), `egress` and `ingress` (one of them may be left out). `check` says whether words of effects can be carried
    /// out.
    ///
    /// # Errors
    ///
    /// When it is not of that form, a name is not of `a-z`, `0-9` and `-`, neither direction has effects, or `check`
    /// refuses them; names the line.
    pub fn parse(
        file: &str,
        text: &str,
        check: impl Fn(&str) -> Result<(), PolicyError>,
    ) -> Result<Self, PolicyError> {
        if text.len() > MAX_TOML {
            return Err(PolicyError::too_many("bytes", MAX_TOML, "").within(file));
        }
        let entries: BTreeMap<Spanned<String>, Entry> =
            toml::from_str(text).map_err(|error| PolicyError::malformed(error).within(file))?;
        entries
            .into_iter()
            .map(|(name, entry)| {
                let at = name.span();
                let name = name.into_inner();
                entry
                    .into_preset(&name, at, &check)
                    .map(|preset| (name, preset))
                    .map_err(|(at, error)| error.within(format!("{file}, line {}", line(text, at))))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// These and those of `over`, which replace the ones of the same name.
    pub fn merged(mut self, over: Self) -> Self {
        self.0.extend(over.0);
        self
    }

    /// The preset that is called `name`.
    ///
    /// # Errors
    ///
    /// When there is none; the error lists those that there are.
    pub fn find(&self, name: &str) -> Result<&Preset, PolicyError> {
        self.0.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            PolicyError::unknown("preset", name, format!("there are {}", names.join(", ")))
        })
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Preset)> {
        self.0.iter().map(|(name, preset)| (name.as_str(), preset))
    }
}

/// A preset as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    title: String,
    #[serde(default)]
    sources: Vec<String>,
    egress: Option<Spanned<String>>,
    ingress: Option<Spanned<String>>,
}

impl Entry {
    /// The preset, or what is wrong, and where.
    fn into_preset(
        self,
        name: &str,
        at: Range<usize>,
        check: impl Fn(&str) -> Result<(), PolicyError>,
    ) -> Result<Preset, (Range<usize>, PolicyError)> {
        if !is_name(name) {
            return Err((at, PolicyError::invalid("name of a preset", name, "a-z, 0-9 and -")));
        }
        let checked = |words: Option<Spanned<String>>, direction: Direction| {
            let Some(words) = words else { return Ok(String::new()) };
            match check(words.get_ref()) {
                Ok(()) => Ok(words.into_inner()),
                Err(why) => Err((words.span(), why.within(format!("{direction} of {name}")))),
            }
        };
        let egress = checked(self.egress, Direction::Egress)?;
        let ingress = checked(self.ingress, Direction::Ingress)?;
        if egress.is_empty() && ingress.is_empty() {
            let what = format!("{name} does nothing");
            return Err((at, PolicyError::contradiction(what, "write egress, ingress, or both")));
        }
        Ok(Preset { title: self.title, sources: self.sources, egress, ingress })
    }
}

fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(good)
}

/// The number of the line in which `at` begins.
fn line(text: &str, at: Range<usize>) -> usize {
    1 + text.bytes().take(at.start).filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Presets, PolicyError> {
        Presets::parse("my.toml", text, |words| {
            if words.contains("frobnicate") {
                Err(PolicyError::contradiction("what is frobnicate", "?"))
            } else {
                Ok(())
            }
        })
    }

    fn shipped() -> Presets {
        Presets::shipped(|_| Ok(())).expect("the shipped presets")
    }

    #[test]
    fn a_preset_of_each_kind_is_shipped() {
        let presets = shipped();
        for name in [
            "gprs",
            "edge",
            "3g",
            "hspa",
            "lte",
            "5g",
            "satellite-geo",
            "satellite-leo",
            "dsl",
            "cable",
            "office-wifi",
            "lossy-wifi",
            "intercontinental",
        ] {
            assert!(presets.find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn each_shipped_preset_has_a_title_sources_and_both_directions() {
        for (name, preset) in shipped().iter() {
            assert!(is_name(name), "{name}");
            assert!(!preset.title.is_empty(), "{name}");
            assert!(!preset.sources.is_empty(), "{name}");
            assert!(preset.effects(Direction::Egress).is_some(), "{name}");
            assert!(preset.effects(Direction::Ingress).is_some(), "{name}");
        }
    }

    #[test]
    fn a_file_adds_presets_and_replaces_those_of_the_same_name() {
        let mine = parse(
            "[lte]\ntitle = 'Ours'\negress = 'delay 1ms'\n[lab]\ntitle = 'Lab'\ningress = 'rate 1mbit'",
        )
        .expect("presets");
        let presets = shipped().merged(mine);
        let lte = presets.find("lte").expect("replaced");
        assert_eq!(lte.effects(Direction::Egress), Some("delay 1ms"));
        assert_eq!(lte.effects(Direction::Ingress), None);
        assert!(presets.find("lab").is_ok());
        assert!(presets.find("edge").is_ok());
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_there_are() {
        let presets = parse("[b]\ntitle = 'B'\negress = 'loss 1%'\n[a]\ntitle = 'A'\negress = 'loss 2%'")
            .expect("presets");
        let error = presets.find("c").expect_err("there is none").to_string();
        assert_eq!(error, "unknown preset \"c\": there are a, b");
    }

    #[test]
    fn bad_files_say_what_is_wrong_and_where() {
        for (text, errors) in [
            ("[a]\negress = 'loss 1%'", &["my.toml", "line 1", "missing field `title`"][..]),
            (
                "[a]\ntitle = 'A'\negress = 'loss 1%'\ncolour = 'red'",
                &["my.toml", "line 4", "unknown field `colour`"],
            ),
            ("[a]\ntitle = 1\negress = 'loss 1%'", &["my.toml", "line 2", "expected a string"]),
            ("[a\n", &["my.toml", "line 1"]),
            (
                "# mine\n[A_b]\ntitle = 'A'\negress = 'loss 1%'",
                &["my.toml, line 2: invalid name of a preset \"A_b\": expected a-z, 0-9 and -"],
            ),
            ("\n[a]\ntitle = 'A'", &["my.toml, line 2: a does nothing: write egress, ingress, or both"]),
            (
                "[a]\ntitle = 'A'\negress = 'loss 1%'\ningress = 'frobnicate'",
                &["my.toml, line 4: ingress of a: what is frobnicate: ?"],
            ),
            (
                "[a]\ntitle = 'A'\negress = 'loss 1%'\n[a]\ntitle = 'B'\negress = 'loss 1%'",
                &["line 4", "duplicate key"],
            ),
        ] {
            let error = parse(text).expect_err(text).to_string();
            for part in errors {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\[[a-z-]+\\]\n(title|egress|sources|x) = ['\\[a\\] ]*\n)*|.*") {
            let _ = parse(&text);
        }
    }
}
