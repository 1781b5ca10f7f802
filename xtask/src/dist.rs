//! `cargo xtask dist`: what is handed out. A Debian package, a tarball with a static binary, and the
//! sums of both, in `target/dist`.
//!
//! The package has a binary that is linked as usual, so that it asks the host's own name services
//! and is patched with its libc. The tarball is for all other hosts, and for containers: its binary needs nothing.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `binary` | building both binaries |
//! | `package` | gathering what is packed, and the package |
//! | `tarball` | the tarball and the sums |
//! | `aarch64` | whether it compiles for 64-bit Arm, and runs there |

mod aarch64;
mod binary;
mod package;
mod tarball;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;

pub(crate) use self::package::Packing;
use crate::{cargo_tool, process, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the Debian package, with this binary instead of one that is built for it, and packed fast: to be tried
    #[arg(long, value_name = "BINARY", conflicts_with = "check_aarch64")]
    package: Option<PathBuf>,
    /// Only see that everything compiles for 64-bit Arm, and that the pure part works there
    #[arg(long)]
    check_aarch64: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.check_aarch64 {
        return aarch64::check(workspace);
    }
    let made = if let Some(binary) = &args.package {
        vec![package(workspace, binary, Packing::Fast)?]
    } else {
        let shared = binary::build(workspace, binary::Linking::Shared)?;
        let standalone = binary::build(workspace, binary::Linking::Static)?;
        // The last: it packs what was gathered for the package, but for the binary.
        vec![
            package(workspace, &shared, Packing::Small)?,
            tarball::make(workspace, &standalone)?,
        ]
    };
    let sums = tarball::sums(workspace, &made)?;
    for file in made.iter().chain([&sums]) {
        println!("made {}", file.display());
    }
    Ok(())
}

/// Makes the Debian package of a binary; where it is.
pub(crate) fn package(workspace: &Workspace, binary: &Path, packing: Packing) -> Result<PathBuf> {
    let tool = cargo_tool::DEB.ensure(workspace)?;
    package::make(workspace, binary, packing, &tool)
}

/// Where it all goes.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("dist")
}

/// The time that everything bears, in seconds since 1970: that of the commit, so that it can be made
/// twice.
fn epoch(workspace: &Workspace) -> u64 {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(&workspace.root)
        .args(["log", "-1", "--format=%ct"]);
    let commit = process::output(&mut git).ok();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    commit
        .and_then(|seconds| seconds.trim().parse().ok())
        .or_else(|| Some(now().ok()?.as_secs()))
        .unwrap_or_default()
}
