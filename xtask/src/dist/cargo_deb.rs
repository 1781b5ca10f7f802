//! `cargo-deb`, which makes Debian packages: it lives in the target directory, as the linker does.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// The release that packages are made with.
pub(crate) const VERSION: &str = "3.8.0";

/// Where it is, if it is there.
pub(crate) fn find(workspace: &Workspace) -> Result<PathBuf> {
    let path = home(workspace).join("bin/cargo-deb");
    if !path.is_file() {
        bail!("{} is not there", path.display());
    }
    let version = process::output(Command::new(&path).arg("--version"))?;
    let version = version.trim();
    if version != VERSION && version != format!("cargo-deb {VERSION}") {
        bail!("{} is `{version}`, not version {VERSION}", path.display());
    }
    Ok(path)
}

/// Where it is; it is built if it is not there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Ok(path) = find(workspace) {
        return Ok(path);
    }
    println!("building cargo-deb {VERSION} (about a minute)");
    let scratch = workspace.target.join("tools/build");
    let mut command = process::cargo(workspace);
    command
        .args(["install", &format!("cargo-deb@{VERSION}")])
        .args(["--locked", "--force", "--no-default-features", "--root"])
        .arg(home(workspace))
        .arg("--target-dir")
        .arg(&scratch)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut command).context("build cargo-deb")?;
    // It is of no further use, and large; a leftover does no harm.
    let _ = fs::remove_dir_all(&scratch);
    find(workspace).context("the cargo-deb that was just built")
}

fn home(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools/cargo-deb")
}
