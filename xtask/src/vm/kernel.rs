//! Debian's kernel: found where it was unpacked before, or fetched and unpacked. Nothing of it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{find_program, run};
use crate::progress::step;
use crate::setup::Apt;

/// What the names of Debian 12's kernel packages start and end with; between them is the number of the ABI.
const PACKAGE: (&str, &str) = ("linux-image-6.1.0-", "-amd64-unsigned");

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// What `uname -r` says in it.
    pub(crate) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// The newest kernel that is unpacked in a directory.
    pub(crate) fn find(vm_dir: &Path) -> Option<Self> {
        let entries = fs::read_dir(vm_dir).ok()?.filter_map(Result::ok);
        let kernels = entries.filter_map(|entry| {
            let kernel = Self { release: entry.file_name().into_string().ok()?, directory: entry.path() };
            (kernel.image().exists() && kernel.modules().join("modules.dep").exists()).then_some(kernel)
        });
        kernels.max_by_key(|kernel| abi(&kernel.release))
    }

    /// Downloads Debian's newest kernel and unpacks it in a directory.
    pub(crate) fn unpack(vm_dir: &Path, apt: &mut Apt) -> Result<Self> {
        apt.update()?;
        let (prefix, suffix) = PACKAGE;
        let known = apt.search(&format!("^{prefix}[0-9]+{suffix}$"))?;
        let newest = known.into_iter().max_by_key(|package| abi(&package[prefix.len()..]));
        let package = newest.with_context(|| {
            format!(
                "find a package {prefix}*{suffix} in apt's lists: these are not Debian 12's; add its archive"
            )
        })?;
        let release = package["linux-image-".len()..].trim_end_matches("-unsigned").to_owned();
        let scratch = vm_dir.join(format!(".unpack-{}", std::process::id()));
        fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        step(&format!("downloading {package} (70 MB)"), || apt.download(&package, &scratch))?;
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

/// The number that a kernel release such as `6.1.0-56-amd64`, or a part of it, is ordered by.
fn abi(release: &str) -> u32 {
    let release = release.strip_prefix("6.1.0-").unwrap_or(release);
    release.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
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
    use super::abi;

    #[test]
    fn kernels_are_ordered_by_number_not_by_text() {
        assert!(abi("6.1.0-100-amd64") > abi("6.1.0-56-amd64"));
        assert_eq!(abi("56-amd64-unsigned"), 56);
        assert_eq!(abi("run-1234"), 0);
    }
}
