//! Files, through every kind of rotation.
//!
//! What is followed is a file, not its name: one that was renamed is read to its end, and for as
//! long as its writer may still add to it; only then comes the one that has its name now. One
//! that was copied and cut has the rest of its lines in the copy. What the kernel does not tell of
//! is found by a look at all of it each second.
//!
//! Not found is a log that comes and goes between two looks (some milliseconds, or while nobody
//! reads), what was packed or moved to another folder before it was read, and what `copytruncate` loses
//! itself between the copy and the cut.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `follow` | one file |
//! | `find` | which files there are, and where one has gone |

mod find;
mod follow;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs::{File, Metadata},
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::inotify::WatchDescriptor;

use self::{
    find::{Found, MAX_FILES, find, find_rest, is_asked_for, is_copy, may_be_of},
    follow::{FileId, Follow, Progress, begins_with, open},
};
use super::{
    BUDGET, Begin,
    reader::{Driver, TICK, Turn},
    watches::{Target, Watches},
};
use crate::store::{PositionKey, PositionRow};

/// How long a file that was rotated is followed after it last grew: its writer may have it open
/// until it is told to open the new one.
const ROTATED_FOR: Duration = Duration::from_secs(300);

/// How long the position of a file is kept that is nowhere: its file system may not be mounted.
const LOST_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How soon a look for files may follow another.
const PAUSE: Duration = Duration::from_millis(10);

/// A source of files.
#[derive(Debug)]
pub(super) struct Files {
    patterns: Vec<String>,
    begin: Begin,
    /// Positions of files that were not found yet.
    kept: Vec<PositionRow>,
    /// When the last of them was kept, by the clock of files: what is no older was never seen.
    kept_at: Option<SystemTime>,
    follows: HashMap<u64, Follow>,
    next: u64,
    /// Which file had a name last that it has no more.
    left: HashMap<PathBuf, u64>,
    /// Files to look at.
    queue: VecDeque<u64>,
    folders: HashSet<WatchDescriptor>,
    name: String,
    /// Whether the files were looked for once.
    is_begun: bool,
    /// Whether a folder has changed.
    is_stale: bool,
    /// When files may be looked for again; and when they are at the latest.
    scan_from: Instant,
    scan_by: Instant,
    problems: BTreeMap<PathBuf, String>,
}

impl Files {
    pub(super) fn new(patterns: &[String], begin: Begin, kept: Vec<PositionRow>) -> Self {
        let now = Instant::now();
        // What is kept may be of files that are not asked for any more.
        let kept: Vec<_> = kept
            .into_iter()
            .filter(|row| is_asked_for(&row.path, patterns))
            .collect();
        Self {
            patterns: patterns.to_vec(),
            begin,
            kept_at: kept.iter().map(|row| row.at).max(),
            kept,
            follows: HashMap::new(),
            next: 0,
            left: HashMap::new(),
            queue: VecDeque::new(),
            folders: HashSet::new(),
            name: String::new(),
            is_begun: false,
            is_stale: false,
            scan_from: now,
            scan_by: now,
            problems: BTreeMap::new(),
        }
    }

