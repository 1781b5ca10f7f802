//! Places in the text of a file.
//!
//! A place is kept as an offset and becomes a line and a column only if an error is to be
//! shown: files have many values, and few errors.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::error::ConfigError;
use crate::words::plain;

/// The text of one file.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            text: text.to_owned(),
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A place in a file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    source: Arc<Source>,
    offset: usize,
}

impl Place {
    /// The place `offset` bytes into `source`.
    pub(super) fn new(source: &Arc<Source>, offset: usize) -> Self {
        Self {
            source: Arc::clone(source),
            offset,
        }
    }

    /// An error about this place.
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        let (line, column) = self.line_and_column();
        ConfigError::Invalid {
            path: self.source.path.clone(),
            line,
            column,
            // Messages quote what is in the file, which need not be meant for a terminal.
            message: plain(&message.into()).into_owned(),
        }
    }

    /// `FILE:LINE`, to point at from another place's error.
    pub(super) fn describe(&self) -> String {
        let (line, _) = self.line_and_column();
        format!("{}:{line}", self.source.path.display())
    }

    fn line_and_column(&self) -> (usize, usize) {
        let text = &self.source.text;
        let mut offset = self.offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}
