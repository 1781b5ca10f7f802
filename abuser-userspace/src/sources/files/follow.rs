//! One file that grows.
//!
//! Nothing of a file is held but its first bytes: a line whose end is not there yet is read again
//! when it is. So a thousand files take no more memory than their names.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use nix::sys::inotify::WatchDescriptor;

use super::super::{
    MAX_LINE,
    lines::{Piece, cut},
    reader::Out,
    status::FileGauge,
};

/// How many bytes a file is known again by.
pub(super) const BEGINNING: usize = 256;

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    /// That of the file a path leads to, if it does.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Follow {
    file: File,
    pub(super) id: FileId,
    /// What it is called.
    pub(super) path: PathBuf,
    /// What it was called when it was asked for by that name.
    pub(super) asked: PathBuf,
    /// Its first bytes, [`BEGINNING`] at most.
    pub(super) beginning: Vec<u8>,
    /// Where the first line begins that was not handed on.
    pub(super) offset: u64,
    /// How far it is known that this line does not end.
    scanned: u64,
    /// How long it was when it was last seen.
    seen: u64,
    /// Bytes that were seen and cut off unread, and not told of yet.
    pub(super) cut_off: u64,
    modified: Option<SystemTime>,
    /// Whether it is in the queue.
    pub(super) is_queued: bool,
    /// The file that is to be read first.
    pub(super) after: Option<u64>,
    pub(super) watch: Option<WatchDescriptor>,
    /// If it is not what its path leads to any more: when it last grew.
    pub(super) rotated: Option<Instant>,
    pub(super) gauge: Arc<FileGauge>,
}

/// What a look at a file brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes; there is more.
    More(usize),
    /// So many bytes; that is all there is.
    AtEnd(usize),
    /// It is not what it was: it was cut, or written anew.
    Truncated,
}

/// Opens a file that is to be one, without waiting for anybody.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let refused = |what| {
        Err(io::Error::other(format!(
            "it is {what}, and only files can be followed"
        )))
    };
    // Whoever opens a device may set something off.
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return refused(if kind.is_dir() {
            "a folder"
        } else {
            "a pipe, a socket or a device"
        });
    }
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return refused("a pipe or a device");
    }
    Ok((file, metadata))
}

/// Whether a file begins with these bytes.
pub(super) fn begins_with(file: &File, beginning: &[u8]) -> bool {
    let mut buffer = [0; BEGINNING];
    let Some(there) = buffer.get_mut(..beginning.len()) else {
        return false;
    };
    file.read_exact_at(there, 0).is_ok() && there == beginning
}

/// The first bytes of a file, as many as there are.
pub(super) fn beginning_of(file: &File) -> io::Result<Vec<u8>> {
    let mut buffer = [0; BEGINNING];
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(buffer.get(..length).unwrap_or_default().to_vec())
}

impl Follow {
    /// Follows a file from `offset` on.
    pub(super) fn new(
        file: File,
        metadata: &Metadata,
        path: PathBuf,
        offset: u64,
    ) -> io::Result<Self> {
        let beginning = if offset == 0 {
            Vec::new()
        } else {
            beginning_of(&file)?
        };
        let gauge = FileGauge {
            path: path.clone(),
            rotated: false,
            offset: offset.into(),
            size: metadata.len().into(),
        };
        Ok(Self {
            file,
            id: metadata.into(),
            asked: path.clone(),
            path,
            beginning,
            offset,
            scanned: offset,
            seen: metadata.len(),
            cut_off: 0,
            modified: metadata.modified().ok(),
            is_queued: false,
            after: None,
            watch: None,
            rotated: None,
            gauge: Arc::new(gauge),
        })
    }

    /// A path that leads to this very file, whatever it is called.
    pub(super) fn own_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Whether there is something to look at that nobody told of.
    pub(super) fn has_changed(&mut self) -> bool {
        let Ok(metadata) = self.file.metadata() else {
            return false;
        };
        self.gauge.size.store(metadata.len(), Relaxed);
        self.seen = self.seen.max(metadata.len());
        let modified = metadata.modified().ok();
        let is_other = modified != self.modified;
        self.modified = modified;
        is_other || metadata.len() != self.scanned
    }

    /// How long it is now, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Whether it has grown since it was read.
    pub(super) fn has_grown(&self) -> bool {
        self.length() > self.scanned
    }

