//! Failures of one connection, whose lines belong together by an id in all of them
//! (`<F-MLFID>`).
//!
//! One line has the user, another the address, a third says that it was no failure after all.
//! What is known of a connection is kept until it ends, for five minutes, and as long as there is room.

use std::{sync::Arc, time::Duration};

use schnellru::{LruMap, UnlimitedCompact};

use super::expression::{self, Groups};
use crate::time::Time;

/// For how long a connection is remembered.
const KEPT: Duration = Duration::from_secs(300);
/// How many connections are remembered.
const MAX_SESSIONS: usize = 10_000;
/// How many bytes all of them may take.
const MAX_BYTES: usize = 16 << 20;
/// How many lines and users are kept of one.
const MAX_LINES: usize = 50;
const MAX_USERS: usize = 64;

/// What is known of a failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) groups: Groups,
    pub(super) users: Vec<String>,
    /// The lines it rests on.
    pub(super) lines: Vec<String>,
    /// Lines that are no failure by themselves.
    quiet_lines: Vec<String>,
    /// It is a failure, but not known whose.
    pending: bool,
}

impl Failure {
    pub(super) fn new(groups: Groups) -> Self {
        Self {
            groups,
            ..Self::default()
        }
    }

    /// One that belongs to no connection.
    pub(super) fn alone(groups: Groups, lines: Vec<String>) -> Self {
        Self {
            groups,
            lines,
            ..Self::default()
        }
    }

    /// Whether it is no failure by itself.
    pub(super) fn quiet(&self) -> bool {
        expression::has(&self.groups, "nofail")
    }

    fn add_user(&mut self, user: Option<&str>) {
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return;
        };
        if self.users.len() < MAX_USERS && !self.users.iter().any(|other| other == user) {
            self.users.push(user.to_owned());
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.users.iter().chain(&self.lines).chain(&self.quiet_lines);
        let values = self.groups.iter().map(|(_, value)| value);
        texts.chain(values).map(|text| text.len() + 48).sum::<usize>() + 128
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
    map: LruMap<String, Kept, UnlimitedCompact>,
    bytes: usize,
    nofail: Arc<str>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            map: LruMap::new(UnlimitedCompact),
            bytes: 0,
            nofail: Arc::from("nofail"),
        }
    }
}

impl Sessions {
    /// Puts what a line says of a connection together with what is known of it.
    pub(super) fn merge(&mut self, id: &str, mut new: Failure, line: &[String], now: Time) -> Failure {
        let gained = expression::has(&new.groups, "mlfgained");
        if gained && !new.quiet() {
            let what = expression::get(&new.groups, "mlfgained").unwrap_or_default().to_owned();
            expression::set(&mut new.groups, &self.nofail, what);
        }
        let mut quiet = gained || new.quiet();
        let mut gained = gained;
        let forget = expression::take(&mut new.groups, "mlfforget");
        let known = self.take(id, now);
        let keep = known.is_some() || !forget;
        let since = known.as_ref().map_or(now, |known| known.since);
        let mut failure = match known {
            Some(known) => {
                let mut failure = known.failure;
                failure.add_user(expression::get(&new.groups, "user"));
                let was_quiet = expression::take(&mut failure.groups, "nofail");
                let was_gained = expression::take(&mut failure.groups, "mlfgained");
                if gained {
                    failure.pending = false;
                }
                // Lines of a failure that was told of before are not told again.
                if !was_quiet && !was_gained && !failure.pending {
                    failure.lines.clear();
                }
                for (name, value) in new.groups {
                    expression::set(&mut failure.groups, &name, value);
                }
                failure
            }
            None if forget => new,
            None => {
                let user = expression::get(&new.groups, "user").map(str::to_owned);
                new.add_user(user.as_deref());
                new
            }
        };
        if std::mem::take(&mut failure.pending) || failure.users.len() > 1 {
            expression::take(&mut failure.groups, "nofail");
            expression::take(&mut failure.groups, "mlfgained");
            (quiet, gained) = (false, false);
        }
        if !quiet {
            let mut lines = std::mem::take(&mut failure.quiet_lines);
            lines.append(&mut failure.lines);
            if !gained {
                lines.extend_from_slice(line);
            }
            failure.lines = lines;
        } else if !forget {
            failure.quiet_lines.extend_from_slice(line);
        }
        for lines in [&mut failure.lines, &mut failure.quiet_lines] {
            if lines.len() > MAX_LINES {
                lines.drain(..lines.len() - MAX_LINES);
            }
        }
        if keep && !forget {
            self.put(id, since, failure.clone());
        }
        failure
    }

    /// Remembers that a failure is not known to be anybody's.
    pub(super) fn pending(&mut self, id: &str) {
        if let Some(kept) = self.map.get(id) {
            kept.failure.pending = true;
        }
    }

    fn take(&mut self, id: &str, now: Time) -> Option<Kept> {
        let kept = self.map.remove(id)?;
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        (now.since(kept.since) <= KEPT).then_some(kept)
    }

    fn put(&mut self, id: &str, since: Time, failure: Failure) {
        let bytes = failure.bytes() + id.len();
        self.bytes += bytes;
        let kept = Kept {
            since,
            failure,
            bytes,
        };
        self.map.insert(id.to_owned(), kept);
        while self.bytes > MAX_BYTES || self.map.len() > MAX_SESSIONS {
            let Some((_, old)) = self.map.pop_oldest() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }
}
