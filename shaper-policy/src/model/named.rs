//! Tables that effects can name.

use std::collections::BTreeMap;

use super::{distribution::Distribution, error::PolicyError, trace::Trace};

/// Tables that effects can name, beside the distributions that are always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// By name.
    pub distributions: BTreeMap<String, Distribution>,
    /// By name.
    pub traces: BTreeMap<String, Trace>,
}

impl Named {
    pub(crate) fn distribution(&self, name: &str) -> Result<Distribution, PolicyError> {
        if let Some(found) = Distribution::builtin(name).or_else(|| self.distributions.get(name).cloned()) {
            return Ok(found);
        }
        let own = self.distributions.keys().map(|name| format!(", {name}")).collect::<String>();
        let known = format!("there are uniform, normal, pareto, paretonormal{own}");
        Err(PolicyError::unknown("distribution", name, known))
    }

    pub(crate) fn trace(&self, name: &str) -> Result<Trace, PolicyError> {
        let found = self.traces.get(name).cloned();
        found.ok_or_else(|| {
            let known = match self.traces.keys().cloned().collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "none is given".to_owned(),
                names => format!("there are {names}"),
            };
            PolicyError::unknown("trace", name, known)
        })
    }
}
