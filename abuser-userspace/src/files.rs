//! Small files that a configuration names: read with a bound, and secrets only if they are some.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{libc::O_NONBLOCK, unistd::geteuid};

/// The shortest secret of one's own making, in bytes: no less can be trusted not to be guessed.
pub const SHORTEST_SECRET: usize = 16;
/// The longest, in bytes; more is another file.
const LONGEST_SECRET: u64 = 4096;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file cannot be read, and what it holds is for its reader to make up.
    #[error(
        "cannot read the secret in {}: {source}; write one, as in `(umask 077; openssl rand -hex 32 \
         > {})`", path.display(), path.display()
    )]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read it, too.
    #[error(
        "the secret in {} is none: its mode is {mode:o} and its owner user {owner}; run \
         `chmod 600 {}`, `chown root {}`, and write a new one",
        path.display(), path.display(), path.display()
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
    #[error("{} holds no secret: {problem}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Opens a regular file for reading; nothing else can make whoever reads it wait.
fn open(path: &Path) -> io::Result<File> {
    // A FIFO would wait for its other end.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// All of a regular file that has `most` bytes at most.
///
/// # Errors
///
/// If it cannot be read, or is larger.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_all(open(path)?, most)
}

fn read_all(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(io::Error::other(format!(
            "it is larger than the {most} bytes it may have"
        )));
    }
    Ok(bytes)
}

/// All of a file that nobody else can read, and that has `most` bytes at most.
///
/// # Errors
///
/// See [`SecretError`].
pub fn read_private(path: &Path, most: u64) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let owner = metadata.uid();
    if mode & 0o077 != 0 || !(owner == 0 || owner == geteuid().as_raw()) {
        return Err(SecretError::Open {
            path: path.to_owned(),
            mode,
            owner,
        });
    }
    read_all(file, most).map_err(failed)
}

/// The secret in a file that nobody else can read: visible ASCII, without the space around it, and
/// `shortest` bytes at least.
///
/// # Errors
///
/// See [`SecretError`].
pub fn read_secret(path: &Path, shortest: usize) -> Result<String, SecretError> {
    let bytes = read_private(path, LONGEST_SECRET).map_err(|error| match error {
        SecretError::Read { path, source } => SecretError::Unwritten { path, source },
        error => error,
    })?;
    secret(&bytes, shortest).map_err(|problem| SecretError::Unfit {
        path: path.to_owned(),
        problem,
    })
}

/// The line of text in a file that nobody else can read, without the space around it: a key or a password
/// that somebody else has made.
///
/// # Errors
///
/// See [`SecretError`].
pub fn read_line(path: &Path) -> Result<String, SecretError> {
    let unfit = |problem: &str| SecretError::Unfit {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let text = String::from_utf8(read_private(path, LONGEST_SECRET)?)
        .map_err(|_| unfit("it is not UTF-8"))?;
    match text.trim() {
        "" => Err(unfit("it is empty")),
        line if line.contains(char::is_control) => {
            Err(unfit("it has more than one line, or control characters"))
        }
        line => Ok(line.to_owned()),
    }
}

fn secret(bytes: &[u8], shortest: usize) -> Result<String, String> {
    let secret = bytes.trim_ascii();
    if secret.len() < shortest {
        return Err(format!(
            "it has {} bytes, and {shortest} are the least",
            secret.len()
        ));
    }
    // Anything else does not go through a header unharmed.
    match str::from_utf8(secret) {
        Ok(text) if secret.iter().all(u8::is_ascii_graphic) => Ok(text.to_owned()),
        _ => Err("it has other characters than ASCII letters, digits and signs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn read(content: &str, mode: u32) -> Result<String, SecretError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read_secret(&path, SHORTEST_SECRET)
    }

    #[test]
    fn a_secret_is_what_a_private_file_holds_without_the_space_around_it() {
        assert_eq!(
            read(" 0123456789abcdef\n", 0o600).unwrap(),
            "0123456789abcdef"
        );
        assert!(read(&"x".repeat(4096), 0o400).is_ok());
    }

    #[test]
    fn what_others_can_read_or_anybody_can_guess_is_no_secret() {
        for mode in [0o640, 0o604, 0o660, 0o620, 0o777] {
            let error = read("0123456789abcdef", mode).unwrap_err();
            assert!(error.to_string().contains(&format!("mode is {mode:o}")));
        }
        for (content, phrase) in [
            ("", "0 bytes"),
            ("0123456789abcde\n\n", "15 bytes"),
            (&"x".repeat(4097), "larger than the 4096"),
            ("0123456789 abcdef", "other characters"),
            ("0123456789abcd\u{e9}", "other characters"),
        ] {
            let error = read(content, 0o600).unwrap_err().to_string();
            assert!(error.contains(phrase), "{error}");
        }
    }

    #[test]
    fn what_somebody_else_made_is_any_line_of_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let read = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            read_line(&path)
        };
        assert_eq!(
            read(" top s\u{e9}cret\n".as_bytes()).unwrap(),
            "top s\u{e9}cret"
        );
        for (content, phrase) in [
            (&b" \n"[..], "empty"),
            (b"a\nb", "more than one line"),
            (b"\xff", "UTF-8"),
        ] {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains(phrase), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_and_too_large_a_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [&fifo, folder.path(), Path::new("/dev/zero")] {
            let error = read_bounded(path, 10).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
        let file = folder.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        assert_eq!(read_bounded(&file, 10).unwrap(), b"0123456789");
        assert!(read_bounded(&file, 9).is_err());
    }
}
