//! The series of one shaped interface in one direction: its labels and numbers.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use crate::shaping::{Container, ContainerView, InterfaceView, Shaping, ShapingState};

/// The most characters of a name in a label.
const LONGEST_NAME: usize = 256;
/// The most characters of a policy in a label.
const LONGEST_POLICY: usize = 128;

pub(super) type Labels = Vec<(&'static str, String)>;

/// One shaped interface in one direction.
#[derive(Debug)]
pub(super) struct Series {
    /// The labels, which no other one has.
    pub(super) labels: Labels,
    pub(super) view: InterfaceView,
    pub(super) rule: Option<String>,
}

impl Series {
    /// The series of all that is shaped. Containers that share a network namespace share its shaping: the first one has it.
    pub(super) fn of(views: Vec<ContainerView>) -> Vec<Self> {
        let (mut namespaces, mut labelled) = (BTreeSet::new(), BTreeSet::new());
        let mut all = Vec::new();
        for ContainerView { container, interfaces, rule, .. } in views {
            let is_first = container.netns.as_ref().is_none_or(|netns| namespaces.insert(netns.id));
            for view in interfaces.into_iter().filter(|_| is_first) {
                let labels = labels(&container, &view);
                // Two with the same labels would make the whole answer invalid.
                if labelled.insert(labels.clone()) {
                    all.push(Self { labels, view, rule: rule.clone() });
                }
            }
        }
        all
    }

    /// Tells whether a policy is in force, as far as is known.
    pub(super) fn is_in_force(&self) -> bool {
        self.view.shaping != Shaping::default() || !self.is_known()
    }

    /// Tells whether its counters can be read. Zeros in their place would be taken for counters that began anew.
    pub(super) const fn is_known(&self) -> bool {
        !matches!(self.view.state, ShapingState::Unknown(_))
    }

    /// Returns the state, the policy and the rule, as labels.
    pub(super) fn info(&self) -> Labels {
        let policy = Some(policy(&self.view.shaping)).filter(|policy| !policy.is_empty());
        let named = [("netem", policy), ("rule", self.rule.clone())];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        [("state", state(&self.view.state).to_owned())].into_iter().chain(named).collect()
    }
}

/// The states of shaping, by name.
pub(super) const STATES: [&str; 3] = ["intact", "broken", "unknown"];

/// The name of a state.
pub(super) const fn state(state: &ShapingState) -> &'static str {
    match state {
        ShapingState::Intact => STATES[0],
        ShapingState::Broken(_) => STATES[1],
        ShapingState::Unknown(_) => STATES[2],
    }
}

fn labels(container: &Container, view: &InterfaceView) -> Labels {
    let pod = container.pod.as_ref();
    let namespace = pod.and_then(|pod| pod.namespace.as_ref());
    let mut labels = vec![
        ("container", cut(&container.name, LONGEST_NAME)),
        ("id", cut(&container.id.short(), LONGEST_NAME)),
        ("runtime", container.runtime.to_string()),
        ("interface", cut(&view.interface, LONGEST_NAME)),
        ("direction", view.direction.to_string()),
    ];
    labels.extend(pod.map(|pod| ("pod", cut(&pod.name, LONGEST_NAME))));
    labels.extend(namespace.map(|namespace| ("namespace", cut(namespace, LONGEST_NAME))));
    labels
}

/// Returns the effects in netem's words, and the number of targets: `delay 50ms, 2 targets`.
fn policy(shaping: &Shaping) -> String {
    let policy = &shaping.policy;
    let words = cut(&policy.schedule, LONGEST_POLICY);
    let words = if words.is_empty() && policy.prepared { "prepared".to_owned() } else { words };
    let targets = match policy.targets.len() {
        0 => None,
        1 => Some("1 target".to_owned()),
        number => Some(format!("{number} targets")),
    };
    Some(words).filter(|words| !words.is_empty()).into_iter().chain(targets).collect::<Vec<_>>().join(", ")
}

/// The first characters of a text, of which no more is made than that.
fn cut(text: &impl fmt::Display, most: usize) -> String {
    let mut cut = Cut { text: String::new(), left: most };
    if write!(cut, "{text}").is_err() {
        cut.text.push_str("...");
    }
    cut.text
}

struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.char_indices().nth(self.left).map(|(end, _)| end);
        self.text.push_str(&text[..end.unwrap_or(text.len())]);
        self.left = self.left.saturating_sub(text.chars().count());
        end.map_or(Ok(()), |_| Err(fmt::Error))
    }
}
