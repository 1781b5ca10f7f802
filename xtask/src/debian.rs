//! Debian's packages: installed, or unpacked where nothing starts what is in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    machine::{is_root, on_path},
    process,
};

/// Whether this machine has Debian's package manager.
pub(crate) fn is_here() -> bool {
    on_path("apt-get").is_some()
}

/// Installs packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    update(packages)?;
    process::run(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

/// Unpacks packages into `folder`, with those that they depend on and this machine lacks. No
/// script of theirs runs, so that no service is started and no user is made.
pub(crate) fn unpack(packages: &[&str], folder: &Path) -> Result<()> {
    update(packages)?;
    let archives = folder.join("archives");
    // What an earlier run left may be of another version.
    if archives.exists() {
        fs::remove_dir_all(&archives).with_context(|| format!("empty {}", archives.display()))?;
    }
    let partial = archives.join("partial");
    fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
    process::run(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .arg("--download-only")
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            // The folder may be closed to the user that apt-get downloads as.
            .args(["-o", "APT::Sandbox::User=root"])
            .args(packages),
    )?;
    for archive in archives_in(&archives)? {
        process::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(&archive)
                .arg(folder),
        )?;
    }
    fs::remove_dir_all(&archives).with_context(|| format!("remove {}", archives.display()))
}

/// Makes the tree of a small Debian 12 with systemd.
pub(crate) fn make_tree(tree: &Path) -> Result<()> {
    if !is_root() {
        bail!("making a Debian needs root; this is not");
    }
    // Whole or not there.
    let partial = tree.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("empty {}", partial.display()))?;
    }
    println!("making a Debian 12 to install the package on (less than a minute)");
    process::run(
        Command::new("mmdebstrap")
            .args(["--variant=minbase", "--include=systemd,systemd-sysv"])
            .arg("bookworm")
            .arg(&partial),
    )?;
    fs::rename(&partial, tree).with_context(|| format!("name it {}", tree.display()))
}

fn archives_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(reading)?;
    let paths: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.with_context(reading)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    Ok(paths)
}

/// Fetches the lists of packages.
fn update(packages: &[&str]) -> Result<()> {
    if !is_root() {
        bail!("getting {} needs root; this is not", packages.join(" and "));
    }
    process::run(apt().arg("update")).context("fetch the lists of packages")
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
