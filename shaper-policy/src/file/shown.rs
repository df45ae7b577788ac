//! A policy as it is written.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Distribution, Effects, Interfaces, Policy, Schedule, Step, Target};

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown::of(self).serialize(serializer)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A policy as it is written.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interface: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    prepare: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(flatten)]
    schedule: ShownSchedule,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    target: Vec<ShownTarget>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    distributions: BTreeMap<&'a str, &'a [i32]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    traces: BTreeMap<&'a str, &'a [u32]>,
}

#[derive(Serialize)]
struct ShownSchedule {
    #[serde(skip_serializing_if = "String::is_empty")]
    netem: String,
    #[serde(skip_serializing_if = "is_false")]
    repeat: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    step: Vec<ShownStep>,
}

#[derive(Serialize)]
struct ShownStep {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#for: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    ramp: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    netem: String,
}

#[derive(Serialize)]
struct ShownTarget {
    to: String,
    #[serde(flatten)]
    schedule: ShownSchedule,
}

impl<'a> Shown<'a> {
    fn of(policy: &'a Policy) -> Self {
        let target = |target: &Target| ShownTarget {
            to: target.rule.to_string(),
            schedule: ShownSchedule::of(&target.schedule),
        };
        let distribution = |distribution: &'a Distribution| match distribution {
            Distribution::Table { name, entries } => Some((name.as_str(), &entries[..])),
            _ => None,
        };
        Self {
            interface: policy.interfaces.as_ref().map(Interfaces::names).unwrap_or_default(),
            network: policy.interfaces.as_ref().map(Interfaces::networks).unwrap_or_default(),
            prepare: policy.prepared,
            seed: policy.seed,
            schedule: ShownSchedule::of(&policy.schedule),
            target: policy.targets.iter().map(target).collect(),
            distributions: policy.distributions().filter_map(distribution).collect(),
            traces: policy.traces().map(|trace| (trace.name.as_str(), &trace.times_ms[..])).collect(),
        }
    }
}

impl ShownSchedule {
    fn of(schedule: &Schedule) -> Self {
        if let Some(effects) = schedule.constant().filter(|_| !schedule.repeats()) {
            return Self { netem: effects.to_string(), repeat: false, step: Vec::new() };
        }
        let step = |step: &Step| ShownStep {
            r#for: step.lasts.map(|lasts| humantime::format_duration(lasts).to_string()),
            ramp: step.ramp,
            netem: Effects::to_string(&step.effects),
        };
        Self {
            netem: String::new(),
            repeat: schedule.repeats(),
            step: schedule.steps().iter().map(step).collect(),
        }
    }
}
