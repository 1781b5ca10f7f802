//! Gathering what is packed, and the Debian package of it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{epoch, folder};
use crate::{process, workspace::Workspace};

/// The files of `deploy` that are installed where they belong; the rest are examples.
const INSTALLED: &[&str] = &[
    "abuser.service",
    "abuser.toml",
    "debian",
    "service.toml",
    "sysusers.d",
    "tmpfiles.d",
];

/// What the shells call the files that they look for.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "abuser"),
    ("zsh", "_abuser"),
    ("fish", "abuser.fish"),
];

/// Where what the package is made of is gathered. `abuser-userspace/Cargo.toml` names it; cargo-deb
/// takes `target/release` there for the real folder.
pub(super) fn gathered(workspace: &Workspace) -> PathBuf {
    workspace.target.join("release/package")
}

/// How what is packed is compressed.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    /// As small as can be.
    Small,
    /// In a tenth of the time, to be tried here.
    Fast,
}

impl Packing {
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Small => None,
            Self::Fast => Some("--fast"),
        }
    }
}

/// Makes the package with this binary; where it is.
pub(super) fn make(
    workspace: &Workspace,
    binary: &Path,
    packing: Packing,
    cargo_deb: &Path,
) -> Result<PathBuf> {
    let binary = fs::canonicalize(binary)
        .with_context(|| format!("there is no binary {}", binary.display()))?;
    gather(workspace, &binary)?;
    let folder = folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    for old in files(&folder)?.into_iter().filter(is_package) {
        fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
    }
    let mut command = Command::new(cargo_deb);
    command
        .current_dir(&workspace.root)
        .args(["-p", "abuser-userspace", "--no-build", "--locked", "-o"])
        .arg(&folder)
        .args(packing.flag())
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env("SOURCE_DATE_EPOCH", epoch(workspace).to_string());
    process::run(&mut command)?;
    let made = files(&folder)?.into_iter().find(is_package);
    made.context("cargo-deb has made no package")
}

fn gather(workspace: &Workspace, binary: &Path) -> Result<()> {
    let stage = gathered(workspace);
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("empty {}", stage.display()))?;
    }
    for part in ["man", "completions", "examples"] {
        let part = stage.join(part);
        fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
    }
    let stripped = stage.join("abuser");
    process::run(Command::new("strip").arg("-o").args([&stripped, binary]))?;

    let pages = stage.join("man");
    let mut man = Command::new(binary);
    man.arg("man").arg(&pages);
    process::run(man.env("SOURCE_DATE_EPOCH", epoch(workspace).to_string()))?;
    process::run(Command::new("gzip").arg("-9n").args(files(&pages)?))?;
    for (shell, name) in COMPLETIONS {
        let path = stage.join("completions").join(name);
        let script = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        let mut command = Command::new(binary);
        command.args(["completions", shell]);
        process::run(command.stdout(Stdio::from(script)))?;
    }

    for example in files(&workspace.root.join("deploy"))? {
        let name = example.file_name().unwrap_or_default().to_string_lossy();
        if !INSTALLED.contains(&&*name) {
            let mut copy = Command::new("cp");
            copy.arg("-R").arg(&example).arg(stage.join("examples"));
            process::run(&mut copy)?;
        }
    }
    Ok(())
}

/// What is in a folder, in the order of the names.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(reading)?;
    let paths: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.with_context(reading)?;
    paths.sort();
    Ok(paths)
}
