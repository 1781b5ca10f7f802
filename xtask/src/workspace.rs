//! Where things are: the repository and its target directory.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::rustc_version::Release;

/// The repository and the places in it that the verbs read and write.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// The oldest Rust that the workspace builds with.
    pub(crate) rust_version: Release,
}

impl Workspace {
    pub(crate) fn locate() -> Result<Self> {
        let here = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = here
            .parent()
            .with_context(|| format!("{} has no parent folder", here.display()))?
            .to_path_buf();
        let target = target_of_running_binary()
            .or_else(|| env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
            .unwrap_or_else(|| root.join("target"));
        let rust_version = rust_version(&root.join("Cargo.toml"))?;
        Ok(Self {
            root,
            target,
            rust_version,
        })
    }

    /// The target directory of the BPF build: its own, so that neither build waits for
    /// the other's lock.
    pub(crate) fn ebpf_target(&self) -> PathBuf {
        self.target.join("ebpf")
    }
}

/// Cargo puts this binary into `<target>/<profile>/`, whichever way the target directory
/// was chosen: environment, configuration or default.
fn target_of_running_binary() -> Option<PathBuf> {
    let binary = env::current_exe().ok()?;
    let target = binary.parent()?.parent()?;
    target
        .join("CACHEDIR.TAG")
        .exists()
        .then(|| target.to_path_buf())
}

fn rust_version(manifest: &Path) -> Result<Release> {
    let text =
        fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("parse {}", manifest.display()))?;
    table
        .get("workspace")
        .and_then(|workspace| workspace.get("package"))
        .and_then(|package| package.get("rust-version"))
        .and_then(toml::Value::as_str)
        .and_then(Release::parse)
        .with_context(|| {
            format!(
                "{} names no version in workspace.package.rust-version",
                manifest.display()
            )
        })
}