    /// Looks for files: those that are new, and those that have gone elsewhere.
    fn scan(&mut self, turn: &mut Turn<'_>) {
        self.name.clear();
        self.name.push_str(turn.name);
        let started = Instant::now();
        let Found {
            paths,
            problems,
            folders,
        } = find(&self.patterns);
        self.problems = problems;
        // Their watches come first: what changes while they are looked at is looked at again.
        self.watch_folders(&folders, turn);
        let known: HashSet<_> = self.follows.values().map(|follow| follow.id).collect();
        let mut present = HashMap::new();
        let mut new = Vec::new();
        for path in paths {
            match open_if_new(&path, &known) {
                Ok(Sighting::Known(id)) => {
                    present.entry(id).or_insert(path);
                }
                Ok(Sighting::New(file, metadata)) => new.push((path, file, metadata)),
                // It has gone since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let error = format!("cannot read {}: {error}", path.display());
                    self.problems.insert(path, error);
                }
            }
        }
        let has_changed = self.settle(present, turn.now);
        let count = new.len();
        for (path, file, metadata) in new {
            self.meet(path, file, &metadata, turn);
        }
        if !std::mem::replace(&mut self.is_begun, true) {
            self.look_for_kept(turn);
        }
        if has_changed || count > 0 {
            turn.moved();
        }
        self.report(turn);
        self.is_stale = false;
        let took = started.elapsed();
        // However many files there are, looking for them takes a small part of the time.
        self.scan_from = Instant::now() + PAUSE.max(took * 20);
        self.scan_by = Instant::now() + (TICK / 2).max(took * 200);
    }

    fn watch_folders(&mut self, folders: &[PathBuf], turn: &mut Turn<'_>) {
        let target = folder_target(turn.run);
        let watches = folders
            .iter()
            .filter_map(|folder| turn.watches.folder(folder, target));
        let watches: HashSet<_> = watches.collect();
        for gone in self.folders.difference(&watches) {
            turn.watches.remove(*gone, target);
        }
        self.folders = watches;
    }

    /// Takes note of what each file is called now. Whether that is something else than before.
    fn settle(&mut self, mut present: HashMap<FileId, PathBuf>, now: Instant) -> bool {
        let mut has_changed = false;
        for (&key, follow) in &mut self.follows {
            match (present.remove(&follow.id), follow.rotated) {
                (Some(path), None) if path == follow.path => {}
                // Another of its names, if it still has this one.
                (Some(_), None) if FileId::of(&follow.path) == Some(follow.id) => {}
                (Some(path), _) => {
                    self.left.insert(follow.path.clone(), key);
                    follow.rename(path, None);
                    has_changed = true;
                }
                (None, None) => {
                    self.left.insert(follow.path.clone(), key);
                    let path = follow.name_now().unwrap_or_else(|| follow.path.clone());
                    follow.rename(path, Some(now));
                    has_changed = true;
                }
                (None, Some(_)) => {}
            }
        }
        has_changed
    }

    /// Begins to follow a file that was not followed.
    fn meet(&mut self, path: PathBuf, file: File, metadata: &Metadata, turn: &mut Turn<'_>) {
        let id = FileId::from(metadata);
        // The look for the rest of another may have found it.
        if self.follows.values().any(|follow| follow.id == id) {
            return;
        }
        let of_it = |follow: &&Follow| {
            may_be_of(&path, &follow.path) && is_copy(&file, metadata, &follow.beginning)
        };
        if self.follows.values().any(|follow| of_it(&follow)) {
            // Its lines are read where they were written. When that one is cut, the rest is read here.
            return;
        }
        let (offset, after) = self.resume(&path, &file, metadata, turn);
        // The one that had the name before may still be read.
        let after = after.or_else(|| self.left.get(&path).copied());
        self.follow(path, file, metadata, offset, turn, |follow| {
            follow.after = after;
        });
    }

    /// Where to go on with a file, by what is kept; and which file is to be read first.
    fn resume(
        &mut self,
        path: &Path,
        file: &File,
        metadata: &Metadata,
        turn: &mut Turn<'_>,
    ) -> (u64, Option<u64>) {
        let id = FileId::from(metadata);
        let is_same = |row: &PositionRow| (row.key.device, row.key.inode) == (id.device, id.inode);
        let same = self
            .kept
            .iter()
            .position(is_same)
            .map(|index| self.kept.swap_remove(index));
        if let Some(row) = &same
            && metadata.len() >= row.offset
            && begins_with(file, &row.beginning)
        {
            return (row.offset, None);
        }
        // An inode is given again when its file is deleted, so it may tell of one that is gone;
        // what had this name is elsewhere.
        let (mut before, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition(|row| row.path == path);
        self.kept = others;
        before.extend(same);
        before.sort_by_key(|row| row.at);
        if before.is_empty() {
            return (self.first_offset(metadata), None);
        }
        let mut after = None;
        for row in &before {
            after = self.follow_rest(row, turn);
        }
        if after.is_none() {
            tracing::warn!(
                source = turn.name,
                "what {} was when it was read last is gone from its folder, or packed: lines that \
                 were written to it since then are not read",
                path.display()
            );
        }
        (0, after)
    }

    /// Where to begin with a file of which nothing is known.
    fn first_offset(&self, metadata: &Metadata) -> u64 {
        let is_new = self.is_begun
            || self
                .kept_at
                .is_some_and(|kept| metadata.created().is_ok_and(|created| created >= kept));
        match self.begin {
            Begin::End if !is_new => metadata.len(),
            _ => 0,
        }
    }

    /// Follows what is left of a file that was read up to there. Its number, if it was found.
    fn follow_rest(&mut self, row: &PositionRow, turn: &mut Turn<'_>) -> Option<u64> {
        let (path, file, metadata) = find_rest(row)?;
        let id = FileId::from(&metadata);
        let known = self.follows.iter().find(|(_, follow)| follow.id == id);
        if let Some((&key, _)) = known {
            return Some(key);
        }
        let now = turn.now;
        self.follow(path.clone(), file, &metadata, row.offset, turn, |follow| {
            follow.rename(path, Some(now));
            follow.asked.clone_from(&row.path);
        })
    }

    fn follow(
        &mut self,
        path: PathBuf,
        file: File,
        metadata: &Metadata,
        offset: u64,
        turn: &mut Turn<'_>,
        set: impl FnOnce(&mut Follow),
    ) -> Option<u64> {
        if self.follows.len() >= MAX_FILES {
            let error = format!(
                "{} and others are not read: this source follows {MAX_FILES} files already; write a narrower pattern",
                path.display()
            );
            self.problems.insert(PathBuf::new(), error);
            return None;
        }
        let mut follow = match Follow::new(file, metadata, path, offset) {
            Ok(follow) => follow,
            Err(error) => {
                self.problems.insert(PathBuf::new(), error.to_string());
                return None;
            }
        };
        set(&mut follow);
        self.next += 1;
        let key = self.next;
        follow.watch = turn
            .watches
            .file(&follow.own_path(), file_target(turn.run, key));
        self.follows.insert(key, follow);
        self.enqueue(key);
        turn.moved();
        Some(key)
    }

    /// Looks for files that have no name any more that is asked for.
    fn look_for_kept(&mut self, turn: &mut Turn<'_>) {
        let oldest = SystemTime::now().checked_sub(LOST_FOR);
        for row in std::mem::take(&mut self.kept) {
            let is_unread = self.problems.contains_key(&row.path);
            if self.follow_rest(&row, turn).is_none()
                && (is_unread || !row.path.exists())
                && oldest.is_none_or(|oldest| row.at > oldest)
            {
                self.kept.push(row);
            }
        }
    }

    fn enqueue(&mut self, key: u64) {
        if let Some(follow) = self.follows.get_mut(&key)
            && !std::mem::replace(&mut follow.is_queued, true)
        {
            self.queue.push_back(key);
        }
    }

    fn enqueue_if(&mut self, wanted: impl Fn(&mut Follow) -> bool) {
        let mut keys: Vec<_> = self
            .follows
            .iter_mut()
            .filter_map(|(&key, follow)| wanted(follow).then_some(key))
            .collect();
        keys.sort_unstable();
        for key in keys {
            self.enqueue(key);
        }
    }

    /// A file was cut, or written anew: what was not read of it may be in a copy.
    fn begin_anew(&mut self, key: u64, turn: &mut Turn<'_>) {
        let Some(follow) = self.follows.get(&key) else {
            return;
        };
        let row = row(turn.name, follow);
        let (unread, path) = (follow.unread(), follow.path.clone());
        let after = self.follow_rest(&row, turn).filter(|&copy| copy != key);
        if after.is_none() && unread > 0 {
            tell_of_loss(turn, &path, unread);
        }
        if let Some(follow) = self.follows.get_mut(&key) {
            follow.restart();
            follow.after = after;
        }
        turn.moved();
        self.show_files(turn);
    }

    /// Lets go of files that nobody writes to any more.
    fn retire(&mut self, turn: &mut Turn<'_>) {
        let is_over = |follow: &Follow| {
            !follow.is_queued
                && follow
                    .rotated
                    .is_some_and(|grew| turn.now.saturating_duration_since(grew) >= ROTATED_FOR)
        };
        let over = self.follows.iter().filter(|(_, follow)| is_over(follow));
        let over: Vec<_> = over.map(|(&key, _)| key).collect();
        for key in &over {
            let Some(mut follow) = self.follows.remove(key) else {
                continue;
            };
            let (buffer, mut out) = turn.split();
            follow.finish(buffer, &mut out);
            if let Some(watch) = follow.watch {
                turn.watches.remove(watch, file_target(turn.run, *key));
            }
            turn.moved();
        }
        if !over.is_empty() {
            self.left.retain(|_, key| self.follows.contains_key(key));
            self.show_files(turn);
        }
    }

    fn report(&self, turn: &Turn<'_>) {
        self.show_files(turn);
        let mut problems = self.problems.values();
        let error = match (problems.next(), problems.count()) {
            (Some(first), 0) => Some(first.clone()),
            (Some(first), more) => Some(format!("{first} (and {more} more problems)")),
            (None, _) if self.follows.is_empty() => Some(format!(
                "there is no file {} yet; it is read as soon as it is there",
                self.patterns.join(" or ")
            )),
            (None, _) => None,
        };
        turn.gauge.set_error(error);
    }

    fn show_files(&self, turn: &Turn<'_>) {
        let mut files: Vec<_> = self
            .follows
            .values()
            .map(|follow| Arc::clone(&follow.gauge))
            .collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        turn.gauge.set_files(files);
    }
}

