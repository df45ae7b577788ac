//! Rules: the shaping that containers are to have for as long as a selector fits them.

mod document;
mod error;
mod file;
mod labels;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::SystemTime,
};

pub(crate) use self::{
    document::RuleDocument,
    error::{RuleError, RuleProblem},
    file::read_rules,
    labels::PREFIX as LABEL_PREFIX,
    view::{RuleState, RuleView, RulesView},
};
use super::{
    Completion, Count, Known, NetnsId, Order, Protection, Request, Selection, Selector, ShapingError,
};

/// The longest name of a rule, in bytes.
const LONGEST_NAME: usize = 64;
/// The name of the rule that a container's own labels make.
const LABELS: &str = "labels";
/// The most rules that there may be.
pub(crate) const MAX_RULES: usize = 1_000;

/// The name of a rule: letters, digits, `-`, `_` and `.`, of which the first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleName(String);

impl RuleName {
    /// The name of the rule that containers' own labels make.
    pub(crate) fn of_labels() -> Self {
        Self(LABELS.to_owned())
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuleName {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= LONGEST_NAME && text.chars().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RuleError::at("name", RuleProblem::Name(text.to_owned())))
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The shaping that containers are to have for as long as a selector fits them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The name, which no other rule has.
    pub(crate) name: RuleName,
    /// The containers.
    pub(crate) selector: Selector,
    /// The number of them; none is all.
    pub(crate) count: Option<Count>,
    /// Of rules that fit one container, the one with the highest priority is in force; of several, the first by name.
    pub(crate) priority: i32,
    /// True if it is not to be carried out.
    pub(crate) is_suspended: bool,
    /// The time at which it ends; none is not by itself.
    pub(crate) until: Option<SystemTime>,
    /// The shaping, as changes of a container that is not shaped, one after the other. They have no times of their own.
    pub(crate) requests: Vec<Request>,
}

impl Rule {
    /// Tells whether it is to be carried out at this time.
    pub(crate) fn is_active(&self, now: SystemTime) -> bool {
        !self.is_suspended && !self.is_over(now)
    }

    /// The state at this time.
    pub(crate) fn state(&self, now: SystemTime) -> RuleState {
        match (self.is_over(now), self.is_suspended) {
            (true, _) => RuleState::Over,
            (_, true) => RuleState::Suspended,
            _ => RuleState::Active,
        }
    }

    /// Tells whether it is what a container's own labels make.
    fn is_of_labels(&self) -> bool {
        self.name.0 == LABELS
    }

    /// Tells whether its time is over.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// All rules, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules(BTreeMap<RuleName, Rule>);

impl Rules {
    /// The rules of several sources; of those with the same name, the ones that come first.
    pub(crate) fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut all = BTreeMap::new();
        for rule in rules {
            all.entry(rule.name.clone()).or_insert(rule);
        }
        Self(all)
    }

    /// All, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.values()
    }

    /// The rule for each network namespace that one fits. What is protected, and what is not running, has none. Labels
    /// count, if they do, where no rule fits.
    ///
    /// # Errors
    ///
    /// When a name in a selector means several containers, or labels say what cannot be: what can be carried out is, with
    /// each error.
    pub(crate) fn rulings(
        &self,
        known: &Known<'_>,
        protection: &Protection,
        labels_count: bool,
        now: SystemTime,
    ) -> Rulings {
        let mut active: Vec<_> = self.0.values().filter(|rule| rule.is_active(now)).collect();
        active.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        let mut rulings = Rulings::default();
        for rule in active {
            let selection = Selection {
                count: rule.count,
                allow_none: true,
                partial: true,
                ..Selection::of(rule.selector.clone())
            };
            match planned(&selection, known, protection) {
                Ok(planned) => planned.into_iter().for_each(|netns| {
                    rulings.rules.entry(netns).or_insert_with(|| rule.clone());
                }),
                Err(error) => drop(rulings.errors.insert((rule.name.clone(), None), error.to_string())),
            }
        }
        if labels_count {
            rulings.add_labels(known, protection, now);
        }
        rulings
    }
}

/// The rules that are in force where.
#[derive(Debug, Default)]
pub(crate) struct Rulings {
    /// The rule for each network namespace that one fits.
    pub(crate) rules: BTreeMap<NetnsId, Rule>,
    /// The reasons why rules cannot be carried out, anywhere or in one namespace.
    pub(crate) errors: BTreeMap<(RuleName, Option<NetnsId>), String>,
}

impl Rulings {
    /// Adds what containers' own labels say, where nothing else does: of those that share a namespace, the first one's.
    fn add_labels(&mut self, known: &Known<'_>, protection: &Protection, now: SystemTime) {
        let labelled: Vec<_> = known.all.iter().filter(|one| labels::has_any(one)).collect();
        if labelled.is_empty() {
            return;
        }
        let Ok(all) = Selector::parse(["all"]) else { return };
        let all = Selection { allow_none: true, ..Selection::of(all) };
        let can_be: BTreeSet<_> = planned(&all, known, protection).unwrap_or_default().into_iter().collect();
        let mut seen = BTreeSet::new();
        for container in labelled {
            let Some(netns) = container.netns.as_ref().map(|netns| netns.id) else { continue };
            if self.rules.contains_key(&netns) || !can_be.contains(&netns) || !seen.insert(netns) {
                continue;
            }
            match labels::rule(container) {
                Ok(rule) => {
                    self.rules.extend(rule.filter(|rule| rule.is_active(now)).map(|rule| (netns, rule)))
                }
                Err(error) => {
                    let error = format!("container {}: {error}", container.name);
                    self.errors.insert((RuleName::of_labels(), Some(netns)), error);
                }
            }
        }
    }
}

/// The namespaces of the containers that are selected and can be shaped.
fn planned(
    selection: &Selection,
    known: &Known<'_>,
    protection: &Protection,
) -> Result<Vec<NetnsId>, ShapingError> {
    let order = Order::Set(Box::default());
    let chosen = selection.choose(known, &order, protection)?;
    let planned = chosen.iter().filter(|one| one.end == Completion::Planned);
    Ok(planned.filter_map(|one| Some(one.container.netns.as_ref()?.id)).collect())
}

#[cfg(test)]
mod tests;
