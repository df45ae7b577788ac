//! Rules: the shaping that containers are to have for as long as a selector fits them.

mod document;
mod error;
mod file;
mod view;

use std::{collections::BTreeMap, fmt, str::FromStr, time::SystemTime};

pub(crate) use self::{
    document::RuleDocument,
    error::{RuleError, RuleProblem},
    file::read_rules,
    view::{RuleState, RuleView, RulesView},
};
use super::{
    Completion, Count, Known, NetnsId, Order, Protection, Request, Selection, Selector, ShapingError,
};

/// The longest name of a rule, in bytes.
const LONGEST_NAME: usize = 64;
/// The most rules that there may be.
pub(crate) const MAX_RULES: usize = 1_000;

/// The name of a rule: letters, digits, `-`, `_` and `.`, of which the first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleName(String);

impl RuleName {
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
    /// The shaping, as a change of a container that is not shaped. It has no time of its own.
    pub(crate) request: Request,
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

    /// The rule for each network namespace that one fits. What is protected, and what is not running, has none.
    ///
    /// # Errors
    ///
    /// When a name in a selector means several containers: the rules that can be carried out are, with each error.
    pub(crate) fn rulings(
        &self,
        known: &Known<'_>,
        protection: &Protection,
        now: SystemTime,
    ) -> (BTreeMap<NetnsId, &Rule>, Vec<(&RuleName, ShapingError)>) {
        let mut active: Vec<_> = self.0.values().filter(|rule| rule.is_active(now)).collect();
        active.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        let (mut rulings, mut errors) = (BTreeMap::new(), Vec::new());
        for rule in active {
            let selection = Selection {
                count: rule.count,
                allow_none: true,
                partial: true,
                ..Selection::of(rule.selector.clone())
            };
            let order = Order::Set(Box::new(rule.request.clone()));
            match selection.choose(known, &order, protection) {
                Ok(chosen) => {
                    let planned = chosen.iter().filter(|one| one.end == Completion::Planned);
                    for netns in planned.filter_map(|one| Some(one.container.netns.as_ref()?.id)) {
                        rulings.entry(netns).or_insert(rule);
                    }
                }
                Err(error) => errors.push((&rule.name, error)),
            }
        }
        (rulings, errors)
    }
}

#[cfg(test)]
mod tests;
