//! Secrets that lie in files which nobody else can read: tokens, keys and passwords. They are in no
//! configuration, which is shown, copied and backed up.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

/// The longest secret, in bytes; more is another file. A key with its certificates fits.
const LONGEST: u64 = 64 * 1024;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read it, too.
    #[error(
        "{path} is no secret: its mode is {mode:o} and its owner user {owner}; run `chmod 600 {path}`, \
         `chown root {path}`, and write a new one"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: u32,
    },
    /// It is none.
    #[error("{path} holds no secret: {problem}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Reads a file that nobody else can read, without the space around what it holds.
pub fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let unfit = |problem| SecretError::Unfit {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let owner = metadata.uid();
    let trusted = owner == 0 || owner == geteuid().as_raw();
    if mode & 0o077 != 0 || !trusted {
        return Err(SecretError::Open {
            path: path.to_owned(),
            mode,
            owner,
        });
    }
    let mut bytes = Vec::new();
    let length = file
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if length as u64 > LONGEST {
        return Err(unfit("it has more than 64 KiB"));
    }
    Ok(bytes.trim_ascii().to_owned())
}

/// [`read`] of what is one line of text, as keys and passwords are.
pub fn read_text(path: &Path) -> Result<String, SecretError> {
    let unfit = |problem| SecretError::Unfit {
        path: path.to_owned(),
        problem,
    };
    let text = String::from_utf8(read(path)?).map_err(|_| unfit("it is not UTF-8"))?;
    if text.is_empty() {
        return Err(unfit("it is empty"));
    }
    if text.contains(char::is_control) {
        return Err(unfit("it has more than one line, or control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn written(content: &[u8], mode: u32) -> Result<String, SecretError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read_text(&path)
    }

    #[test]
    fn a_secret_is_what_a_private_file_holds_without_the_space_around_it() {
        assert_eq!(written(b" top secret\n", 0o600).unwrap(), "top secret");
        assert_eq!(written(b"x", 0o400).unwrap(), "x");
    }

    #[test]
    fn what_others_can_read_or_is_no_line_of_text_is_no_secret() {
        for mode in [0o640, 0o604, 0o660, 0o620, 0o777] {
            let error = written(b"top secret", mode).unwrap_err();
            assert!(matches!(error, SecretError::Open { .. }), "{error}");
        }
        for (content, phrase) in [
            (&b" \n"[..], "empty"),
            (b"a\nb", "more than one line"),
            (b"\xff", "UTF-8"),
            (&vec![b'x'; 64 * 1024 + 1], "64 KiB"),
        ] {
            let error = written(content, 0o600).unwrap_err().to_string();
            assert!(error.contains(phrase), "{error}");
        }
        let error = read(Path::new("/nowhere/key")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/key"), "{error}");
    }
}