    /// Hands on what can be read at once, and nothing past the first `limit` bytes of the file.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        limit: u64,
        out: &mut Out<'_>,
    ) -> io::Result<Progress> {
        let metadata = self.file.metadata()?;
        self.gauge.size.store(metadata.len(), Relaxed);
        let left = usize::try_from(limit.saturating_sub(self.scanned)).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        let wanted = buffer.get_mut(..room).unwrap_or_default();
        let count = self.file.read_at(wanted, self.scanned)?;
        // Looked at last: if it is what it was now, it was when it was read.
        let length = self.length();
        if !begins_with(&self.file, &self.beginning) || length < self.scanned {
            return Ok(Progress::Truncated);
        }
        // Its end was cut off, and what was read is still there.
        self.cut_off += self.seen.saturating_sub(length);
        self.seen = length;
        let is_full = count == room && count > 0;
        let piece = buffer.get(..count).unwrap_or_default();
        self.learn(piece);
        let before = self.offset;
        if self.scanned == self.offset {
            self.take_lines(piece, out);
            // A line that is longer than the buffer is searched for its end; one that only
            // begins in it is read again.
            if self.offset == before || !is_full {
                self.scanned = before + count as u64;
            } else {
                self.scanned = self.offset;
            }
        } else if let Some(end) = memchr::memchr(b'\n', piece) {
            let end = self.scanned + end as u64;
            self.take_known(end, buffer, out)?;
            self.note();
            return Ok(Progress::More(count));
        } else {
            self.scanned += count as u64;
        }
        self.note();
        Ok(if is_full {
            Progress::More(count)
        } else {
            Progress::AtEnd(count)
        })
    }

    /// Hands on the lines that end in what was read at `offset`.
    fn take_lines(&mut self, piece: &[u8], out: &mut Out<'_>) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            out.plain(cut(piece.get(start..end).unwrap_or_default(), MAX_LINE));
            start = end + 1;
        }
        self.offset += start as u64;
    }

    /// Hands on the line that ends at `end`, of which only the rest was read.
    fn take_known(&mut self, end: u64, buffer: &mut [u8], out: &mut Out<'_>) -> io::Result<()> {
        let length = usize::try_from(end - self.offset).unwrap_or(usize::MAX);
        let wanted = length.min(MAX_LINE);
        let there = buffer.get_mut(..wanted).unwrap_or_default();
        self.file.read_exact_at(there, self.offset)?;
        let mut piece = cut(there, MAX_LINE);
        piece.skipped = length - wanted;
        out.plain(piece);
        self.offset = end + 1;
        self.scanned = self.offset;
        Ok(())
    }

    /// Hands on a last line that will have no end.
    pub(super) fn finish(&mut self, buffer: &mut [u8], out: &mut Out<'_>) {
        let length = self.scanned - self.offset;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_LINE);
        let there = buffer.get_mut(..wanted).unwrap_or_default();
        if wanted > 0 && self.file.read_exact_at(there, self.offset).is_ok() {
            out.plain(Piece {
                skipped: usize::try_from(length).unwrap_or(usize::MAX) - wanted,
                ..cut(there, MAX_LINE)
            });
            self.offset = self.scanned;
        }
    }

    /// How many bytes of it were seen, and not read.
    pub(super) fn unread(&self) -> u64 {
        self.seen.saturating_sub(self.offset)
    }

    /// Begins anew, with what is there now.
    pub(super) fn restart(&mut self) {
        self.beginning.clear();
        (self.offset, self.scanned, self.seen) = (0, 0, 0);
        self.note();
    }

    /// Takes note that it is called so now, and whether that is what was asked for.
    pub(super) fn rename(&mut self, path: PathBuf, rotated: Option<Instant>) {
        self.path = path;
        self.rotated = rotated;
        if rotated.is_none() {
            self.asked.clone_from(&self.path);
        }
        self.gauge = Arc::new(FileGauge {
            path: self.path.clone(),
            rotated: rotated.is_some(),
            offset: self.offset.into(),
            size: self.gauge.size.load(Relaxed).into(),
        });
    }

    /// What it is called now, if it is still called anything.
    pub(super) fn name_now(&self) -> Option<PathBuf> {
        let name = fs::read_link(self.own_path()).ok()?;
        let id = FileId::from(&fs::symlink_metadata(&name).ok()?);
        (id == self.id).then_some(name)
    }

    fn learn(&mut self, piece: &[u8]) {
        let known = self.beginning.len();
        let next = u64::try_from(known)
            .ok()
            .and_then(|known| known.checked_sub(self.scanned));
        let new = next
            .and_then(|skip| piece.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default();
        let room = BEGINNING - known;
        self.beginning
            .extend_from_slice(new.get(..room).unwrap_or(new));
    }

    fn note(&self) {
        self.gauge.offset.store(self.offset, Relaxed);
    }
}
