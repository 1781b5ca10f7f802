//! Whether what `cargo xtask` and everything else depend on is built once for both.
//!
//! Cargo chooses the features of a dependency by the packages that a command names, and builds it anew for others. A clean
//! clone builds xtask first, so xtask asks for what all ask for together.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::{process, test::Packages, workspace::Workspace};

/// Fails if xtask has a dependency with other features than the workspace has it with.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let own = dependencies(workspace, &["--package", "xtask"], "normal,build")?;
    let all = dependencies(workspace, &Packages::Host.arguments(), "normal,build,dev")?;
    let differing: Vec<_> = own.difference(&all).map(String::as_str).collect();
    if differing.is_empty() {
        return Ok(());
    }
    bail!(
        "xtask has dependencies with other features than the rest of the workspace, so they are built twice:\n{}\n\
         Ask for the same in xtask/Cargo.toml; `cargo tree --workspace --format '{{p}} [{{f}}]'` shows what that is",
        differing.join("\n")
    )
}

/// What these packages depend on: names and versions with the features.
fn dependencies(workspace: &Workspace, packages: &[&str], edges: &str) -> Result<BTreeSet<String>> {
    let mut command = process::cargo(workspace);
    command
        .args(["tree", "--locked", "--prefix", "none"])
        .args(["--format", "{p} [{f}]", "--edges", edges])
        .args(packages);
    let said = process::output(&mut command)?;
    // What has been shown before has a mark.
    let lines = said.lines().map(|line| line.trim_end_matches(" (*)"));
    Ok(lines.map(str::to_owned).collect())
}
