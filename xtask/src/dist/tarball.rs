//! The tarball for hosts without Debian's packages, and the sums of all that is handed out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::{binary, epoch, folder, package};
use crate::{process, workspace::Workspace};

/// What of the repository goes along.
const TEXTS: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "docs",
    "deploy",
];

/// Packs this binary with manual pages and completions as they were gathered for the package; where
/// the tarball is.
pub(super) fn make(workspace: &Workspace, binary: &Path) -> Result<PathBuf> {
    let host = binary::host()?;
    let architecture = host.split('-').next().unwrap_or_default();
    let name = format!("abuser-{}-{architecture}-linux", env!("CARGO_PKG_VERSION"));
    let path = folder(workspace).join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", epoch(workspace)))
        .args(["--mode=u+rwX,go+rX,go-w", "--exclude=deploy/debian"])
        .arg("--use-compress-program=gzip -9n")
        .arg(format!("--transform=s,^,{name}/,"))
        .arg("-cf")
        .arg(&path)
        .arg("-C")
        .arg(binary.parent().unwrap_or(binary))
        .arg("abuser")
        .arg("-C")
        .arg(package::gathered(workspace))
        .args(["man", "completions"])
        .arg("-C")
        .arg(&workspace.root)
        .args(TEXTS);
    process::run(&mut tar)?;
    Ok(path)
}

/// Writes down the sums of files, as `sha256sum --check` reads them; where they are.
pub(super) fn sums(workspace: &Workspace, files: &[PathBuf]) -> Result<PathBuf> {
    let line = |file: &PathBuf| -> Result<String> {
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let sum = Sha256::digest(&bytes);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let digits: Vec<_> = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{}  {name}\n", digits.concat()))
    };
    let text: Result<String> = files.iter().map(line).collect();
    let path = folder(workspace).join("SHA256SUMS");
    fs::write(&path, text?).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
