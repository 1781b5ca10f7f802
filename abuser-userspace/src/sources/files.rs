//! The files of one source: those that its patterns name, as they come and go.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Counts,
    tail::{Begin, Tail},
};
use crate::{
    config::From,
    store::{PositionKey, PositionRow},
};

/// Files that one source follows at most: each has a descriptor.
const MAX_FILES: usize = 512;
/// How long it is remembered where a file was left that is gone.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Other names of a file that a rotation may have given it.
const MAX_SIBLINGS: usize = 4096;

/// The files of one source.
#[derive(Debug)]
pub(super) struct Files {
    patterns: Vec<String>,
    from: From,
    /// Where files were left that were not opened since.
    left_at: Vec<PositionRow>,
    tails: Vec<Tail>,
    /// Whether files that appear are new: not so at the first look.
    looked: bool,
    /// Which file comes first, so that all get their turn.
    first: usize,
    /// What could not be read, and why.
    errors: HashMap<PathBuf, String>,
    /// Lines that were cut, of files that are not followed any more.
    cut: u64,
}

impl Files {
    /// None of the files yet; `left_at` is where they were left.
    pub(super) fn new(patterns: &[String], from: From, left_at: Vec<PositionRow>) -> Self {
        let forgotten = SystemTime::now() - REMEMBERED;
        let left_at = left_at.into_iter();
        Self {
            patterns: patterns.to_vec(),
            from,
            left_at: left_at.filter(|position| position.at > forgotten).collect(),
            tails: Vec::new(),
            looked: false,
            first: 0,
            errors: HashMap::new(),
            cut: 0,
        }
    }

    /// Looks which files there are, and opens those that are new.
    pub(super) fn look(&mut self, now: Instant) {
        let paths = self.paths();
        self.errors.retain(|path, _| paths.contains(path));
        for tail in &mut self.tails {
            // What was written over an old beginning is seen here.
            let _gone = tail.check();
            let here = fs::metadata(tail.path());
            let elsewhere = here.map_or(true, |found| (found.dev(), found.ino()) != tail.identity());
            tail.set_left(elsewhere, now);
        }
        let cut = &mut self.cut;
        self.tails.retain(|tail| {
            let over = tail.is_over(now) && tail.lag() == 0;
            *cut += if over { tail.cut() } else { 0 };
            !over
        });
        for path in paths {
            if let Err(error) = self.open(&path) {
                let said = self.errors.insert(path.clone(), error.to_string());
                if said.is_none_or(|said| said != error.to_string()) {
                    tracing::warn!(
                        path = %path.display(),
                        "cannot read this log: {error}; it is tried again every second"
                    );
                }
            } else {
                self.errors.remove(&path);
            }
        }
        self.looked = true;
    }

