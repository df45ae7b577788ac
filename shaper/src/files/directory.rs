//! Directories that only this user can change, and that one daemon has at a time.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag, openat},
    sys::stat::{Mode, fchmod, fstat, mkdirat},
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};
use thiserror::Error;

/// The directory that is locked, in the directory that it locks: `flock` needs no more than permission to read, which
/// nobody else has for this one, whoever may read or has opened the one around it. bpffs admits no plain files.
pub(crate) const LOCK: &str = "lock";

/// Opens a directory itself and not what a symbolic link leads to.
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The reason why a directory cannot be used.
#[derive(Debug, Error)]
pub(crate) enum DirectoryError {
    /// Another user could change what is in it.
    #[error("{0}")]
    Unsafe(String),
    /// Another daemon has it.
    #[error("another shaper daemon uses it")]
    Busy,
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for DirectoryError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// An open directory that belongs to this user, and that nobody else may write to; nor may they rename it.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory, or makes it with mode 0700.
    ///
    /// # Errors
    ///
    /// When it cannot be made or opened, or when another user can change it or a directory above it.
    pub(crate) fn make(path: &Path) -> Result<Self, DirectoryError> {
        let path = &*std::path::absolute(path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            check_path(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        check_path(path)?;
        let real = path.canonicalize()?;
        check_path(&real)?;
        let fd = nix::fcntl::open(&real, DIRECTORY, Mode::empty())?;
        check_directory(&fd, path)?;
        Ok(Self { fd })
    }

    /// Takes from other users the right to read it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(crate) fn close_to_others(&self) -> Result<(), DirectoryError> {
        Ok(fchmod(&self.fd, Mode::S_IRWXU)?)
    }

    /// Takes it for this process alone, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// When another process has it.
    pub(crate) fn lock(self) -> Result<Lock, DirectoryError> {
        loop {
            match mkdirat(&self.fd, LOCK, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let fd = match openat(&self.fd, LOCK, DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) => continue,
                opened => opened?,
            };
            check_directory(&fd, Path::new(LOCK))?;
            let lock =
                Flock::lock(fd, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
                    Errno::EWOULDBLOCK => DirectoryError::Busy,
                    error => error.into(),
                })?;
            // The daemon that had it may have removed it at its end, between the opening and the lock.
            if fstat(&*lock)?.st_nlink > 0 {
                return Ok(Lock { directory: self, _lock: lock });
            }
        }
    }
}

/// A directory that no other daemon uses.
#[derive(Debug)]
pub(crate) struct Lock {
    directory: Directory,
    _lock: Flock<OwnedFd>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked. One that stays, or has gone with the directory already, does no harm.
        let _ = unlinkat(&self.directory.fd, LOCK, UnlinkatFlags::RemoveDir);
    }
}

/// Removes a directory and the files in it; of symbolic links, only the links.
///
/// # Errors
///
/// When the kernel refuses; that there is none is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let fd = match nix::fcntl::open(path, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return fs::remove_file(path),
        opened => opened?,
    };
    let entries: Vec<_> = Dir::from_fd(fd.try_clone()?)?.iter().collect::<Result<_, _>>()?;
    for entry in entries {
        if ![c".", c".."].contains(&entry.file_name()) {
            unlinkat(&fd, entry.file_name(), UnlinkatFlags::NoRemoveDir)?;
        }
    }
    fs::remove_dir(path)
}

/// Checks each directory on the way: another user must not be able to put something else into a place on it.
fn check_path(path: &Path) -> Result<(), DirectoryError> {
    let mut above: Vec<_> = path.ancestors().skip(1).collect();
    above.reverse();
    for directory in above {
        let metadata = directory.symlink_metadata()?;
        let is_sticky = metadata.mode() & Mode::S_ISVTX.bits() != 0;
        let may_change = metadata.is_dir() && metadata.mode() & 0o022 != 0 && !is_sticky;
        check(directory, metadata.uid(), may_change, metadata.mode())?;
    }
    let last = path.symlink_metadata()?;
    check(path, last.uid(), false, last.mode())
}

