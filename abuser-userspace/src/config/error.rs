//! What can be wrong with the configuration: each message says where, what and what to do.

use std::{io, path::PathBuf};

use super::file::MAX_FILE_BYTES;

/// Why a configuration was not accepted.
///
/// Whatever has a place in a file is shown as `FILE:LINE:COLUMN: message`, which editors
/// and terminals turn into a link.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "{}: no such file; write one (its first line: interfaces = [\"eth0\"]), name another with \
         --config, or start without one and with the built-in limits: abuser run -i IFACE",
        path.display()
    )]
    NotFound {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// A symbolic link to what is not there.
    #[error(
        "{}: is a link to {}, which is not there; mend the link, or remove it",
        path.display(), target.display()
    )]
    Dangling {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A directory stands where a file should.
    #[error("{}: is a directory, not a file; name a file in it", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// More than a configuration can sensibly be.
    #[error(
        "{}: larger than {MAX_FILE_BYTES} bytes, so probably not a configuration; \
         split it into files in conf.d if it is one",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file or the directory `conf.d` cannot be read.
    #[error("{}: cannot be read: {source}; check that it exists and may be read", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in a file is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong and what to do.
        message: String,
    },
}

/// `text` as it may stand in a message: in quotes, on one line, and not too long.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let start: String = text.chars().take(LONGEST).collect();
    let dots = if start.len() < text.len() { "..." } else { "" };
    format!("{start:?}{dots}")
}
