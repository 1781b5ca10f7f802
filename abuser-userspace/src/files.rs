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
    /// There is no file, and what it is to hold is for its reader to make up.
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
    /// Whoever tries may not read it, and others may: it may be as it should be.
    #[error(
        "cannot read the secret in {}: {source}; run this as root, or as the user that abuser runs as",
        path.display()
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has permissions for others.
    #[error(
        "others can get at the secret in {} (mode {mode:o}): run `chmod 600 {}`, and replace the \
         secret, since others may have read it",
        path.display(), path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is somebody else's.
    #[error(
        "the secret in {} belongs to user {owner}, who is neither root nor who runs this: run \
         `chown root {}` and `chmod 600 {}`, and replace the secret, since that user may have read it",
        path.display(), path.display(), path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
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
///
/// # Errors
///
/// If it cannot be opened, or is something else.
pub fn open(path: &Path) -> io::Result<File> {
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
    let failed = |source| cannot_read(path, source);
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        let path = path.to_owned();
        return Err(SecretError::Foreign { path, owner });
    }
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(SecretError::Open { path, mode });
    }
    read_all(file, most).map_err(failed)
}

/// Why a secret cannot be read.
fn cannot_read(path: &Path, source: io::Error) -> SecretError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::PermissionDenied {
        SecretError::Denied { path, source }
    } else {
        SecretError::Read { path, source }
    }
}

/// The secret in a file that nobody else can read: visible ASCII, without the space around it, and
/// `shortest` bytes at least.
///
/// # Errors
///
/// See [`SecretError`].
pub fn read_secret(path: &Path, shortest: usize) -> Result<String, SecretError> {
    let bytes = read_private(path, LONGEST_SECRET).map_err(|error| match error {
        SecretError::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
            SecretError::Unwritten { path, source }
        }
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
            assert!(
                error
                    .to_string()
                    .contains(&format!("(mode {mode:o}): run `chmod 600 "))
            );
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
    fn what_is_not_there_is_to_be_written_and_what_is_may_be_as_it_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let error = read_secret(&path, SHORTEST_SECRET).unwrap_err().to_string();
        assert!(error.contains("; write one, as in `(umask 077;"), "{error}");
        // Whoever follows an advice to write one would overwrite what is there.
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let error = cannot_read(&path, source()).to_string();
        assert!(error.contains("run this as root"), "{error}");
        assert!(!error.contains("openssl"), "{error}");
        let error = read_secret(folder.path(), SHORTEST_SECRET).unwrap_err();
        assert!(!error.to_string().contains("openssl"), "{error}");
    }

    #[test]
    fn whose_a_secret_is_is_only_told_if_it_is_somebody_else_s() {
        let error = read("0123456789abcdef", 0o644).unwrap_err().to_string();
        assert!(!error.contains("chown"), "{error}");
        let path = PathBuf::from("/etc/abuser/hook.secret");
        let error = SecretError::Foreign { path, owner: 1000 }.to_string();
        assert!(
            error.contains("belongs to user 1000") && error.contains("`chown root /etc/"),
            "{error}"
        );
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
