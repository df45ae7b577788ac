//! Builds with cargo, and finds what came out of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, TargetKind};

use crate::process::{cargo, shell_line};
use crate::workspace::{SETUP_LOCK, Workspace};

/// An executable that cargo built.
pub(crate) struct Artifact {
    pub(crate) package: String,
    /// The directory of the package's `Cargo.toml`.
    pub(crate) directory: PathBuf,
    /// The name of the binary, library or test that it was built from.
    pub(crate) target: String,
    /// True if it is a file of the package's `tests` directory.
    pub(crate) is_integration_test: bool,
    /// True if it was built to run tests.
    pub(crate) is_test: bool,
    pub(crate) executable: PathBuf,
}

impl Artifact {
    /// A name for people.
    pub(crate) fn title(&self) -> String {
        let Self { package, target, .. } = self;
        let is_namesake = package.replace('-', "_") == target.replace('-', "_");
        if is_namesake { package.clone() } else { format!("{package}::{target}") }
    }

    /// The variables that cargo would run it with.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let directory = self.directory.to_string_lossy().into_owned();
        [("CARGO_MANIFEST_DIR", directory), ("CARGO_PKG_NAME", self.package.clone())]
    }
}

/// Runs a cargo command that builds, its progress shown; returns the executables.
pub(crate) fn build(workspace: &Workspace, arguments: &[&str]) -> Result<Vec<Artifact>> {
    let mut command = cargo();
    // Before what cargo hands to the compiler.
    let (task, others) = arguments.split_first().context("name a command of cargo")?;
    command
        .args([task, "--message-format=json-render-diagnostics"])
        .args(others)
        .env(SETUP_LOCK, workspace.setup_lock_path())
        .current_dir(&workspace.root);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("start `{}`", shell_line(&command)))?;
    if !output.status.success() {
        bail!("`cargo {}` failed ({})", arguments.join(" "), output.status);
    }
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(&output.stdout[..]) {
        if let Message::CompilerArtifact(built) = message.context("parse what cargo said")? {
            artifacts.extend(artifact(workspace, built));
        }
    }
    Ok(artifacts)
}

/// The executable of a package's binary.
pub(crate) fn binary<'a>(artifacts: &'a [Artifact], package: &str, name: &str) -> Result<&'a Path> {
    let mut binaries =
        artifacts.iter().filter(|it| !it.is_test && it.package == package && it.target == name);
    let binary = binaries.next().with_context(|| format!("package {package} has no binary named {name}"))?;
    Ok(&binary.executable)
}

fn artifact(workspace: &Workspace, built: cargo_metadata::Artifact) -> Option<Artifact> {
    let manifest = built.manifest_path.as_std_path();
    Some(Artifact {
        executable: built.executable?.into(),
        package: workspace.package_at(manifest)?,
        directory: manifest.parent()?.to_owned(),
        is_integration_test: built.target.kind == [TargetKind::Test],
        target: built.target.name,
        is_test: built.profile.test,
    })
}
