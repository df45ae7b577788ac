//! An object in the kernel.

use std::io;

use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::{ProgramError, SchedClassifier},
};
use nix::libc::EPERM;

use crate::shaping::{Attempt, Failure, ShapingError};

/// An object in the kernel, of which one classifier is loaded.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) name: &'static str,
}

impl Loaded {
    /// The classifier.
    ///
    /// # Errors
    ///
    /// Never with the object that this crate was built with.
    pub(super) fn classifier(&mut self) -> Result<&mut SchedClassifier, ShapingError> {
        let missing = || Attempt::FindProgram(self.name).failed("there is none");
        let program = self.ebpf.program_mut(self.name).ok_or_else(missing)?;
        program.try_into().map_err(|error: ProgramError| refused(&error))
    }

    /// One of its arrays and tries.
    ///
    /// # Errors
    ///
    /// As [`Self::classifier`].
    pub(super) fn map(&mut self, name: &str) -> Result<&mut MapData, ShapingError> {
        match self.ebpf.map_mut(name) {
            Some(Map::Array(map) | Map::LpmTrie(map)) => Ok(map),
            _ => Err(Attempt::FindMap(name.to_owned()).failed("there is none").into()),
        }
    }
}

/// Says what it means that the kernel takes no program.
pub(super) fn refused(error: &(dyn std::error::Error + 'static)) -> ShapingError {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        // The verifier answers EACCES, to whoever asks.
        let errno = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno == Some(EPERM) {
            return Failure::MayNotLoad.into();
        }
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    Attempt::LoadProgram.failed(causes.join(": ")).into()
}
