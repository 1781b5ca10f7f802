//! How far a source was read: what a restart goes on from.

use std::path::PathBuf;

/// How far something was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// A file.
    File(FilePosition),
    /// The journal, for a source by its name: the cursor of the last entry.
    Journal {
        /// The source.
        source: String,
        /// As `journalctl --after-cursor` takes it.
        cursor: String,
    },
}

/// How far a file was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// Where it was.
    pub path: PathBuf,
    /// Its device.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Where the last whole line ended that was read.
    pub offset: u64,
    /// Its first bytes, as far as they were read: at most 256.
    pub head: Vec<u8>,
}