impl Driver for Files {
    fn fds<'d>(&'d self, _into: &mut Vec<BorrowedFd<'d>>) {}

    fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    fn due(&self) -> Option<Instant> {
        self.is_stale.then_some(self.scan_from)
    }

    fn turn(&mut self, _ready: bool, turn: &mut Turn<'_>) {
        if self.is_stale && turn.now >= self.scan_from {
            self.scan(turn);
        }
        let mut budget = BUDGET;
        let mut waiting = 0;
        while budget > 0
            && waiting <= self.queue.len()
            && let Some(key) = self.queue.pop_front()
        {
            let Some(follow) = self.follows.get(&key) else {
                continue;
            };
            // What is there now was written after all that is in the file before it; what comes
            // later need not be.
            let first = follow
                .after
                .and_then(|first| Some((first, self.follows.get(&first)?)));
            let limit = first.map_or(u64::MAX, |_| follow.length());
            if let Some((first, before)) = first
                && (before.is_queued || before.has_grown())
            {
                self.enqueue(first);
                self.queue.push_back(key);
                waiting += 1;
                continue;
            }
            waiting = 0;
            let Some(follow) = self.follows.get_mut(&key) else {
                continue;
            };
            let (buffer, mut out) = turn.split();
            let count = match follow.read(buffer, limit, &mut out) {
                Ok(Progress::More(count)) => {
                    self.queue.push_back(key);
                    count
                }
                Ok(Progress::AtEnd(count)) => {
                    follow.is_queued = false;
                    count
                }
                Ok(Progress::Truncated) => {
                    self.queue.push_back(key);
                    self.begin_anew(key, turn);
                    continue;
                }
                Err(error) => {
                    follow.is_queued = false;
                    let path = follow.path.clone();
                    let error = format!("cannot read {}: {error}", path.display());
                    self.problems.insert(path, error);
                    self.report(turn);
                    continue;
                }
            };
            let cut_off = std::mem::take(&mut follow.cut_off);
            if cut_off > 0 {
                let path = follow.path.clone();
                tell_of_loss(turn, &path, cut_off);
                continue;
            }
            if count > 0 {
                follow.rotated = follow.rotated.map(|_| turn.now);
                turn.moved();
            }
            budget = budget.saturating_sub(count);
        }
        // Files that wait for each other, whatever they were called meanwhile, would wait for ever.
        if waiting > self.queue.len() {
            self.follows
                .values_mut()
                .for_each(|follow| follow.after = None);
        }
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        if turn.now >= self.scan_by {
            self.scan(turn);
        }
        self.enqueue_if(Follow::has_changed);
        self.retire(turn);
    }