    /// The files that there are, by path. A path that is no pattern is one whether it is there or not.
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for pattern in &self.patterns {
            if pattern.contains(['*', '?', '[']) {
                let found = glob::glob(pattern).into_iter().flatten();
                paths.extend(found.filter_map(Result::ok));
            } else {
                paths.push(PathBuf::from(pattern));
            }
        }
        paths.dedup();
        paths.truncate(MAX_FILES);
        paths
    }

    /// Opens a file unless it is followed already.
    fn open(&mut self, path: &Path) -> io::Result<()> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // It may come later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let identity = (metadata.dev(), metadata.ino());
        if let Some(tail) = self.tails.iter_mut().find(|tail| tail.identity() == identity) {
            // Under another name it is still read; under its own it is not over.
            if tail.path() == path {
                tail.set_left(false, Instant::now());
            }
            return Ok(());
        }
        let (left, others) = std::mem::take(&mut self.left_at)
            .into_iter()
            .partition::<Vec<_>, _>(|position| position.path == path);
        self.left_at = others;
        let same = |key: &PositionKey| (key.device, key.inode) == identity;
        // Rotated while nobody looked: first what is left of the old ones.
        for position in left.iter().filter(|position| !same(&position.key)) {
            if let Some(old) = renamed(position) {
                let mut old = Tail::open(&old, Begin::At(position))?.named(path);
                old.set_left(true, Instant::now());
                self.tails.push(old);
            }
        }
        let begin = match left.iter().find(|position| same(&position.key)) {
            Some(position) => Begin::At(position),
            None if self.looked || self.from == From::Start || !left.is_empty() => Begin::Start,
            None => Begin::End,
        };
        let tail = Tail::open(path, begin)?;
        self.tails.push(tail);
        Ok(())
    }

    /// Reads at most a buffer of one file, and gives its lines to `take`; whether there may be more.
    pub(super) fn turn(
        &mut self,
        buffer: &mut [u8],
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let count = self.tails.len();
        let mut more = false;
        for step in 0..count {
            let place = (self.first + step) % count;
            // What follows on a file waits until that is read to its end.
            let waits = self.tails.get(place).is_some_and(|tail| {
                let mut others = self.tails.iter().take(place);
                others.any(|old| old.path() == tail.path() && old.has_left() && old.lag() > 0)
            });
            let Some(tail) = self.tails.get_mut(place).filter(|_| !waits) else {
                more |= waits;
                continue;
            };
            match tail.read(buffer, take) {
                Ok(read) => {
                    counts.bytes += read.bytes;
                    if read.more {
                        self.first = place + 1;
                        return true;
                    }
                }
                Err(error) => {
                    self.errors.insert(tail.path().to_owned(), error.to_string());
                }
            }
        }
        more
    }

    /// Where `source` goes on after a restart.
    pub(super) fn positions(&self, source: &str) -> Vec<PositionRow> {
        let read = |tail: &&Tail| !tail.has_left() || tail.lag() > 0;
        let open = self.tails.iter().filter(read);
        // A file that is away for a while is not to be read anew when it comes back.
        let away = self.left_at.iter().cloned();
        open.map(|tail| tail.position(source)).chain(away).collect()
    }

    /// How many files are followed.
    pub(super) fn count(&self) -> u64 {
        self.tails.iter().filter(|tail| !tail.has_left()).count() as u64
    }

    /// Bytes that are written and not read.
    pub(super) fn lag(&self) -> u64 {
        self.tails.iter().map(Tail::lag).sum()
    }

    /// Lines that were cut.
    pub(super) fn cut(&self) -> u64 {
        self.cut + self.tails.iter().map(Tail::cut).sum::<u64>()
    }

    /// What cannot be read, or is not there.
    pub(super) fn error(&self) -> Option<String> {
        if let Some((path, error)) = self.errors.iter().min() {
            return Some(format!("{}: {error}", path.display()));
        }
        if self.tails.is_empty() {
            let patterns = self.patterns.join(", ");
            return Some(format!("there is no file {patterns} yet"));
        }
        None
    }

    /// What to watch: the files, and the folders that they come and go in.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let files = self.tails.iter().map(|tail| tail.path().to_owned());
        let folders = self.patterns.iter().filter_map(|pattern| {
            let fixed = pattern.split(['*', '?', '[']).next()?;
            let folder = fixed.get(..=fixed.rfind('/')?)?;
            Some(PathBuf::from(folder))
        });
        let mut watched: Vec<_> = folders.chain(files).collect();
        watched.sort();
        watched.dedup();
        watched
    }
}

/// The file of a position under the name that it has now, in the same folder.
fn renamed(position: &PositionRow) -> Option<PathBuf> {
    let folder = position.path.parent()?;
    let entries = fs::read_dir(folder).ok()?.take(MAX_SIBLINGS);
    let mut files = entries.filter_map(Result::ok);
    let same = |entry: &fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let same = (metadata.dev(), metadata.ino()) == (position.key.device, position.key.inode);
        same.then(|| entry.path())
    };
    files.find_map(|entry| same(&entry))
}
