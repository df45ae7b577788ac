//! A shaping as it is asked for, and its check.

use std::{collections::BTreeMap, mem, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::shaping::{
    Asked, Change, Clauses, Directions, Distribution, Effects, Format, Interfaces, Lifetime, Named, NoFiles,
    Plan, Request, Selector, Trace, parse_duration,
};

/// The body of `PUT /containers/{name}/shaping`; what is left out stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct ShapingInput {
    /// `120ms`; `0` is none.
    latency: Option<String>,
    /// `20ms 25% distribution normal`; `0` is none, as in all effects.
    jitter: Option<String>,
    /// `2.5%`, or any loss in netem's words.
    loss: Option<String>,
    /// `1% 25%`.
    duplicate: Option<String>,
    /// `1% fixed`.
    corrupt: Option<String>,
    /// `25% 50% gap 5`.
    reorder: Option<String>,
    /// `5mbit`.
    rate: Option<String>,
    /// The name of one of `traces`, instead of a rate.
    trace: Option<String>,
    /// `100ms`, `64kb`, `50packets`.
    queue: Option<String>,
    /// The same.
    mark: Option<String>,
    /// `20ms 40ms packets 10`.
    slot: Option<String>,
    /// A number.
    seed: Option<u64>,
    /// All effects at once, in netem's words.
    netem: Option<String>,
    /// A whole plan.
    policy: Option<Box<RawValue>>,
    /// The name of a network.
    preset: Option<String>,
    /// Distributions that effects name.
    #[serde(deserialize_with = "crate::shaping::distributions")]
    distributions: BTreeMap<String, Distribution>,
    /// Delivery traces that effects name, in milliseconds.
    #[serde(deserialize_with = "crate::shaping::traces")]
    traces: BTreeMap<String, Trace>,
    /// The packets: `10.0.0.0/8 tcp port 443`.
    to: Option<String>,
    /// On which interfaces: `["eth1", "lan*"]`.
    interface: Option<Interfaces>,
    /// The time that it takes to come into force: `10s`.
    ramp: Option<String>,
    /// `egress` if left out, or `both` for a preset.
    direction: Option<Directions>,
    /// `10m`, or `forever`.
    r#for: Option<String>,
}

impl TryFrom<ShapingInput> for Request {
    type Error = String;

    fn try_from(mut input: ShapingInput) -> Result<Self, String> {
        let (distributions, traces) = (mem::take(&mut input.distributions), mem::take(&mut input.traces));
        let named = Named { distributions, traces };
        let asked = input.asked(&named)?;
        let changes_nothing = asked == Asked::default();
        if changes_nothing && input.r#for.is_none() {
            return Err("nothing is asked for: give at least one effect (as latency, loss or netem), a policy, a preset, \
                        or for"
                .to_owned());
        }
        if changes_nothing && (input.to.is_some() || input.ramp.is_some()) {
            return Err(
                "`to` and `ramp` say nothing of what is to be done: give an effect as well".to_owned()
            );
        }
        let usual = if input.preset.is_some() { Directions::Both } else { Directions::default() };
        Ok(Self {
            directions: input.direction.unwrap_or(usual),
            asked,
            interfaces: input.interface,
            target: input.to.map(|to| to.parse::<Selector>()).transpose()?,
            ramp: input
                .ramp
                .map(|ramp| parse_duration(&ramp, "ramp"))
                .transpose()?
                .filter(|ramp| !ramp.is_zero()),
            lifetime: input
                .r#for
                .map_or(Ok(Change::Keep), |text| text.parse::<Lifetime>().map(Change::To))?,
        })
    }
}

impl ShapingInput {
    fn asked(&self, named: &Named) -> Result<Asked, String> {
        let clauses = self.clauses(named)?;
        let whole = [
            self.netem.as_ref().map(|words| {
                let effects = Effects::parse(words, named)?;
                Ok(Asked::Effects(Box::new(effects)))
            }),
            self.policy.as_ref().map(|document| {
                let plan = Plan::parse(document.get(), Format::Json, &NoFiles, named);
                plan.map(|plan| Asked::Plan(Arc::new(plan))).map_err(|error| format!("policy: {error}"))
            }),
            self.preset.as_ref().map(|name| Ok(Asked::Preset(name.clone()))),
            (clauses != Clauses::default()).then(|| Ok(Asked::Clauses(Box::new(clauses)))),
        ];
        let mut whole = whole.into_iter().flatten();
        let asked = whole.next().unwrap_or_else(|| Ok(Asked::default()))?;
        match whole.next() {
            None => Ok(asked),
            Some(_) => {
                Err("netem, policy, preset and single effects each say all by themselves: give one of them"
                    .to_owned())
            }
        }
    }

    fn clauses(&self, named: &Named) -> Result<Clauses, String> {
        let seed = self.seed.map(|seed| seed.to_string());
        let mut clauses = Clauses::default();
        for (name, text) in [
            ("latency", &self.latency),
            ("jitter", &self.jitter),
            ("loss", &self.loss),
            ("duplicate", &self.duplicate),
            ("corrupt", &self.corrupt),
            ("reorder", &self.reorder),
            ("rate", &self.rate),
            ("trace", &self.trace),
            ("queue", &self.queue),
            ("mark", &self.mark),
            ("slot", &self.slot),
            ("seed", &seed),
        ] {
            if let Some(text) = text {
                clauses.set(name, text, named).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(clauses)
    }
}
