//! The toolchain of the BPF programs: a rustc with its library sources, since `core` is compiled for the BPF target,
//! and a bpf-linker whose LLVM reads what that rustc writes. It gets a name of its own, `shaper-bpf`, that the build
//! script of `shaper` relies on; what is behind the name is this machine's business.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Action, apt};
use crate::process::{cargo, find_program, output, rustup, rustup_run};

/// The name of the rustup toolchain that compiles the BPF programs.
pub(super) const TOOLCHAIN: &str = "shaper-bpf";

/// The advice for machines that are not Debian's.
pub(super) const ELSEWHERE: &str = "
or, where there is no package rustc-web, get a nightly compiler and a bpf-linker of its LLVM version or newer,
    rustup toolchain install nightly --component rust-src
    cargo binstall bpf-linker
and run `cargo xtask setup bpf` again";

const LINKER_VERSION: &str = "0.13.0";

/// The LLVM of Debian 12's `rustc-web` at the time of writing. Should a newer one be installed by then, the second look
/// that [`super::ensure`] takes finds the difference.
const DEBIAN_LLVM: u32 = 22;

/// Returns the actions that are missing for BPF programs to be compiled.
pub(super) fn missing() -> Result<Vec<Action>> {
    find_program("rustup").context("find rustup in PATH: install it as https://rustup.rs says")?;
    let linker = find_program("bpf-linker").and_then(|program| linker_llvm(&program));
    if fits(TOOLCHAIN, linker) {
        return Ok(Vec::new());
    }
    for nightly in nightlies()? {
        if fits(&nightly, linker) {
            let sysroot = Compiler::of(&nightly)?.sysroot;
            return Ok(vec![link(&sysroot)]);
        }
    }
    Ok(from_debian(linker))
}

/// The actions that make Debian's own compiler, whose LLVM Debian has too, the toolchain.
fn from_debian(linker: Option<u32>) -> Vec<Action> {
    let llvm = debian_llvm().unwrap_or(DEBIAN_LLVM);
    let mut actions = Vec::new();
    let packages = ["rustc-web", "cargo-web", "rust-web-src"].map(str::to_owned).into_iter();
    let packages = packages.chain([format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")]);
    let packages: Vec<_> = packages.filter(|package| !apt::is_installed(package)).collect();
    if !packages.is_empty() {
        actions.push(Action::Packages(packages));
    }
    actions.push(link(Path::new("/usr")));
    if linker.is_none_or(|linker| linker < llvm) {
        actions.push(install_linker(llvm));
    }
    actions
}

fn link(sysroot: &Path) -> Action {
    let mut command = rustup();
    command.args(["toolchain", "link", TOOLCHAIN]).arg(sysroot);
    let what = format!("linking the toolchain {TOOLCHAIN} to {}", sysroot.display());
    Action::Run { what, command: Box::new(command), needs_root: false }
}

fn install_linker(llvm: u32) -> Action {
    let mut command = cargo();
    command
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        // LLVM does the work, and is compiled already.
        .args(["--debug"])
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
    let what = format!("compiling bpf-linker {LINKER_VERSION} for LLVM {llvm} (a minute)");
    Action::Run { what, command: Box::new(command), needs_root: false }
}

/// The LLVM of Debian's compiler, if that is installed already.
fn debian_llvm() -> Option<u32> {
    if !apt::is_installed("rustc-web") {
        return None;
    }
    let version = output(Command::new("/usr/bin/rustc").arg("-vV")).ok()?;
    number_after(&version, "LLVM version: ")
}

/// Returns true if a toolchain has library sources and a linker with this LLVM reads what it writes.
///
/// LLVM reads the bitcode of every older LLVM, but not of a newer one.
fn fits(toolchain: &str, linker: Option<u32>) -> bool {
    let Ok(compiler) = Compiler::of(toolchain) else { return false };
    let has_sources = compiler.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").exists();
    let has_cargo = compiler.sysroot.join("bin/cargo").exists();
    has_sources && has_cargo && linker.is_some_and(|linker| linker >= compiler.llvm)
}

struct Compiler {
    sysroot: PathBuf,
    llvm: u32,
}

impl Compiler {
    fn of(toolchain: &str) -> Result<Self> {
        let said = output(rustup_run(toolchain, "rustc").arg("-vV"))?;
        let llvm = number_after(&said, "LLVM version: ")
            .with_context(|| format!("find the LLVM version in what rustc of {toolchain} says"))?;
        let sysroot = output(rustup_run(toolchain, "rustc").arg("--print=sysroot"))?.trim_end().into();
        Ok(Self { sysroot, llvm })
    }
}

/// The names of the nightly toolchains that rustup has.
fn nightlies() -> Result<Vec<String>> {
    let list = output(rustup().args(["toolchain", "list"]))?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| name.starts_with("nightly")).map(str::to_owned).collect())
}

/// The major version of the LLVM inside a bpf-linker. Nothing if it does not run.
///
/// Its own `--version` does not name LLVM's, but LLVM's own options can be handed through, and `--version` is one of
/// them: it prints a line such as "Debian LLVM version 22.1.8" and ends the program before an input is read.
fn linker_llvm(linker: &Path) -> Option<u32> {
    let mut command = Command::new(linker);
    command.args(["--llvm-args=--version", "--output=/dev/null", "/dev/null"]);
    number_after(&output(&mut command).ok()?, "LLVM version ")
}

/// The number right after the first occurrence of `label` that has one.
fn number_after(text: &str, label: &str) -> Option<u32> {
    text.match_indices(label).find_map(|(at, _)| {
        let rest = &text[at + label.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::number_after;

    #[test]
    fn the_llvm_version_is_read_from_what_the_tools_print() {
        let rustc = "host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(number_after(rustc, "LLVM version: "), Some(22));
        let linker = "LLVM (http://llvm.org/):\n  LLVM version 21.1.0-rust\n";
        assert_eq!(number_after(linker, "LLVM version "), Some(21));
        assert_eq!(number_after("no version", "LLVM version "), None);
    }
}
