//! Files with secrets: what others can read, or could have written, is none.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nix::unistd::geteuid;

/// Why a file holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// Others can read it, too.
    #[error(
        "it is no secret: its mode is {mode:o} and its owner user {owner}; it must be root's or the \
         daemon's own and closed to everybody else, as after `chmod 600`, and what it holds is to be \
         replaced"
    )]
    Open {
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: u32,
    },
    /// It is another file.
    #[error("it has more than {0} bytes")]
    TooLong(usize),
}

/// Reads a file that only root or whoever runs this can read, and that has no more than `longest`
/// bytes.
pub fn read(path: &Path, longest: usize) -> Result<Vec<u8>, SecretError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let owner = metadata.uid();
    let trusted = owner == 0 || owner == geteuid().as_raw();
    if mode & 0o077 != 0 || !trusted {
        return Err(SecretError::Open { mode, owner });
    }
    let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > longest {
        return Err(SecretError::TooLong(longest));
    }
    Ok(bytes)
}
