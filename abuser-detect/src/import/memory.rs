//! Files that exist only in a test.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::Files;

/// Names and texts.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()));
        Self(files.collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.to_string_lossy();
        let (before, after) = pattern.split_once('*').unwrap_or((&pattern, ""));
        let is_match = |path: &&PathBuf| {
            let path = path.to_string_lossy();
            let inner = path
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after));
            match inner {
                Some(inner) if pattern.contains('*') => !inner.contains('/'),
                Some(inner) => inner.is_empty(),
                None => false,
            }
        };
        Ok(self.0.keys().filter(is_match).cloned().collect())
    }
}
