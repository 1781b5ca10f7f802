//! Several logs as one stream in the order of their lines' times.
//!
//! Lines of one log stay in its order, as programs wrote them. One without a time goes with the one
//! before it. To know which log has the earliest line its time is read before the line is; that is
//! a second reading, which a single log does without.

use std::io;

use abuser_detect::{
    pipeline::{Line, Reader},
    time::Time,
};

use super::text::LineReader;

/// All logs.
pub(super) struct Merge {
    logs: Vec<Log>,
    now: Time,
}

struct Log {
    lines: LineReader,
    /// What tells when a line happened, if that matters.
    dating: Option<Reader>,
    /// The next line, if there is one.
    head: Option<Vec<u8>>,
    /// When that happened, or else the one before it.
    at: Time,
    error: Option<io::Error>,
}

impl Merge {
    /// Of logs, each with what tells when its lines happened; `now` is for those that name no year.
    pub(super) fn new(logs: Vec<(LineReader, Option<Reader>)>, now: Time) -> Self {
        let logs = logs.into_iter().map(|(lines, dating)| {
            let mut log = Log {
                lines,
                dating,
                head: Some(Vec::new()),
                at: Time(0),
                error: None,
            };
            log.advance(now);
            log
        });
        Self {
            logs: logs.collect(),
            now,
        }
    }

    /// Gives the next line to `take`, with the number of its log; `false` if there is none.
    pub(super) fn next(&mut self, take: impl FnOnce(usize, &[u8])) -> bool {
        let heads = self.logs.iter_mut().enumerate();
        let heads = heads.filter(|(_, log)| log.head.is_some());
        let Some((number, log)) = heads.min_by_key(|(_, log)| log.at) else {
            return false;
        };
        take(number, log.head.as_deref().unwrap_or_default());
        log.advance(self.now);
        true
    }

    /// Why logs were not read to their ends, by their numbers.
    pub(super) fn errors(self) -> impl Iterator<Item = Option<io::Error>> {
        self.logs.into_iter().map(|log| log.error)
    }
}

impl Log {
    /// Goes on to the next line.
    fn advance(&mut self, now: Time) {
        // The room of the last one is used again.
        let Some(mut head) = self.head.take() else {
            return;
        };
        let line = match self.lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        if let Some(dating) = &mut self.dating {
            let line = Line {
                bytes: line,
                arrived: now,
                stated: None,
            };
            self.at = dating.when(line).unwrap_or(self.at);
        }
        head.clear();
        head.extend_from_slice(line);
        self.head = Some(head);
    }
}
