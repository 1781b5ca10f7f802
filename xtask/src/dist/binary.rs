//! The binaries that are handed out: built for a named target, so that their flags are not those of
//! build scripts, and without the paths of this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{process, rustc_version::RustcVersion, workspace::Workspace};

/// How a binary gets its libraries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Linking {
    /// The host's.
    Shared,
    /// It has them all. glibc, not musl: it takes no other target and no other compiler, and its
    /// allocator is the one that everything was measured with. Its one trap, name services that
    /// are loaded at run time, is dealt with in `abuser-userspace/src/lookup.rs`.
    Static,
}

/// Builds it; where it is.
pub(super) fn build(workspace: &Workspace, linking: Linking) -> Result<PathBuf> {
    let target = host()?;
    let folder = workspace.target.join(match linking {
        Linking::Shared => "dist/build-shared",
        Linking::Static => "dist/build-static",
    });
    let mut flags = remaps(workspace);
    if linking == Linking::Static {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
    }
    let mut command = process::cargo(workspace);
    command
        .args(["build", "--release", "--locked", "-p", "abuser-userspace"])
        .args(["--target", &target])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    process::run(&mut command).with_context(|| match linking {
        Linking::Shared => "build abuser",
        Linking::Static => {
            "build abuser statically; if the linker has not found -lc: Debian's libc6-dev has it, Fedora's glibc-static"
        }
    })?;
    Ok(folder.join(target).join("release/abuser"))
}

/// The target that this machine is.
pub(super) fn host() -> Result<String> {
    let rustc = process::cargo_path().with_file_name("rustc");
    let verbose = process::output(Command::new(rustc).arg("-vV"))?;
    Ok(RustcVersion::parse(&verbose)?.host)
}

/// What the binary calls the places where its sources were. The last match wins in rustc.
fn remaps(workspace: &Workspace) -> Vec<String> {
    let remap = |from: &Path, to| format!("--remap-path-prefix={}={to}", from.display());
    let mut remaps = vec![remap(&workspace.root, "/abuser")];
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cargo"))
    });
    remaps.extend(cargo_home.map(|home| remap(&home, "/cargo")));
    remaps
}
