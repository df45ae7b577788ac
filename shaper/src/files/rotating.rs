//! A file that only grows, and is begun anew once it is large.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The number of older files that are kept.
const OLDER: u32 = 5;

/// A file to whose end lines are written. Beside it are the older ones: `NAME.1` is the last of them, `NAME.5` the first.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    most_bytes: u64,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// The file at `path`, which is made if there is none, for this user only.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn open(path: &Path, most_bytes: u64) -> io::Result<Self> {
        let (file, bytes) = open(path)?;
        Ok(Self { path: path.to_owned(), most_bytes, file, bytes })
    }

    /// Writes a line, in another file if it would not fit into this one.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or another file cannot be begun.
    pub(crate) fn write_line(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.bytes > 0 && self.bytes + length > self.most_bytes {
            self.rotate()?;
        }
        self.bytes += length;
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..OLDER).rev() {
            match fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, older(1))?;
        (self.file, self.bytes) = open(&self.path)?;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options().append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_begun_anew_and_the_last_ones_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).ok();
        let mut file = RotatingFile::open(&path, 8).expect("it can be made");
        for number in 0..4 {
            file.write_line(&format!("{number}00")).expect("it can be written");
        }
        assert_eq!(text("audit.jsonl").as_deref(), Some("200\n300\n"));
        assert_eq!(text("audit.jsonl.1").as_deref(), Some("000\n100\n"));
        drop(file);
        let mut file = RotatingFile::open(&path, 8).expect("it can be opened");
        for number in 4..16 {
            file.write_line(&format!("{number:03}")).expect("it can be written");
        }
        assert_eq!(text("audit.jsonl").as_deref(), Some("014\n015\n"));
        assert_eq!(text("audit.jsonl.5").as_deref(), Some("004\n005\n"));
        assert_eq!(text("audit.jsonl.6"), None);
        file.write_line("longer than all").expect("it can be written");
        assert_eq!(text("audit.jsonl").as_deref(), Some("longer than all\n"));
    }
}
