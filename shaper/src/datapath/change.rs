//! Changes of policies that are ready to be made, and how they are undone.

use std::sync::Arc;

use super::{attach, instance::Instance, loaded::Loaded};
use crate::shaping::{Shaping, ShapingError};

/// The last step of a change of an interface's policy.
pub(super) enum Change {
    /// It is attached, and does nothing yet.
    Begin { instance: Arc<Instance>, shaping: Shaping },
    /// The program can carry out the policy.
    Write { instance: Arc<Instance>, shaping: Shaping },
    /// Another program, which has the policy, is to take its place.
    Replace { old: Arc<Instance>, next: Arc<Instance>, loaded: Box<Loaded> },
}

/// The reversal of a change.
pub(super) enum Undo {
    Write { instance: Arc<Instance>, shaping: Shaping },
    Replace { old: Arc<Instance>, next: Arc<Instance> },
}

impl Change {
    /// The end of all that is done on an interface.
    pub(super) fn end(instance: Arc<Instance>) -> Self {
        Self::Write { instance, shaping: Shaping::default() }
    }

    /// The instance that it begins, if it does.
    pub(super) fn begun(&self) -> Option<Arc<Instance>> {
        match self {
            Self::Begin { instance, .. } => Some(Arc::clone(instance)),
            Self::Write { .. } | Self::Replace { .. } => None,
        }
    }

    /// Makes it; says how it is undone.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; nothing has changed then.
    pub(super) fn make(&mut self) -> Result<Option<Undo>, ShapingError> {
        match self {
            Self::Begin { instance, shaping } | Self::Write { instance, shaping } => {
                let old = instance.shaping().ok();
                instance.write_shaping(shaping)?;
                Ok(old.map(|shaping| Undo::Write { instance: Arc::clone(instance), shaping }))
            }
            Self::Replace { old, next, loaded } => {
                attach::replace(loaded.classifier()?, next, old.program_id())?;
                Ok(Some(Undo::Replace { old: Arc::clone(old), next: Arc::clone(next) }))
            }
        }
    }
}

impl Undo {
    /// Undoes it, as far as can be.
    pub(super) fn carry_out(self) {
        let (instance, undone) = match self {
            Self::Write { instance, shaping } => {
                let undone = instance.write_shaping(&shaping);
                (instance, undone)
            }
            Self::Replace { old, next } => {
                let undone = old
                    .classifier()
                    .and_then(|mut classifier| attach::replace(&mut classifier, &old, next.program_id()));
                (old, undone)
            }
        };
        if let Err(error) = undone {
            tracing::error!(interface = %instance, %error, "cannot put a policy back");
        }
    }
}
