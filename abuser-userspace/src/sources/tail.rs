//! One file that grows, and what becomes of it: it is renamed, truncated, written anew.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{MAX_LINE, lines::Lines};
use crate::store::{PositionKey, PositionRow};

/// Bytes at the beginning of a file that tell it from another one.
const HEAD: usize = 256;
/// How long a file that was renamed is read on: programs keep writing to it until they are told to
/// open it anew.
const AFTERLIFE: Duration = Duration::from_secs(60);

/// A file that is read as it grows.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    device: u64,
    inode: u64,
    /// The end of what was read.
    offset: u64,
    /// The first bytes, as they were when it was looked at last.
    head: Vec<u8>,
    lines: Lines,
    /// Since when the path leads elsewhere, and nothing was written.
    left: Option<Instant>,
}

/// What a look at a file brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// Where to begin with a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin<'p> {
    /// At its first line.
    Start,
    /// Behind its last line.
    End,
    /// Where it was left, if it is the file that was left.
    At(&'p PositionRow),
}

impl Tail {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no file: a pipe would have this wait for its writer.
    pub(super) fn open(path: &Path, begin: Begin<'_>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file; only those are followed",
            ));
        }
        let mut tail = Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            offset: 0,
            head: Vec::new(),
            lines: Lines::new(MAX_LINE),
            left: None,
            file,
        };
        tail.head = tail.read_head(HEAD)?;
        match begin {
            Begin::Start => {}
            Begin::End => tail.offset = tail.last_line_end(metadata.len())?,
            Begin::At(position) if tail.is_at(position, metadata.len()) => {
                tail.offset = position.offset;
            }
            // Another file by now, all of which came after that.
            Begin::At(_) => {}
        }
        Ok(tail)
    }

    /// Where `source` goes on with it after a restart: behind the last whole line.
    pub(super) fn position(&self, source: &str) -> PositionRow {
        let offset = self.offset.saturating_sub(self.lines.pending());
        let known = usize::try_from(offset).unwrap_or(usize::MAX).min(self.head.len());
        PositionRow {
            key: PositionKey {
                source: source.to_owned(),
                device: self.device,
                inode: self.inode,
            },
            path: self.path.clone(),
            beginning: self.head.get(..known).unwrap_or_default().to_vec(),
            offset,
            cursor: None,
            at: SystemTime::now(),
        }
    }

    /// Whether the file is the one of a position: the same beginning, and long enough.
    fn is_at(&self, position: &PositionRow, length: u64) -> bool {
        length >= position.offset && self.head.starts_with(&position.beginning)
    }

    /// The same file under the name that it had before it was renamed.
    pub(super) fn named(self, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            ..self
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What tells the file from others.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Bytes that are written and not read.
    pub(super) fn lag(&self) -> u64 {
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        length.saturating_sub(self.offset)
    }

    /// Lines that were cut.
    pub(super) fn cut(&self) -> u64 {
        self.lines.cut()
    }

    /// Whether the path leads elsewhere, and nothing more is to be expected here.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left.is_some_and(|left| now.duration_since(left) > AFTERLIFE)
    }

    /// Takes note of whether the path leads here.
    pub(super) fn set_left(&mut self, elsewhere: bool, now: Instant) {
        if elsewhere {
            self.left.get_or_insert(now);
        } else {
            self.left = None;
        }
    }

    /// Whether the path has led elsewhere.
    pub(super) fn has_left(&self) -> bool {
        self.left.is_some()
    }

    /// Reads at most as much as `buffer` holds, and gives whole lines to `take`.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Read> {
        let read = self.file.read_at(buffer, self.offset)?;
        if read == 0 {
            if self.was_truncated()? {
                self.restart()?;
                return Ok(Read { bytes: 0, more: true });
            }
            return Ok(Read::default());
        }
        if self.head.len() < HEAD {
            self.head = self.read_head(HEAD)?;
        }
        self.offset += read as u64;
        if self.left.is_some() {
            self.left = Some(Instant::now());
        }
        self.lines.push(buffer.get(..read).unwrap_or_default(), take);
        Ok(Read {
            bytes: read as u64,
            more: true,
        })
    }

    /// Whether the file is shorter than what was read of it, or was written anew to the same length
    /// or more since (which is seen by its beginning).
    fn was_truncated(&self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        Ok(length < self.offset || self.read_head(self.head.len())? != self.head)
    }

    /// Begins with a file anew that was truncated.
    fn restart(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.lines.clear();
        self.head = self.read_head(HEAD)?;
        Ok(())
    }

    /// Looks whether the file was truncated and written on past where it was read; called when a
    /// look is due, because that costs a system call.
    pub(super) fn check(&mut self) -> io::Result<()> {
        if self.was_truncated()? {
            self.restart()?;
        }
        Ok(())
    }

    fn read_head(&self, length: usize) -> io::Result<Vec<u8>> {
        let mut head = vec![0; length];
        let mut filled = 0;
        while let Some(room) = head.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.file.read_at(room, filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        head.truncate(filled);
        Ok(head)
    }

    /// Where the last whole line ends, at or before `length`; a line that is longer than lines may
    /// be counts as whole.
    fn last_line_end(&self, length: u64) -> io::Result<u64> {
        let window = length.min(MAX_LINE as u64);
        let mut bytes = vec![0; usize::try_from(window).unwrap_or(MAX_LINE)];
        let start = length - window;
        let read = self.file.read_at(&mut bytes, start)?;
        bytes.truncate(read);
        let end = memchr::memrchr(b'\n', &bytes).map(|end| end as u64 + 1);
        Ok(match end {
            Some(end) => start + end,
            None if start == 0 => 0,
            None => length,
        })
    }
}
