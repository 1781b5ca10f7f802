//! The targets, and where their inputs are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// A target, by the name of its file in `tests/fuzz/fuzz_targets`.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Inputs that are committed.
    pub(super) corpus: PathBuf,
    /// Inputs that runs here have found, and none other has.
    pub(super) working: PathBuf,
    /// Inputs that made something not hold.
    pub(super) findings: PathBuf,
    /// Words that inputs are made of, if somebody has written them down.
    pub(super) dictionary: Option<PathBuf>,
}

/// All targets, by name.
pub(super) fn all(workspace: &Workspace) -> Result<Vec<Target>> {
    let package = workspace.root.join("tests/fuzz");
    let home = home(workspace);
    let mut names: Vec<_> = files(&package.join("fuzz_targets"))?
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    let target = |name: String| {
        let dictionary = package.join(format!("dictionaries/{name}.dict"));
        Target {
            corpus: package.join("corpus").join(&name),
            working: home.join("corpus").join(&name),
            findings: home.join("findings").join(&name),
            dictionary: dictionary.is_file().then_some(dictionary),
            name,
        }
    };
    Ok(names.into_iter().map(target).collect())
}

/// Where everything is that is not committed.
pub(super) fn home(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

/// The files in a folder, in the order of their names; none if it is not there.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(reading)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Makes a folder, with those above it.
pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))
}
