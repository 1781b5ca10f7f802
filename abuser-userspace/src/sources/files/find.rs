//! Which files there are, and where one has gone.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    path::{Path, PathBuf},
    time::SystemTime,
};

use glob::MatchOptions;

use super::follow::{FileId, begins_with, open};
use crate::store::PositionRow;

/// Files that one source follows at most.
pub(super) const MAX_FILES: usize = 1000;

/// How many files of a folder are looked at for one that has gone.
const MAX_ENTRIES: usize = 10_000;

/// A beginning shorter than this says nothing about which file it is.
const TELLING: usize = 16;

/// What has been packed is no log any more.
const PACKED: [&str; 6] = ["gz", "xz", "bz2", "zst", "lz4", "zip"];

/// As in a shell.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// What the patterns lead to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The files, and what else is there.
    pub(super) paths: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub(super) problems: BTreeMap<PathBuf, String>,
    /// The folders in which others may appear.
    pub(super) folders: Vec<PathBuf>,
}

/// Looks for what matches.
pub(super) fn find(patterns: &[String]) -> Found {
    let mut found = Found::default();
    for pattern in patterns {
        found.folders.extend(literal_folder(pattern));
        // Checked when the configuration was.
        let Ok(matches) = glob::glob_with(pattern, OPTIONS) else {
            continue;
        };
        let is_pattern = glob::Pattern::escape(pattern) != *pattern;
        for path in matches {
            match path {
                Ok(path) if is_pattern && (is_packed(&path) || path.is_dir()) => {}
                Ok(path) => found.paths.push(path),
                Err(error) => {
                    let path = error.path().to_owned();
                    found.problems.insert(path, error.error().to_string());
                }
            }
        }
    }
    // In this order a file comes before what it was rotated or copied to.
    found.paths.sort();
    found.paths.dedup();
    for path in &found.paths {
        found.folders.extend(path.parent().map(Path::to_owned));
        if path.is_symlink() {
            let real = fs::canonicalize(path).ok();
            found
                .folders
                .extend(real.as_deref().and_then(Path::parent).map(Path::to_owned));
        }
    }
    found.folders.sort();
    found.folders.dedup();
    found
}

/// Whether a path is one that is looked for.
pub(super) fn is_asked_for(path: &Path, patterns: &[String]) -> bool {
    let mut patterns = patterns
        .iter()
        .filter_map(|pattern| glob::Pattern::new(pattern).ok());
    patterns.any(|pattern| pattern.matches_path_with(path, OPTIONS))
}

/// The folder that is there, or may be, whatever the pattern stands for.
fn literal_folder(pattern: &str) -> Option<PathBuf> {
    let literal = pattern
        .find(['*', '?', '['])
        .map_or(pattern, |end| pattern.get(..end).unwrap_or_default());
    let (folder, _) = literal.rsplit_once('/')?;
    Some(PathBuf::from(if folder.is_empty() { "/" } else { folder }))
}

fn is_packed(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| PACKED.contains(&extension))
}

/// Whether one file may be what became of another when logs were rotated: `access.log.1` or
/// `access-20260131.log` of `access.log`.
pub(super) fn may_be_of(path: &Path, original: &Path) -> bool {
    let (Some(name), Some(stem)) = (path.file_name(), original.file_stem()) else {
        return false;
    };
    original
        .file_name()
        .is_some_and(|original| name.len() > original.len())
        && path.parent() == original.parent()
        && name.as_encoded_bytes().starts_with(stem.as_encoded_bytes())
}

/// Whether a file is, as far as it goes, a copy of what begins so.
pub(super) fn is_copy(file: &File, metadata: &Metadata, beginning: &[u8]) -> bool {
    if beginning.len() < TELLING {
        return false;
    }
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    beginning
        .get(..length.min(beginning.len()))
        .is_some_and(|beginning| begins_with(file, beginning))
}

/// Where the rest is of a file that was read up to a position, and then renamed, or copied and
/// cut: the same file, or the latest copy, in the same folder.
pub(super) fn find_rest(position: &PositionRow) -> Option<(PathBuf, File, Metadata)> {
    let id = FileId {
        device: position.key.device,
        inode: position.key.inode,
    };
    let mut copies = Vec::new();
    for entry in fs::read_dir(position.path.parent()?)
        .ok()?
        .take(MAX_ENTRIES)
        .flatten()
    {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if !metadata.is_file() || metadata.len() < position.offset || is_packed(&path) {
            continue;
        }
        if FileId::from(&metadata) == id {
            if let Some(same) = opened(path, &position.beginning) {
                return Some(same);
            }
        } else if may_be_of(&path, &position.path) {
            copies.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
    }
    if position.beginning.len() < TELLING {
        return None;
    }
    copies.sort();
    let latest = copies.into_iter().rev().take(MAX_FILES);
    latest
        .map(|(_, path)| path)
        .find_map(|path| opened(path, &position.beginning))
}

/// A file, if it begins so.
fn opened(path: PathBuf, beginning: &[u8]) -> Option<(PathBuf, File, Metadata)> {
    let (file, metadata) = open(&path).ok()?;
    begins_with(&file, beginning).then_some((path, file, metadata))
}
