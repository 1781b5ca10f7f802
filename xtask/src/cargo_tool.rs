//! Cargo's subcommands by others that this project's verbs run. Each lives in the target directory,
//! in the version that is named here, as the linker does: what this machine has otherwise does not matter.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// A subcommand.
#[derive(Debug)]
pub(crate) struct CargoTool {
    /// As its crate and its program are called.
    pub(crate) name: &'static str,
    /// The release that is run.
    pub(crate) version: &'static str,
    /// What it is needed to do.
    pub(crate) purpose: &'static str,
    /// How it is built, beside the usual.
    flags: &'static [&'static str],
}

/// Makes Debian packages.
pub(crate) const DEB: CargoTool = CargoTool {
    name: "cargo-deb",
    version: "3.8.0",
    purpose: "make the Debian package",
    // What it packs with are other programs, so it packs no faster when it is optimised.
    flags: &["--no-default-features", "--debug"],
};

/// Checks what is depended on.
pub(crate) const DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    purpose: "check licences, sources and known faults of dependencies",
    // It runs for a second or two, and takes minutes to optimise.
    flags: &["--debug"],
};

/// Builds fuzz targets.
pub(crate) const FUZZ: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    purpose: "build fuzz targets",
    flags: &[],
};

/// Those that the tests need.
pub(crate) const ALL: [&CargoTool; 2] = [&DEB, &DENY];

impl CargoTool {
    /// Where it is, if it is there.
    pub(crate) fn find(&self, workspace: &Workspace) -> Result<PathBuf> {
        let path = self.home(workspace).join("bin").join(self.name);
        if !path.is_file() {
            bail!("{} is not there", path.display());
        }
        let said = process::output(Command::new(&path).arg("--version"))?;
        let version = said.split_whitespace().last().unwrap_or_default();
        if version != self.version {
            bail!(
                "{} is `{}`, not version {}",
                path.display(),
                said.trim(),
                self.version
            );
        }
        Ok(path)
    }

    /// Where it is; it is built if it is not there.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Ok(path) = self.find(workspace) {
            return Ok(path);
        }
        let Self { name, version, .. } = self;
        println!("building {name} {version} (about a minute)");
        let scratch = workspace.target.join("tools/build").join(name);
        let home = self.home(workspace);
        let mut command = process::cargo_install(workspace, name, version, &home, &scratch);
        command.args(self.flags);
        process::run(&mut command).with_context(|| format!("build {name}"))?;
        // It is of no further use, and large; a leftover does no harm.
        let _ = fs::remove_dir_all(&scratch);
        self.find(workspace)
            .with_context(|| format!("the {name} that was just built"))
    }

    fn home(&self, workspace: &Workspace) -> PathBuf {
        workspace.target.join("tools").join(self.name)
    }
}
