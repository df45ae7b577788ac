//! Reads files that people name.

use std::{
    fs::{FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::fcntl::OFlag;

/// The most bytes of a file: as many as of a request's body, into which a policy with its tables has to fit.
const LIMIT: u64 = 12 * 1024 * 1024;

/// Reads a regular file of text.
///
/// Never waits for a pipe's other end, and never reads a device.
///
/// # Errors
///
/// When it cannot be opened or read, is something else than a regular file, is too large, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("read {}: {error}", path.display());
    let without_waiting = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(without_waiting.bits()).open(path);
    let file = opened.map_err(|error| failed(&error))?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        let kind = kind(metadata.file_type());
        return Err(failed(&format_args!("it is {kind}, a regular file is expected")));
    }
    if metadata.len() > LIMIT {
        return Err(failed(&format_args!("it has {} bytes, the most is {LIMIT}", metadata.len())));
    }
    // It may still grow.
    read_bounded(file).map_err(|error| failed(&error))
}

/// Reads standard input to its end, which may be a pipe.
///
/// # Errors
///
/// When it cannot be read, is too large, or is not UTF-8.
pub(crate) fn read_standard_input() -> Result<String, String> {
    read_bounded(io::stdin().lock()).map_err(|error| format!("read standard input: {error}"))
}

fn read_bounded(from: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it has more than {LIMIT} bytes, which is the most"));
    }
    String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {}", error.utf8_error()))
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
            assert_eq!(read(path), Err(expected));
        }
        let text = directory.path().join("text");
        std::fs::write(&text, "loss 1%").expect("a file");
        assert_eq!(read(&text).as_deref(), Ok("loss 1%"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("large");
        File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file with a hole");
        let expected = format!("read {}: it has 1099511627776 bytes, the most is 12582912", path.display());
        assert_eq!(read(&path), Err(expected));
        assert_eq!(
            read_bounded(io::repeat(b' ')),
            Err("it has more than 12582912 bytes, which is the most".to_owned())
        );
        File::create(&path).and_then(|file| file.set_len(LIMIT)).expect("a file of the size that is allowed");
        assert_eq!(read(&path).map(|text| text.len() as u64), Ok(LIMIT));
    }
}
