//! Reads files that people name.

use std::{
    fs::{FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    str::Utf8Error,
};

use nix::fcntl::OFlag;
use thiserror::Error;

/// The most bytes of a file: as many as of a request's body, into which a policy with its tables has to fit.
const LIMIT: u64 = 12 * 1024 * 1024;

/// An error in reading a file that people name.
#[derive(Debug, Error)]
#[error("read {file}: {reason}")]
pub(crate) struct ReadError {
    file: String,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else, of this kind.
    #[error("it is {0}, a regular file is expected")]
    NoFile(&'static str),
    #[error("it has more than {LIMIT} bytes, which is the most")]
    TooLarge,
    #[error("it is not UTF-8: {0}")]
    NotText(#[from] Utf8Error),
}

/// Reads a regular file of text.
///
/// Never waits for a pipe's other end, and never reads a device.
///
/// # Errors
///
/// When it cannot be opened or read, is something else than a regular file, is too large, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, ReadError> {
    let failed = |reason| ReadError { file: path.display().to_string(), reason };
    let without_waiting = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(without_waiting.bits()).open(path);
    let file = opened.map_err(|error| failed(Reason::Io(error)))?;
    let metadata = file.metadata().map_err(|error| failed(Reason::Io(error)))?;
    if !metadata.is_file() {
        return Err(failed(Reason::NoFile(kind(metadata.file_type()))));
    }
    if metadata.len() > LIMIT {
        return Err(failed(Reason::TooLarge));
    }
    // It may still grow.
    read_bounded(file).map_err(failed)
}

/// Reads standard input to its end, which may be a pipe.
///
/// # Errors
///
/// When it cannot be read, is too large, or is not UTF-8.
pub(crate) fn read_standard_input() -> Result<String, ReadError> {
    let failed = |reason| ReadError { file: "standard input".to_owned(), reason };
    read_bounded(io::stdin().lock()).map_err(failed)
}

fn read_bounded(from: impl Read) -> Result<String, Reason> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Reason::TooLarge);
    }
    Ok(String::from_utf8(bytes).map_err(|error| error.utf8_error())?)
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).expect("a pipe");
        for (path, kind) in [
            (&*fifo, "a pipe"),
            (directory.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/null"), "a device"),
        ] {
            let expected = format!("read {}: it is {kind}, a regular file is expected", path.display());
            assert_eq!(read(path).expect_err(kind).to_string(), expected);
        }
        let text = directory.path().join("text");
        std::fs::write(&text, "loss 1%").expect("a file");
        assert_eq!(read(&text).expect("text"), "loss 1%");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("large");
        File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file with a hole");
        let expected = format!("read {}: it has more than 12582912 bytes, which is the most", path.display());
        assert_eq!(read(&path).expect_err("too large").to_string(), expected);
        assert!(matches!(read_bounded(io::repeat(b' ')), Err(Reason::TooLarge)));
        File::create(&path).and_then(|file| file.set_len(LIMIT)).expect("a file of the size that is allowed");
        assert_eq!(read(&path).expect("text").len() as u64, LIMIT);
    }
}
