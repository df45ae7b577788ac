//! One file for each effect: its clauses as text.

pub(super) mod bottleneck;
pub(super) mod corrupt;
pub(super) mod delay;
pub(super) mod duplicate;
pub(super) mod loss;
pub(super) mod queue;
pub(super) mod reorder;
pub(super) mod seed;
pub(super) mod slot;