    fn wake(&mut self, file: Option<u64>) {
        match file {
            Some(key) => self.enqueue(key),
            None => self.is_stale = true,
        }
    }

    fn wake_all(&mut self) {
        self.is_stale = true;
        self.enqueue_if(|_| true);
    }

    fn positions(&self, into: &mut Vec<PositionRow>) {
        into.extend(self.kept.iter().map(|kept| {
            let mut kept = kept.clone();
            kept.key.source.clone_from(&self.name);
            kept
        }));
        into.extend(self.follows.values().map(|follow| row(&self.name, follow)));
    }

    fn stop(&mut self, watches: &mut Watches, run: u64) {
        for watch in &self.folders {
            watches.remove(*watch, folder_target(run));
        }
        for (&key, follow) in &self.follows {
            if let Some(watch) = follow.watch {
                watches.remove(watch, file_target(run, key));
            }
        }
    }
}

/// What a path leads to.
enum Sighting {
    /// A file that is followed.
    Known(FileId),
    New(File, Metadata),
}

fn open_if_new(path: &Path, known: &HashSet<FileId>) -> io::Result<Sighting> {
    if let Some(id) = FileId::of(path).filter(|id| known.contains(id)) {
        return Ok(Sighting::Known(id));
    }
    let (file, metadata) = open(path)?;
    Ok(Sighting::New(file, metadata))
}

/// Takes note of what was cut off a file before it was read, and is in no copy of it.
fn tell_of_loss(turn: &Turn<'_>, path: &Path, bytes: u64) {
    turn.gauge.lost(1);
    tracing::warn!(
        source = turn.name,
        "{} was cut off before its last {bytes} bytes were read, and there is no copy of it beside it: those \
         lines are lost",
        path.display()
    );
}

fn file_target(run: u64, key: u64) -> Target {
    Target {
        run,
        file: Some(key),
    }
}

fn folder_target(run: u64) -> Target {
    Target { run, file: None }
}

fn row(source: &str, follow: &Follow) -> PositionRow {
    PositionRow {
        key: PositionKey {
            source: source.to_owned(),
            device: follow.id.device,
            inode: follow.id.inode,
        },
        path: follow.asked.clone(),
        beginning: follow.beginning.clone(),
        offset: follow.offset,
        cursor: None,
        // Whoever keeps it knows.
        at: SystemTime::UNIX_EPOCH,
    }
}
