//! The files of the guest: an initramfs with the modules that reach the host's files, the two scripts that prepare the
//! machine, and one script for each command.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::{find_program, output, shell_quote};
use crate::setup::kernel::Kernel;

/// A command for the guest.
pub(crate) struct GuestCommand {
    arguments: Vec<String>,
    directory: PathBuf,
    environment: Vec<(String, String)>,
}

impl GuestCommand {
    /// A command with the caller's PATH and HOME, and those of its variables that are meant for the programs here.
    ///
    /// TMPDIR names a tmpfs: everything else is an overlay, on which no other overlay can be put.
    pub(crate) fn new(arguments: Vec<String>, directory: &Path) -> Self {
        let handed_over = |name: &str| {
            let ours = name.starts_with("SHAPER_") || name.starts_with("RUST_");
            let sane = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            (ours && sane) || name == "PATH" || name == "HOME"
        };
        let strings = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let ours = strings.filter(|(name, _)| handed_over(name));
        let environment = ours.map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect();
        Self { arguments, directory: directory.to_owned(), environment }.env("TMPDIR", "/run/tmp")
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn script(&self) -> String {
        let exports =
            self.environment.iter().map(|(name, value)| format!("export {name}={}\n", shell_quote(value)));
        let words: Vec<_> = self.arguments.iter().map(|word| shell_quote(word)).collect();
        let directory = shell_quote(&self.directory.to_string_lossy());
        format!("{}cd {directory} || exit 126\nexec {}\n", exports.collect::<String>(), words.join(" "))
    }
}

/// Writes the initramfs to `archive`, by way of a tree in `scratch`.
pub(super) fn write_initramfs(
    kernel: &Kernel,
    commands: &[GuestCommand],
    scratch: &Path,
    archive: &Path,
) -> Result<()> {
    for directory in ["bin", "proc", "sys", "dev", "host", "layer", "union", "modules", "guest/commands"] {
        let directory = scratch.join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let busybox = find_program("busybox").context("find busybox in PATH: type `cargo xtask setup vm`")?;
    copy(&busybox, &scratch.join("bin/busybox"))?;
    symlink("busybox", scratch.join("bin/sh")).context("link sh in the initramfs")?;
    write(&scratch.join("init"), include_str!("init.sh"))?;
    fs::set_permissions(scratch.join("init"), fs::Permissions::from_mode(0o755))
        .context("make init executable")?;
    write(&scratch.join("guest/main.sh"), include_str!("main.sh"))?;
    write(&scratch.join("guest/modules"), &kernel.modules().to_string_lossy())?;
    copy_modules(kernel, &scratch.join("modules"))?;
    for (number, command) in commands.iter().enumerate() {
        write(&scratch.join(format!("guest/commands/{number:05}")), &command.script())?;
    }
    pack(scratch, archive)
}

/// Copies the modules that the initramfs needs, with a file that lists them in the order to load them in.
fn copy_modules(kernel: &Kernel, destination: &Path) -> Result<()> {
    let modprobe = find_program("modprobe").context("find modprobe in PATH: type `cargo xtask setup vm`")?;
    let mut command = Command::new(modprobe);
    command.arg("-d").arg(kernel.tree()).args(["-S", &kernel.release, "--show-depends", "-a"]);
    let listing = output(command.args(["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"]))?;
    let mut order: Vec<String> = Vec::new();
    for path in
        listing.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|path| Path::new(path.trim()))
    {
        let name = path.file_name().with_context(|| format!("find a file name in {}", path.display()))?;
        let name = name.to_string_lossy().into_owned();
        if !order.contains(&name) {
            copy(path, &destination.join(&name))?;
            order.push(name);
        }
    }
    write(&destination.join("order"), &(order.join("\n") + "\n"))
}

fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let file = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let packed = Command::new("sh")
        .args(["-c", "find . | cpio --create --format=newc --quiet"])
        .current_dir(tree)
        .stdin(Stdio::null())
        .stdout(file)
        .status();
    if !packed.context("start sh to pack the initramfs")?.success() {
        bail!("packing {} with cpio failed: type `cargo xtask setup vm`", archive.display());
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_words_directory_and_variables() {
        let words = ["sh", "-c", r#"printf '%s|' "$@" "$PWD" "$SHAPER_X""#, "sh", "it's", "two words", ""];
        let command = GuestCommand::new(words.map(str::to_owned).to_vec(), Path::new("/usr"));
        let command = command.env("SHAPER_X", "first").env("SHAPER_X", "last\n$line");
        let printed = output(Command::new("sh").args(["-c", &command.script()])).expect("sh runs everywhere");
        assert_eq!(printed, "it's|two words||/usr|last\n$line|");
    }
}
