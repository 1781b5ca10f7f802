//! The journal, through `journalctl`: it knows the formats of all journals there are, and the
//! matches that people write.
//!
//! What is kept of it is the cursor of the last entry, or, while there was none, the time since
//! when entries count. What is not read waits in the journal, so nothing is lost to a slow sink.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `child` | the process |
//! | `entry` | from an entry to a line |

mod child;
mod entry;

use std::{
    os::fd::BorrowedFd,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::child::{Child, Output};
pub use self::entry::Entry;
use super::{
    Begin, JournalConfig, MAX_LINE,
    lines::{Splitter, cut},
    reader::{Driver, Out, Turn},
};
use crate::store::{PositionKey, PositionRow};

/// The longest entry, in bytes of JSON: a message of [`MAX_LINE`] bytes that are no text has some
/// five times as many, and what a program wrote may be longer.
const MAX_ENTRY: usize = 1 << 20;

/// How long to wait before `journalctl` is started again; twice as long each time it did not
/// help.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Where to go on in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// With the first entry.
    Start,
    /// With what came since then, in microseconds since 1970.
    Since(u64),
    /// After this entry.
    After(String),
}

impl Place {
    /// How it is kept. A cursor never begins with `@`.
    fn to_text(&self) -> Option<String> {
        match self {
            Self::Start => None,
            Self::Since(micros) => Some(format!("@{micros}")),
            Self::After(cursor) => Some(cursor.clone()),
        }
    }

    fn of_text(text: String) -> Self {
        let micros = text
            .strip_prefix('@')
            .and_then(|micros| micros.parse().ok());
        micros.map_or(Self::After(text), Self::Since)
    }
}

/// A source of the journal's entries.
#[derive(Debug)]
pub(super) struct Journal {
    name: String,
    config: JournalConfig,
    place: Place,
    /// When the last entry was written.
    last: u64,
    child: Option<Child>,
    splitter: Splitter,
    /// When `journalctl` is started next, if it does not run.
    start_at: Instant,
    pause: Duration,
    line: Vec<u8>,
}

impl Journal {
    pub(super) fn new(
        name: &str,
        config: &JournalConfig,
        begin: Begin,
        cursor: Option<String>,
    ) -> Self {
        let now = micros_now();
        let place = match (cursor, begin) {
            (Some(cursor), _) => Place::of_text(cursor),
            (None, Begin::Start) => Place::Start,
            (None, Begin::End) => Place::Since(now),
        };
        Self {
            name: name.to_owned(),
            config: config.clone(),
            place,
            last: now,
            child: None,
            splitter: Splitter::new(MAX_ENTRY),
            start_at: Instant::now(),
            pause: PAUSE,
            line: Vec::new(),
        }
    }

    fn start(&mut self, turn: &mut Turn<'_>) {
        match Child::start(&self.config, &self.place) {
            Ok(child) => self.child = Some(child),
            Err(error) => {
                self.fail(
                    &format!("cannot run journalctl: {error}; is systemd installed?"),
                    turn,
                );
            }
        }
    }

    /// Lets go of the process, and has another started in a while.
    fn fail(&mut self, error: &str, turn: &mut Turn<'_>) {
        self.child = None;
        self.splitter = Splitter::new(MAX_ENTRY);
        self.start_at = turn.now + self.pause;
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        turn.gauge
            .set_error(Some(format!("{error}; it is tried again")));
    }

    fn take(&mut self, count: usize, turn: &mut Turn<'_>) {
        let gauge = turn.gauge;
        let (buffer, mut out) = turn.split();
        let piece = buffer.get(..count).unwrap_or_default();
        let Self {
            splitter,
            place,
            last,
            line,
            ..
        } = self;
        let mut is_good = false;
        splitter.feed(piece, |piece| {
            let entry = if piece.skipped == 0 {
                Entry::read(piece.bytes)
            } else {
                None
            };
            let Some(entry) = entry else {
                out.lost(1);
                return;
            };
            hand_on(&entry, place, line, &mut out);
            *last = entry.written;
            *place = Place::After(entry.cursor);
            is_good = true;
        });
        if is_good {
            self.pause = PAUSE;
            gauge.set_error(None);
            turn.moved();
        }
    }
}

/// Hands an entry on, unless it is older than what is asked for.
fn hand_on(entry: &Entry, place: &Place, line: &mut Vec<u8>, out: &mut Out<'_>) {
    if matches!(place, Place::Since(since) if entry.written < *since) {
        return;
    }
    line.clear();
    entry.line(line);
    out.told(
        cut(line, MAX_LINE),
        Some(entry.stated),
        entry.program.as_deref(),
    );
}

impl Driver for Journal {
    fn fds<'d>(&'d self, into: &mut Vec<BorrowedFd<'d>>) {
        if let Some(child) = &self.child {
            into.extend(child.fds());
        }
    }

    fn due(&self) -> Option<Instant> {
        self.child.is_none().then_some(self.start_at)
    }

    fn turn(&mut self, ready: bool, turn: &mut Turn<'_>) {
        let Some(child) = &mut self.child else {
            if turn.now >= self.start_at {
                self.start(turn);
            }
            return;
        };
        if !ready {
            return;
        }
        let (buffer, _) = turn.split();
        match child.read(buffer) {
            Output::Some(count) => self.take(count, turn),
            Output::Nothing => {
                // It goes on with what it complains of, as with a journal that is not there yet.
                let said = child.said();
                if !said.is_empty() {
                    turn.gauge
                        .set_error(Some(format!("journalctl says: {said}")));
                }
            }
            Output::Ended(how) => {
                // Journals are vacuumed, and with them the entry one would go on from.
                if how.contains("cursor") {
                    self.place = Place::Since(self.last);
                }
                self.fail(&format!("journalctl has ended ({how})"), turn);
            }
        }
    }

    fn tick(&mut self, _turn: &mut Turn<'_>) {}

    fn positions(&self, into: &mut Vec<PositionRow>) {
        into.extend(self.place.to_text().map(|cursor| PositionRow {
            key: PositionKey {
                source: self.name.clone(),
                device: 0,
                inode: 0,
            },
            path: PathBuf::new(),
            beginning: Vec::new(),
            offset: 0,
            cursor: Some(cursor),
            at: UNIX_EPOCH,
        }));
    }
}

fn micros_now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
