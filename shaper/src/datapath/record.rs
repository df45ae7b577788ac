//! The records of what devices were before they were touched, as they are pinned.

use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError};
use shaper_common::{ORIGINAL_MAP, Original};

use super::error::{OpenError, none_if_unusable};

/// The record, pinned in `directory`, of what the device was.
///
/// # Errors
///
/// When it is not pinned there, or of another layout.
pub(super) fn read(directory: &Path) -> Result<Original, MapError> {
    let map: Array<_, Original> =
        Array::try_from(Map::Array(MapData::from_pin(directory.join(ORIGINAL_MAP))?))?;
    map.get(&0, 0)
}

/// The record, pinned in `directory`, of a device that was touched; none where it was not, or where the record is of
/// another layout.
///
/// # Errors
///
/// When it cannot be read now.
pub(super) fn recorded(directory: &Path) -> Result<Option<Original>, OpenError> {
    let original = read(directory).map_err(|error| {
        OpenError::new(&format!("open the pinned {ORIGINAL_MAP} in {}", directory.display()), &error)
    });
    Ok(none_if_unusable(original)?.filter(|original| original.valid != 0))
}
