//! What other programs' configurations say, as ours: fail2ban's jails, nginx's limits, and rules of
//! Snort and Suricata.
//!
//! An import is honest or it is a danger: what cannot be said here is listed with its place and
//! the reason ([`Note`]) and never left out in silence, and a rule of which a part cannot be said
//! is left out as a whole where without that part it would match more. Files are read through
//! [`Files`], so that this is pure and its tests need no disk.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `jails` | fail2ban's jails |
//! | `nginx` | `limit_req`, and the logs that tell whom it refused |
//! | `snort` | rules, `event_filter`, `suppress` |
//! | `table` | tables of TOML, and how they are written |
//! | `names` | names that our configuration takes, each once |
//! | `expression` | conditions as `where` takes them |
//! | `paths` | paths of logs as `files` takes them |

mod expression;
mod jails;
mod names;
mod nginx;
mod paths;
mod snort;
mod table;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use jails::fail2ban;
pub use nginx::nginx;
pub use snort::{Rules, snort};
pub use table::{Entry, Table};

/// The longest file that an import reads, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// The most bytes that an import reads in all files together.
const MAX_BYTES: usize = 64 << 20;

/// What an import reads of a disk.
pub trait Files {
    /// The bytes of a file; reading more than [`MAX_FILE_BYTES`] and one is of no use.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The files that match a pattern of glob(7), in the order of their names.
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// Where in which file something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line, from 1; 0 stands for the whole file.
    pub line: usize,
}

impl Place {
    fn error(&self, message: impl Into<String>) -> ImportError {
        ImportError::Syntax {
            place: self.clone(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// Something that could not be carried over, or not exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub what: String,
    /// Why, and what to do instead if there is something.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, why } = self;
        write!(f, "{place}: {what}: {why}")
    }
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// The tables of the configuration, in order.
    pub tables: Vec<Table>,
    /// What they do not say.
    pub notes: Vec<Note>,
}

impl Imported {
    /// The tables as TOML that `abuser check` accepts.
    pub fn to_toml(&self) -> String {
        table::render(&self.tables)
    }

    /// Whether nothing was found that can be carried over.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    fn note(&mut self, place: &Place, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Note {
            place: place.clone(),
            what: what.into(),
            why: why.into(),
        });
    }

    /// Gives detectors that throttle the limit that holds for whom they find, which has no like in what
    /// was imported.
    fn limit_throttles(&mut self) {
        let throttles = |table: &Table| table.get("action") == Some(&"throttle".into());
        let Some(first) = self.tables.iter().position(throttles) else {
            return;
        };
        let taken = |tables: &[Table], name: &str| {
            let mut limits = tables.iter().filter(|table| table.name == "limit");
            limits.any(|limit| limit.get("name") == Some(&name.into()))
        };
        let mut name = "throttled".to_owned();
        while taken(&self.tables, &name) {
            name.push_str("-too");
        }
        for table in self.tables.iter_mut().filter(|table| throttles(table)) {
            table.entries.push(Entry {
                key: "limit",
                value: name.as_str().into(),
                comment: None,
            });
        }
        let limit = Table::repeated("limit")
            .comment("What holds for whom detectors throttle, and for nobody else: make it fit your service.")
            .with("name", name)
            .with("only", "throttled")
            .with("protocol", "tcp")
            .with("count", "connections")
            .with("rate", "10/m")
            .with("burst", 5);
        self.tables.insert(first, limit);
    }

    /// Puts the notes in order, each once: a directive may be in force at many places, and a file
    /// be included twice.
    fn settle(&mut self) {
        self.notes.sort_unstable();
        self.notes.dedup();
    }
}

/// Why an import could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it is said to be.
    #[error("{place}: {message}")]
    Syntax {
        /// Where it is wrong.
        place: Place,
        /// What is wrong there.
        message: String,
    },
    /// fail2ban's files make no sense.
    #[error("{0}")]
    Jails(crate::filter::Error),
}

/// Reads files, and no more of them than there can honestly be.
struct Reader<'a> {
    files: &'a dyn Files,
    read: usize,
}

impl<'a> Reader<'a> {
    fn new(files: &'a dyn Files) -> Self {
        Self { files, read: 0 }
    }

    /// The text of a file; what is not UTF-8 in it is replaced.
    fn text(&mut self, path: &Path) -> Result<String, ImportError> {
        let bytes = self.files.read(path).map_err(|error| ImportError::Read {
            file: path.to_owned(),
            error,
        })?;
        self.read = self.read.saturating_add(bytes.len());
        let whole = Place {
            file: path.into(),
            line: 0,
        };
        if bytes.len() > MAX_FILE_BYTES {
            return Err(whole.error(format!(
                "is larger than {} MiB; that is no configuration",
                MAX_FILE_BYTES >> 20
            )));
        }
        if self.read > MAX_BYTES {
            return Err(whole.error(format!(
                "with this file it is more than {} MiB in all; that is no configuration",
                MAX_BYTES >> 20
            )));
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    fn matching(&self, pattern: &Path) -> Result<Vec<PathBuf>, ImportError> {
        self.files
            .matching(pattern)
            .map_err(|error| ImportError::Read {
                file: pattern.to_owned(),
                error,
            })
    }
}

#[cfg(test)]
mod memory;
