//! Failures of one connection, whose lines belong together by an id in all of them
//! (`<F-MLFID>`).
//!
//! One line has the user, another the address, a third says that it was no failure after all.
//! What is known of a connection is kept until it ends, for five minutes, and as long as there is room.

use std::time::Duration;

use compact_str::CompactString;
use foldhash::fast::RandomState;
use schnellru::{LruMap, UnlimitedCompact};
use smallvec::SmallVec;

use super::groups::{Groups, MLFFORGET, MLFGAINED, NOFAIL, USER};
use crate::time::Time;

/// For how long a connection is remembered.
const KEPT: Duration = Duration::from_secs(300);
/// How many connections are remembered; fail2ban remembers a tenth.
const MAX_SESSIONS: usize = 1000;
/// How many bytes all of them may take.
const MAX_BYTES: usize = 16 << 20;
/// How many lines and users are kept of one.
const MAX_LINES: usize = 50;
const MAX_USERS: usize = 64;

/// Users that were tried; usually one.
pub(super) type Users = SmallVec<[CompactString; 1]>;
/// Lines that belong together; usually one.
pub type Texts = SmallVec<[String; 1]>;

/// What is known of a failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) groups: Groups,
    pub(super) users: Users,
    /// The lines it rests on.
    pub(super) lines: Texts,
    /// Lines that are no failure by themselves.
    quiet_lines: Texts,
    /// It is a failure, but not known whose.
    pending: bool,
}

impl Failure {
    /// One that belongs to no connection.
    pub(super) fn alone(groups: Groups, lines: Texts) -> Self {
        Self {
            groups,
            lines,
            ..Self::default()
        }
    }

    /// Whether it is no failure by itself.
    pub(super) fn quiet(&self) -> bool {
        self.groups.has(NOFAIL)
    }

    fn add_user(&mut self, new: &Groups) {
        let Some(user) = new.value(USER).filter(|user| !user.is_empty()) else {
            return;
        };
        if self.users.len() < MAX_USERS && !self.users.iter().any(|other| other == user) {
            self.users.push(user.into());
        }
    }

    fn bytes(&self) -> usize {
        let users = self.users.iter().map(CompactString::as_str);
        let lines = self.lines.iter().chain(&self.quiet_lines);
        let texts = users.chain(lines.map(String::as_str));
        texts.map(|text| text.len() + 48).sum::<usize>() + self.groups.bytes() + 128
    }
}

#[derive(Debug)]
struct Kept {
    since: Time,
    failure: Failure,
    bytes: usize,
}

/// The connections that are remembered.
#[derive(Debug)]
pub(super) struct Sessions {
    map: LruMap<CompactString, Kept, UnlimitedCompact, RandomState>,
    bytes: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            map: LruMap::with_hasher(UnlimitedCompact, RandomState::default()),
            bytes: 0,
        }
    }
}

/// What a line means for its connection.
pub(super) enum Merged {
    /// A failure of somebody.
    Failure(Failure),
    /// No failure by itself.
    Quiet,
    /// A failure of nobody that is known yet.
    Pending,
}

impl Sessions {
    /// Puts what a line says of a connection together with what is known of it. `known` says whether
    /// groups tell whose failure it is.
    pub(super) fn merge(
        &mut self,
        id: &str,
        mut new: Groups,
        line: Texts,
        now: Time,
        known: fn(&Groups) -> bool,
    ) -> Merged {
        let mut gained = new.has(MLFGAINED);
        if gained && !new.has(NOFAIL) {
            let what = new.value(MLFGAINED).unwrap_or_default().to_owned();
            new.set(NOFAIL, &what);
        }
        let mut quiet = new.has(NOFAIL);
        let forget = new.take(MLFFORGET);
        // One that is over is as good as none.
        let expired = self
            .map
            .peek(id)
            .is_some_and(|kept| now.since(kept.since) > KEPT);
        if expired {
            self.remove(id);
        }
        let mut fresh = None;
        let failure = if let Some(kept) = self.map.get(id) {
            let failure = &mut kept.failure;
            failure.add_user(&new);
            let was_quiet = failure.groups.take(NOFAIL) | failure.groups.take(MLFGAINED);
            if gained {
                failure.pending = false;
            }
            // Lines of a failure that was told of before are not told again.
            if !was_quiet && !failure.pending {
                failure.lines.clear();
            }
            failure.groups.update(&new);
            failure
        } else {
            let failure = fresh.insert(Failure::default());
            if !forget {
                failure.add_user(&new);
            }
            failure.groups = new;
            failure
        };
        if std::mem::take(&mut failure.pending) || failure.users.len() > 1 {
            failure.groups.take(NOFAIL);
            failure.groups.take(MLFGAINED);
            (quiet, gained) = (false, false);
        }
        if quiet && !forget {
            failure.quiet_lines.extend(line);
        } else if !quiet {
            if !failure.quiet_lines.is_empty() {
                let lines = std::mem::take(&mut failure.lines);
                failure.lines = std::mem::take(&mut failure.quiet_lines);
                failure.lines.extend(lines);
            }
            if !gained {
                failure.lines.extend(line);
            }
        }
        for lines in [&mut failure.lines, &mut failure.quiet_lines] {
            if lines.len() > MAX_LINES {
                lines.drain(..lines.len() - MAX_LINES);
            }
        }
        let merged = if failure.quiet() {
            Merged::Quiet
        } else if known(&failure.groups) {
            // They are not told again.
            let lines = std::mem::take(&mut failure.lines);
            Merged::Failure(Failure {
                groups: failure.groups.clone(),
                users: failure.users.clone(),
                lines,
                ..Failure::default()
            })
        } else {
            failure.pending = true;
            Merged::Pending
        };
        if forget {
            self.remove(id);
        } else {
            self.keep(id, fresh, now);
        }
        merged
    }

    /// How many are remembered, and how many bytes they take.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.map.len(), self.bytes)
    }

    fn remove(&mut self, id: &str) {
        if let Some(kept) = self.map.remove(id) {
            self.bytes = self.bytes.saturating_sub(kept.bytes);
        }
    }

    /// Remembers a new connection, or how big a known one has become, and makes room.
    fn keep(&mut self, id: &str, fresh: Option<Failure>, now: Time) {
        if let Some(failure) = fresh {
            let bytes = failure.bytes() + id.len();
            self.bytes += bytes;
            let kept = Kept {
                since: now,
                failure,
                bytes,
            };
            self.map.insert(id.into(), kept);
        } else if let Some(kept) = self.map.get(id) {
            let bytes = kept.failure.bytes() + id.len();
            self.bytes = self.bytes.saturating_sub(kept.bytes) + bytes;
            kept.bytes = bytes;
        }
        while self.bytes > MAX_BYTES || self.map.len() > MAX_SESSIONS {
            let Some((_, old)) = self.map.pop_oldest() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }
}