fn check_directory(fd: &OwnedFd, path: &Path) -> Result<(), DirectoryError> {
    let stat = fstat(fd)?;
    check(path, stat.st_uid, stat.st_mode & 0o022 != 0, stat.st_mode)
}

fn check(path: &Path, owner: u32, others_may_change: bool, mode: u32) -> Result<(), DirectoryError> {
    let user = geteuid().as_raw();
    if owner != user && owner != 0 {
        return Err(DirectoryError::Unsafe(format!(
            "{} belongs to user {owner}, and should belong to root or to user {user}, who runs the daemon",
            path.display()
        )));
    }
    if others_may_change {
        return Err(DirectoryError::Unsafe(format!(
            "other users may write to {} (mode {:o}): look at what is in it, and `chmod go-w` it",
            path.display(),
            mode & 0o7777
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn made(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let around = tempfile::tempdir().expect("a directory");
        let path = around.path().join("ours");
        fs::create_dir(&path).expect("a directory");
        set_mode(&path, mode);
        (around, path)
    }

    fn refusal(path: &Path) -> String {
        Directory::make(path).expect_err("it is not safe").to_string()
    }

    #[test]
    fn one_process_at_a_time_has_a_directory_and_leaves_nothing_in_it() {
        let (_around, path) = made(0o755);
        let lock = Directory::make(&path).and_then(Directory::lock).expect("the lock");
        let again = Directory::make(&path).and_then(Directory::lock);
        assert!(matches!(again, Err(DirectoryError::Busy)), "{again:?}");
        drop(lock);
        assert_eq!(fs::read_dir(&path).expect("a directory").count(), 0);
        Directory::make(&path).and_then(Directory::lock).expect("the lock again");
    }

    #[test]
    fn who_may_read_a_directory_keeps_nobody_out() {
        let (_around, path) = made(0o755);
        let reader = fs::File::open(&path).expect("anybody may");
        let _held = Flock::lock(reader, FlockArg::LockExclusiveNonblock).expect("their lock");
        Directory::make(&path).and_then(Directory::lock).expect("our lock");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        for mode in [0o775, 0o777, 0o1777, 0o702] {
            let (_around, path) = made(mode);
            let expected =
                format!("other users may write to {} (mode {mode:o}): look at what", path.display());
            assert!(refusal(&path).starts_with(&expected), "{}", refusal(&path));
        }
    }

    #[test]
    fn a_directory_that_others_may_rename_is_refused() {
        let (around, path) = made(0o700);
        set_mode(around.path(), 0o777);
        let expected = format!("other users may write to {} (mode 777)", around.path().display());
        assert!(refusal(&path).starts_with(&expected), "{}", refusal(&path));
        set_mode(around.path(), 0o1777);
        Directory::make(&path).expect("the sticky bit keeps it where it is");
    }

    #[test]
    fn a_link_to_what_others_may_write_to_is_refused() {
        let (around, path) = made(0o777);
        let link = around.path().join("link");
        symlink(&path, &link).expect("a link");
        assert!(refusal(&link).starts_with("other users may write to"), "{}", refusal(&link));
    }

    #[test]
    fn what_a_link_leads_to_is_not_removed() {
        let (around, path) = made(0o700);
        fs::write(path.join("precious"), "").expect("a file");
        let (link, outer) = (around.path().join("link"), around.path().join("outer"));
        symlink(&path, &link).expect("a link");
        fs::create_dir(&outer).expect("a directory");
        symlink(path.join("precious"), outer.join("link")).expect("a link");
        for gone in [&link, &outer, &outer] {
            remove(gone).expect("removed, or not there");
            gone.symlink_metadata().expect_err("it has gone");
        }
        assert!(path.join("precious").exists());
    }
}
