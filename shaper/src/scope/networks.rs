//! Finds the name of the preset that a container has: the kernel keeps effects, not names.

use crate::shaping::{ContainerView, Direction, Effects, Named, Plan, Presets};

/// The presets' names and effects.
pub(super) struct Networks(Vec<(String, [Option<Plan>; 2])>);

const WAYS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

impl Networks {
    /// Returns those of `presets`, whose words have been checked.
    pub(super) fn of(presets: &Presets) -> Self {
        let plan = |words: &str| Effects::parse(words, &Named::default()).map(Plan::always).ok();
        let plans = presets.iter().map(|(name, preset)| {
            (name.to_owned(), WAYS.map(|direction| preset.effects(direction).and_then(plan)))
        });
        Self(plans.collect())
    }

    /// The preset that is in force, and nothing beside it.
    pub(super) fn name_of(&self, view: &ContainerView) -> Option<&str> {
        let in_force = WAYS.map(|direction| view.policy(direction).map(|policy| &*policy.plan));
        let preset = self.0.iter().find(|(_, plans)| plans.each_ref().map(Option::as_ref) == in_force);
        preset.filter(|_| in_force != [None, None]).map(|(name, _)| name.as_str())
    }
}
