//! Finds the name of the preset that a container has: the kernel keeps effects, not names.

use crate::shaping::{ContainerView, Direction, Effects, Named, Policy, Presets};

/// The presets' names and effects.
pub(super) struct Networks(Vec<(String, [Option<Policy>; 2])>);

const WAYS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

impl Networks {
    /// Returns those of `presets`, whose words have been checked.
    pub(super) fn of(presets: &Presets) -> Self {
        let policy = |words: &str| Effects::parse(words, &Named::default()).map(Policy::always).ok();
        let policies = presets.iter().map(|(name, preset)| {
            (name.to_owned(), WAYS.map(|direction| preset.effects(direction).and_then(policy)))
        });
        Self(policies.collect())
    }

    /// The preset that is in force, and nothing beside it.
    pub(super) fn name_of(&self, view: &ContainerView) -> Option<&str> {
        let in_force = WAYS.map(|direction| view.shaping(direction).map(|shaping| &*shaping.policy));
        let preset = self.0.iter().find(|(_, policies)| policies.each_ref().map(Option::as_ref) == in_force);
        preset.filter(|_| in_force != [None, None]).map(|(name, _)| name.as_str())
    }
}
