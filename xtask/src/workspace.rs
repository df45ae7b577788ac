//! Where things are, as cargo sees it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, MetadataCommand, Package, TargetKind};

/// The variable that names the file whose lock shaper's build script waits for.
pub(crate) const SETUP_LOCK: &str = "SHAPER_SETUP_LOCK";

/// The workspace, as `cargo metadata` describes it.
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The target directory, which CARGO_TARGET_DIR or cargo's configuration may have moved.
    pub(crate) target: PathBuf,
    metadata: Metadata,
}

impl Workspace {
    /// Asks cargo about the workspace around the current directory.
    pub(crate) fn locate() -> Result<Self> {
        // Without dependencies cargo neither resolves nor touches the network.
        let metadata = MetadataCommand::new().no_deps().exec().context("ask cargo about the workspace")?;
        let (root, target) =
            (metadata.workspace_root.clone().into(), metadata.target_directory.clone().into());
        Ok(Self { root, target, metadata })
    }

    /// Where kernels are unpacked and virtual machines keep their files.
    pub(crate) fn vm_dir(&self) -> PathBuf {
        self.target.join("vm")
    }

    /// The file that is locked while [`crate::setup`] installs what builds need: shaper's build script waits for it if
    /// [`SETUP_LOCK`] names it.
    pub(crate) fn setup_lock_path(&self) -> PathBuf {
        self.target.join("setup/lock")
    }

    /// Opens the file of [`Self::setup_lock_path`].
    pub(crate) fn setup_lock(&self) -> Result<File> {
        let path = self.setup_lock_path();
        fs::create_dir_all(self.target.join("setup"))
            .and_then(|()| File::create(&path))
            .with_context(|| format!("create {}", path.display()))
    }

    /// The default members that have a library, whose examples in documentation can be tested.
    pub(crate) fn default_libraries(&self) -> Vec<String> {
        let has_library =
            |package: &Package| package.targets.iter().any(|target| target.kind == [TargetKind::Lib]);
        let members = self.metadata.workspace_default_packages().into_iter();
        members.filter(|package| has_library(package)).map(|package| package.name.to_string()).collect()
    }

    /// The name of the package with this `Cargo.toml`.
    pub(crate) fn package_at(&self, manifest: &Path) -> Option<String> {
        let mut packages = self.metadata.packages.iter();
        packages.find(|package| package.manifest_path == manifest).map(|package| package.name.to_string())
    }
}
