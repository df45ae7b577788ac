//! One value for all packets of a policy, where there is room for no more.

use std::fmt;

use super::{
    bounded::{Latency, Loss},
    effects::Effects,
    schedule::Schedule,
    shaping::Shaping,
};

/// A property over all steps and targets of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overall<T> {
    /// The same for all packets at all times.
    Same(T),
    /// Different for some.
    Varies,
}

impl<T: fmt::Display> fmt::Display for Overall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(value) => value.fmt(f),
            Self::Varies => f.write_str("varies"),
        }
    }
}

impl Shaping {
    /// The mean delay.
    pub fn overall_latency(&self) -> Option<Overall<Latency>> {
        self.overall(|effects| Latency::new(effects.delay.as_ref()?.time).ok()?)
    }

    /// The mean share of lost packets, whatever the loss model.
    pub fn overall_loss(&self) -> Option<Overall<Loss>> {
        self.overall(|effects| Loss::from_percent(effects.loss?.model.mean_percent()).ok()?)
    }

    /// A property of all packets, or none if no packet has it. A single ramp has that of its end, if its end has any.
    fn overall<T: PartialEq>(&self, property: impl Fn(&Effects) -> Option<T>) -> Option<Overall<T>> {
        let of_schedule = |schedule: &Schedule| match schedule.settled().and_then(&property) {
            Some(end) => vec![Some(end)],
            None => schedule.steps().iter().map(|step| property(&step.effects)).collect(),
        };
        let mut values = self.policy.schedules().flat_map(of_schedule);
        let first = values.next()?;
        if values.all(|value| value == first) { first.map(Overall::Same) } else { Some(Overall::Varies) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(policy: &str) -> [String; 2] {
        let shaping = Shaping {
            policy: Arc::new(serde_json::from_str(policy).expect("a policy")),
            expires_at_ns: None,
        };
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            text(shaping.overall_latency().map(|latency| latency.to_string())),
            text(shaping.overall_loss().map(|loss| loss.to_string())),
        ]
    }

    #[test]
    fn a_property_is_shown_whenever_some_packets_have_it() {
        for (policy, latency, loss) in [
            (r#"{"netem": "delay 100ms 20ms loss gemodel 1% 10%"}"#, "100ms", "9.091%"),
            (r#"{"netem": "loss 10% 25% ecn"}"#, "-", "10%"),
            (
                r#"{"netem": "delay 10ms", "target": [{"to": "10.0.0.0/8", "loss": "5%"}]}"#,
                "varies",
                "varies",
            ),
            (
                r#"{"netem": "delay 10ms", "target": [{"to": "10.0.0.0/8", "netem": "delay 10ms loss every 4"}]}"#,
                "10ms",
                "varies",
            ),
            (r#"{"step": [{"for": "10s", "netem": "loss 1%"}, {"netem": "loss 2%"}]}"#, "-", "varies"),
            (
                r#"{"step": [{"for": "10s", "ramp": true, "netem": "delay 1ms"}, {"netem": "delay 9ms"}]}"#,
                "9ms",
                "-",
            ),
            (
                r#"{"step": [{"for": "10s", "ramp": true, "netem": "loss 10%"}, {"netem": "delay 9ms"}]}"#,
                "9ms",
                "varies",
            ),
            ("{}", "-", "-"),
        ] {
            assert_eq!(shown(policy), [latency, loss], "{policy}");
        }
    }
}
