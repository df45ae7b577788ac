//! Replaces a file as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Writes a file in the place of the one before it, or leaves that as it is; others cannot read it. It is on the disk when
/// this returns.
///
/// # Errors
///
/// When the directory cannot be made or written, or the disk is full.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    };
    write().inspect_err(|_| {
        // It may not have been made.
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/state.json");
        for contents in ["first", "second and longer", "third"] {
            replace(&path, contents.as_bytes()).expect("it can be written");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), contents);
        }
        fs::create_dir(path.with_extension("new")).expect("it is not there");
        replace(&path, b"fourth").expect_err("its place is taken");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "third");
    }
}
