//! Whether what lies at the store's path is still the database that was opened.
//!
//! `SQLite` goes on writing to a file that was deleted or replaced, and to the log beside one that was overwritten:
//! what it acknowledges then is nowhere after a restart. So this is looked at before each transaction.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// What a database begins with (<https://www.sqlite.org/fileformat.html>, 1.3.1).
pub(crate) const HEAD: &[u8; 16] = b"SQLite format 3\0";

/// The file of a database that is open.
///
/// It is opened once and closed after the database: whoever closes a file takes the locks from it that its
/// process has, and with them from `SQLite` (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
pub(super) struct Place {
    path: PathBuf,
    file: File,
    id: (u64, u64),
    /// Whether it began as a database does: not for as long as all of it is in the log.
    had_head: bool,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) why: &'static str,
    /// The file is there, and no database any more; else there is none, or another one.
    pub(super) is_damage: bool,
}

impl Misplaced {
    const REPLACED: Self = Self {
        why: "somebody put another file in its place",
        is_damage: false,
    };
    const DELETED: Self = Self {
        why: "somebody deleted it",
        is_damage: false,
    };
    const OVERWRITTEN: Self = Self {
        why: "its head was overwritten, or cut off",
        is_damage: true,
    };
}

impl Place {
    /// Of the database that was just opened; `None` if it is in no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            id: id(&file.metadata().ok()?),
            had_head: has_head(&file).unwrap_or(false),
            file,
        })
    }

    /// What is wrong. A disk that cannot be read at all says so itself, to whoever writes.
    pub(super) fn look(&mut self) -> Option<Misplaced> {
        match fs::metadata(&self.path) {
            Ok(there) if id(&there) != self.id => {
                return Some(Misplaced::REPLACED);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Some(Misplaced::DELETED);
            }
            _ => {}
        }
        let has_head = has_head(&self.file).ok()?;
        if self.had_head && !has_head {
            return Some(Misplaced::OVERWRITTEN);
        }
        self.had_head = has_head;
        None
    }
}

/// Which file that is.
fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn has_head(file: &File) -> io::Result<bool> {
    let mut head = [0; HEAD.len()];
    match file.read_exact_at(&mut head, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| head == *HEAD),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_database_that_is_replaced_overwritten_cut_or_deleted_is_told_from_one_that_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abuser.db");
        assert!(Place::of(&path).is_none());
        fs::write(&path, HEAD).unwrap();
        let mut place = Place::of(&path).unwrap();
        fs::write(&path, [HEAD.as_slice(), &[7; 4096]].concat()).unwrap();
        assert_eq!(place.look(), None);
        for damaged in [&[7; 4096], &HEAD[..7], &[]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(place.look(), Some(Misplaced::OVERWRITTEN), "{damaged:?}");
        }
        fs::write(&path, HEAD).unwrap();
        assert_eq!(place.look(), None);
        let other = folder.path().join("other");
        fs::write(&other, HEAD).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(place.look(), Some(Misplaced::REPLACED));
        fs::remove_file(&path).unwrap();
        assert_eq!(place.look(), Some(Misplaced::DELETED));
    }
}
