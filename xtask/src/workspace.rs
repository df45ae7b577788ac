//! Where things are, as cargo sees it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::{cargo, output};

/// The workspace, as `cargo metadata` describes it.
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The target directory, which CARGO_TARGET_DIR or cargo's configuration may have moved.
    pub(crate) target: PathBuf,
    metadata: Value,
}

impl Workspace {
    /// Asks cargo about the workspace around the current directory.
    pub(crate) fn locate() -> Result<Self> {
        // Without dependencies cargo neither resolves nor touches the network.
        let json = output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_str(&json).context("parse the output of `cargo metadata`")?;
        let path = |key: &str| {
            let value = metadata[key].as_str().with_context(|| format!("`cargo metadata` names no {key}"))?;
            anyhow::Ok(PathBuf::from(value))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// Where kernels are unpacked and virtual machines keep their files.
    pub(crate) fn vm_dir(&self) -> PathBuf {
        self.target.join("vm")
    }

    /// The default members that have a library, whose examples in documentation can be tested.
    pub(crate) fn default_libraries(&self) -> Vec<String> {
        let members = self.metadata["workspace_default_members"].as_array();
        let is_default = |id: &Value| members.is_none_or(|members| members.contains(id));
        let is_library = |target: &Value| target["kind"] == serde_json::json!(["lib"]);
        let packages = self.metadata["packages"].as_array().into_iter().flatten();
        packages
            .filter(|package| is_default(&package["id"]))
            .filter(|package| package["targets"].as_array().into_iter().flatten().any(is_library))
            .filter_map(|package| package["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// The name of the package with this `Cargo.toml`.
    pub(crate) fn package_at(&self, manifest: &Path) -> Option<String> {
        let mut packages = self.metadata["packages"].as_array()?.iter();
        let package =
            packages.find(|package| package["manifest_path"].as_str().map(Path::new) == Some(manifest))?;
        package["name"].as_str().map(str::to_owned)
    }
}
