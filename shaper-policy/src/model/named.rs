//! Tables that effects can name.

use std::collections::BTreeMap;

use super::{distribution::Distribution, trace::Trace, units::quoted};

/// Tables that effects can name, beside the distributions that are always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// By name.
    pub distributions: BTreeMap<String, Distribution>,
    /// By name.
    pub traces: BTreeMap<String, Trace>,
}

impl Named {
    pub(crate) fn distribution(&self, name: &str) -> Result<Distribution, String> {
        if let Some(found) = Distribution::builtin(name).or_else(|| self.distributions.get(name).cloned()) {
            return Ok(found);
        }
        let own = self.distributions.keys().map(|name| format!(", {name}")).collect::<String>();
        Err(format!(
            "unknown distribution {}: there are uniform, normal, pareto, paretonormal{own}",
            quoted(name)
        ))
    }

    pub(crate) fn trace(&self, name: &str) -> Result<Trace, String> {
        let found = self.traces.get(name).cloned();
        found.ok_or_else(|| match self.traces.keys().cloned().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => format!("unknown trace {}: none is given", quoted(name)),
            names => format!("unknown trace {}: there are {names}", quoted(name)),
        })
    }
}
