//! Compiles the BPF program into the build directory, with the toolchain that `cargo xtask setup` made ready.

use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    path::Path,
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};
use object::{build::elf, elf::SHT_STRTAB};

/// The environment of the compiler of the BPF program.
const ENVIRONMENT: [(&str, &str); 5] = [
    // It need not be a nightly.
    ("RUSTC_BOOTSTRAP", "1"),
    // Instructions of Linux 5.12, for atomic changes that say what was there before. aya-build sets the compiler's flags
    // itself, but for those of the profile.
    ("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true"),
    ("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3"),
    // aya-build passes all that its cargo says on as warnings: errors and warnings are enough.
    ("CARGO_TERM_QUIET", "true"),
    // What runs here, such as macros, has flags of its own.
    ("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "-Cdebuginfo=0"),
];

fn main() -> Result<()> {
    wait_for_setup()?;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shaper-ebpf");
    println!("cargo:rerun-if-changed={}/../shaper-common/src", env!("CARGO_MANIFEST_DIR"));
    for (variable, value) in ENVIRONMENT {
        #[expect(unsafe_code, reason = "aya-build has no other way to tell its cargo")]
        // SAFETY: a build script's only thread.
        unsafe {
            env::set_var(variable, value);
        }
    }
    aya_build::build_ebpf(
        [Package { name: "shaper-ebpf", root_dir: root, ..Package::default() }],
        Toolchain::Custom("shaper-bpf"),
    )
    .context("compile the BPF program: run `cargo xtask setup bpf` to install what it needs")?;
    let object = Path::new(&env::var_os("OUT_DIR").context("cargo says where to build")?).join("shaper-ebpf");
    strip(&object).with_context(|| format!("take the debugging information out of {}", object.display()))
}

/// Waits until `cargo xtask`, which may build while it installs what this needs, has given the lock back.
fn wait_for_setup() -> Result<()> {
    let Some(path) = env::var_os("SHAPER_SETUP_LOCK") else { return Ok(()) };
    match File::open(&path) {
        Ok(lock) => lock.lock_shared().context("wait for the setup"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("open {}", Path::new(&path).display())),
    }
}

/// Takes out what only debuggers read, nine tenths of the object: it is parsed for each interface that is shaped. BTF,
/// which the kernel and its tools read, stays.
fn strip(path: &Path) -> Result<()> {
    let whole = fs::read(path)?;
    let mut builder = elf::Builder::read(&*whole)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM has the names of sections and symbols in one table, the builder in two.
    let names = builder.sections.add();
    (names.name, names.sh_type, names.sh_addralign) = (b".shstrtab"[..].into(), SHT_STRTAB, 1);
    names.data = elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(fs::write(path, stripped)?)
}
