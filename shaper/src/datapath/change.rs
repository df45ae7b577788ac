//! Changes of policies that are ready to be made, and how they are undone.

use std::sync::Arc;

use super::{attachment, instance::Instance, loaded::Loaded};
use crate::shaping::{Policy, ShapingError};

/// The last step of a change of an interface's policy.
pub(super) enum Change {
    /// It is attached, and does nothing yet.
    Begin { instance: Arc<Instance>, policy: Policy },
    /// The program can carry out the policy.
    Write { instance: Arc<Instance>, policy: Policy },
    /// Another program, which has the policy, is to take its place.
    Replace { old: Arc<Instance>, next: Arc<Instance>, loaded: Box<Loaded> },
}

/// The reversal of a change.
pub(super) enum Undo {
    Write { instance: Arc<Instance>, policy: Policy },
    Replace { old: Arc<Instance>, next: Arc<Instance> },
}

impl Change {
    /// The end of all that is done on an interface.
    pub(super) fn end(instance: Arc<Instance>) -> Self {
        Self::Write { instance, policy: Policy::default() }
    }

    /// Makes it; says how it is undone.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing has changed then.
    pub(super) fn make(&mut self) -> Result<Option<Undo>, ShapingError> {
        match self {
            Self::Begin { instance, policy } | Self::Write { instance, policy } => {
                let old = instance.policy().ok();
                instance.write_policy(policy)?;
                Ok(old.map(|policy| Undo::Write { instance: Arc::clone(instance), policy }))
            }
            Self::Replace { old, next, loaded } => {
                attachment::replace(loaded.classifier()?, next, old.program_id())?;
                Ok(Some(Undo::Replace { old: Arc::clone(old), next: Arc::clone(next) }))
            }
        }
    }
}

impl Undo {
    /// Undoes it, as far as can be.
    pub(super) fn carry_out(self) {
        let (instance, undone) = match self {
            Self::Write { instance, policy } => {
                let undone = instance.write_policy(&policy);
                (instance, undone)
            }
            Self::Replace { old, next } => {
                let undone = old
                    .classifier()
                    .and_then(|mut classifier| attachment::replace(&mut classifier, &old, next.program_id()));
                (old, undone)
            }
        };
        if let Err(error) = undone {
            tracing::error!(interface = %instance, %error, "cannot put a policy back");
        }
    }
}
