//! Debian's kernels: found where they were unpacked before, or fetched and unpacked. Nothing of them is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::Apt;
use crate::process::{find_program, run};
use crate::progress::step;

/// A series of kernels in Debian 12's archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 12's own
    #[default]
    #[value(name = "6.1")]
    V6_1,
    /// The newer one, with TCX and netkit
    #[value(name = "6.12")]
    V6_12,
}

impl Series {
    /// Matches the names of its packages for `apt-cache search`.
    const fn packages(self) -> &'static str {
        match self {
            Self::V6_1 => "^linux-image-6[.]1[.]0-[0-9]+-amd64-unsigned$",
            Self::V6_12 => "^linux-image-6[.]12[.][0-9]+[+]deb12-amd64-unsigned$",
        }
    }

    /// The beginning of its releases.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1.",
            Self::V6_12 => "6.12.",
        }
    }
}

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// The release, as `uname -r` prints it.
    pub(crate) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series that is unpacked in a directory.
    pub(crate) fn find(vm_dir: &Path, series: Series) -> Option<Self> {
        let entries = fs::read_dir(vm_dir).ok()?.filter_map(Result::ok);
        let kernels = entries.filter_map(|entry| {
            let kernel = Self { release: entry.file_name().into_string().ok()?, directory: entry.path() };
            let is_whole = kernel.image().exists() && kernel.modules().join("modules.dep").exists();
            (is_whole && kernel.release.starts_with(series.prefix())).then_some(kernel)
        });
        kernels.max_by_key(|kernel| numbers(&kernel.release))
    }

    /// Downloads Debian's newest kernel of a series and unpacks it in a directory.
    pub(crate) fn unpack(vm_dir: &Path, series: Series, apt: &mut Apt) -> Result<Self> {
        apt.update()?;
        let known = apt.search(series.packages())?;
        let newest = known.into_iter().max_by_key(|package| numbers(package));
        let package = newest.with_context(|| {
            format!(
                "find a package {} in apt's lists: these are not Debian 12's; add its archive",
                series.packages()
            )
        })?;
        let release = package["linux-image-".len()..].trim_end_matches("-unsigned").to_owned();
        let scratch = vm_dir.join(format!(".unpack-{}", std::process::id()));
        fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        step(&format!("downloading {package} (about 100 MB)"), || apt.download(&package, &scratch))?;
        step("unpacking it", || unpack_archive(&scratch, &release))?;
        let kernel = Self { directory: vm_dir.join(&release), release };
        // A rename publishes the whole tree at once. In the way can only be one that `find` refused.
        drop(fs::remove_dir_all(&kernel.directory));
        fs::rename(scratch.join("tree"), &kernel.directory)
            .with_context(|| format!("move the kernel to {}", kernel.directory.display()))?;
        fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
        Ok(kernel)
    }

    /// The file to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The directory of the modules, as `/lib/modules/RELEASE` would be.
    pub(crate) fn modules(&self) -> PathBuf {
        self.tree().join("lib/modules").join(&self.release)
    }

    /// The directory that holds `boot` and `lib`.
    pub(crate) fn tree(&self) -> &Path {
        &self.directory
    }
}

/// The numbers in the name of a release or package, which order those of a series.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|character: char| !character.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn unpack_archive(scratch: &Path, release: &str) -> Result<()> {
    let entries = fs::read_dir(scratch).with_context(|| format!("list {}", scratch.display()))?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = files.find(|file| file.extension().is_some_and(|extension| extension == "deb"));
    let archive = archive.with_context(|| format!("find the downloaded package in {}", scratch.display()))?;
    let tree = scratch.join("tree");
    run(Command::new("dpkg-deb").arg("-x").args([&archive, &tree]))?;
    let depmod = find_program("depmod").context("find depmod in PATH: type `cargo xtask setup vm`")?;
    run(Command::new(depmod).arg("-b").arg(&tree).arg(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_ordered_by_number_not_by_text() {
        assert!(numbers("6.1.0-100-amd64") > numbers("6.1.0-56-amd64"));
        assert!(numbers("linux-image-6.12.117+deb12-amd64") > numbers("linux-image-6.12.99+deb12-amd64"));
    }

    #[test]
    fn the_newest_kernel_of_the_asked_series_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.117+deb12-amd64", "run-1234"] {
            let modules = directory.path().join(release).join("lib/modules").join(release);
            fs::create_dir_all(&modules).expect("it is empty");
            fs::write(modules.join("modules.dep"), "").expect("it is there");
            let boot = directory.path().join(release).join("boot");
            fs::create_dir(&boot).expect("it is not there");
            fs::write(boot.join(format!("vmlinuz-{release}")), "").expect("it is there");
        }
        let found = |series| Kernel::find(directory.path(), series).map(|kernel| kernel.release);
        assert_eq!(found(Series::V6_1).as_deref(), Some("6.1.0-56-amd64"));
        assert_eq!(found(Series::V6_12).as_deref(), Some("6.12.117+deb12-amd64"));
    }
}
