//! Building the targets, by `cargo-fuzz`.
//!
//! Any compiler will do: what it takes is a switch of LLVM's, which stable compilers have too, if they are
//! told that whoever asks for it knows that. There is no address sanitizer: almost all of what is tested
//! is safe Rust, and it would cost half of the speed.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::targets::{self, Target};
use crate::{cargo_tool::FUZZ, process, workspace::Workspace};

/// Where the targets are, once they are built.
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// A target's.
    pub(super) fn of(&self, target: &Target) -> PathBuf {
        self.0.join(&target.name)
    }
}

/// Builds the targets: one if there is but one, else all.
pub(super) fn targets(workspace: &Workspace, targets: &[Target]) -> Result<Binaries> {
    let program = FUZZ.ensure(workspace)?;
    let folder = targets::home(workspace).join("build");
    let mut command = Command::new(program);
    command
        .current_dir(&workspace.root)
        .args(["build", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none"])
        // One at a time takes minutes for what is hardly faster.
        .args(["--codegen-units", "16", "--target-dir"])
        .arg(&folder)
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("RUSTC_BOOTSTRAP", "1");
    if let [target] = targets {
        command.arg(&target.name);
    }
    process::run(&mut command)
        .context("build the fuzz targets; it takes a C++ compiler (Debian: apt-get install g++)")?;
    let rustc = process::cargo_path().with_file_name("rustc");
    let host = process::output(Command::new(rustc).arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("the compiler does not say what it runs on")?;
    Ok(Binaries(folder.join(host).join("release")))
}
