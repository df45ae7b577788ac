//! Files and directories of others and of this user, handled so that nobody else can misuse the daemon's rights.
//!
//! Knows nothing of what the files mean.

mod directory;
mod read;
mod replace;
mod rotating;

pub(crate) use directory::{Directory, DirectoryError, LOCK, Lock, remove};
pub(crate) use read::{read, read_standard_input};
pub(crate) use replace::replace;
pub(crate) use rotating::RotatingFile;
