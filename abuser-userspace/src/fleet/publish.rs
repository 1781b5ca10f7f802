//! What this node says: what it wants to be in the bucket, what is known to be there, and what is
//! therefore to be written.
//!
//! Pure, but for the chance in pauses. Changes wait in a table by their key and not in a queue: a node that is cut off for long needs
//! no more memory for it than it has bans, and writes of each key only what holds at last. Of a key
//! never more than one write is under way, so that nobody hears of two in another order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use super::{
    state::MAX_NODE_ALLOWED,
    wire::{Kind, Said, Topic, Written, span},
};
use crate::outbound::backoff;

/// Entries that one node shares at most: others take no more from it.
const MAX_SHARED: usize = 100_000;
/// How long to wait before a write is tried again for the first time, in milliseconds: one may be lost with
/// its connection.
const RETRY: u64 = 100;
/// And at the most.
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) topic: Topic,
    pub(super) seq: u64,
    /// The value; `None`: the key is taken out.
    pub(super) said: Option<Said>,
}

/// What the bucket has under a key.
#[derive(Clone, Debug)]
struct Kept {
    said: Said,
    /// Since when, in milliseconds since 1970.
    since: u64,
}

/// A write that may have come to nothing.
#[derive(Debug)]
struct Attempt {
    count: u32,
    write: Write,
}

/// What this node says.
#[derive(Debug, Default)]
pub(super) struct Own {
    wanted: HashMap<Topic, Said>,
    kept: HashMap<Topic, Kept>,
    /// What is under way.
    writing: HashMap<Topic, Write>,
    /// What is to be written, the first to have changed first; those that are not to be any more are
    /// skipped.
    queue: VecDeque<Topic>,
    queued: BTreeSet<Topic>,
    /// What could not be written, by when to try again, and how often it was tried.
    retries: BTreeSet<(u64, Topic)>,
    attempts: BTreeMap<Topic, Attempt>,
    /// The number of what was written last.
    seq: u64,
    /// What the bucket has, while it is read from its beginning.
    found: Option<HashMap<Topic, Kept>>,
    /// Entries that were one too many to be shared.
    unshared: u64,
}

impl Own {
    /// This node says this of a prefix, or nothing any more.
    pub(super) fn want(&mut self, topic: Topic, said: Option<Said>) {
        match said {
            Some(said) if self.wanted.contains_key(&topic) || self.has_room(topic.kind) => {
                self.wanted.insert(topic, said);
            }
            Some(_) => self.unshared += 1,
            None => drop(self.wanted.remove(&topic)),
        }
        self.mark(topic);
    }

    /// Whether others would still take an entry of this kind.
    fn has_room(&self, kind: Kind) -> bool {
        match kind {
            Kind::Ban => self.wanted.len() < MAX_SHARED,
            Kind::Allow => self.count(kind) < MAX_NODE_ALLOWED,
        }
    }

    /// This node says these of prefixes of a kind, and nothing else.
    pub(super) fn want_all(&mut self, kind: Kind, said: HashMap<Topic, Said>) {
        let gone: Vec<_> = self
            .wanted
            .keys()
            .filter(|topic| topic.kind == kind && !said.contains_key(topic))
            .copied()
            .collect();
        for topic in gone {
            self.want(topic, None);
        }
        for (topic, said) in said {
            self.want(topic, Some(said));
        }
    }

    /// Begins to read the bucket from its beginning.
    pub(super) fn begin_snapshot(&mut self) {
        self.found = Some(HashMap::new());
    }

    /// The bucket has this under a key of this node's.
    pub(super) fn found(&mut self, topic: Topic, written: Option<Written<Said>>, since: u64) {
        let seq = written.as_ref().map_or(0, |written| written.seq);
        self.seq = self.seq.max(seq);
        let kept = written.map(|written| Kept {
            said: written.said,
            since,
        });
        if let Some(found) = &mut self.found {
            match kept {
                Some(kept) => drop(found.insert(topic, kept)),
                None => drop(found.remove(&topic)),
            }
        } else if self.writing.contains_key(&topic) {
            // What comes of that counts.
        } else if kept.is_none() && self.kept.remove(&topic).is_some() {
            // Somebody else has taken it out.
            self.mark(topic);
        }
    }

    /// Has read all of it: what is missing there is to be written, and what is too much to go.
    pub(super) fn end_snapshot(&mut self) {
        let Some(found) = self.found.take() else {
            return;
        };
        self.kept = found;
        let topics: BTreeSet<_> = self
            .kept
            .keys()
            .chain(self.wanted.keys())
            .copied()
            .collect();
        for topic in topics {
            self.mark(topic);
        }
    }

    /// What was written before `since` and lasts longer is to be written again, before others take it for
    /// old.
    pub(super) fn renew(&mut self, since: u64, lasts_until: u64) {
        let old: Vec<_> = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.since < since)
            .filter(|(_, kept)| kept.said.expires.is_none_or(|end| end > lasts_until))
            .map(|(topic, _)| *topic)
            .filter(|topic| self.wanted.contains_key(topic))
            .collect();
        for topic in old {
            self.kept.remove(&topic);
            self.mark(topic);
        }
    }

    /// What is to be written next, if something is; what is new before what is tried again.
    pub(super) fn next(&mut self, now: u64) -> Option<Write> {
        let topic = loop {
            let next = if let Some(topic) = self.queue.pop_front() {
                self.queued.remove(&topic);
                topic
            } else {
                let (due, topic) = self.retries.first().copied()?;
                if due > now {
                    return None;
                }
                self.retries.pop_first();
                topic
            };
            if self.is_due(&next, now) {
                break next;
            }
        };
        let said = self.wanted.get(&topic).cloned();
        // The same again has the same number: who has heard it has not to do anything.
        let same = self.attempts.get(&topic).map(|attempt| &attempt.write);
        let write = if let Some(write) = same.filter(|write| write.said == said) {
            write.clone()
        } else {
            self.seq = (self.seq + 1).max(now.saturating_mul(1000));
            let seq = self.seq;
            Write { topic, seq, said }
        };
        self.writing.insert(topic, write.clone());
        Some(write)
    }

    /// When the next is to be tried again.
    pub(super) fn due(&self) -> Option<u64> {
        self.retries.first().map(|(due, _)| *due)
    }

    /// A write has come to its end; whether the bucket has it now.
    pub(super) fn written(&mut self, topic: Topic, is_kept: bool, now: u64) {
        let Some(write) = self.writing.remove(&topic) else {
            return;
        };
        if is_kept {
            self.attempts.remove(&topic);
            let found = self.found.iter_mut();
            for kept in found.chain([&mut self.kept]) {
                match &write.said {
                    Some(said) => {
                        let said = said.clone();
                        kept.insert(topic, Kept { said, since: now });
                    }
                    None => drop(kept.remove(&topic)),
                }
            }
            self.mark(topic);
        } else {
            // It may be there or not: who does not know writes again.
            self.kept.remove(&topic);
            let count = self.attempts.get(&topic).map_or(0, |attempt| attempt.count);
            let wait = match count {
                0 => RETRY,
                failures => span(backoff(failures, LONGEST_RETRY, fastrand::f64())),
            };
            let count = count.saturating_add(1);
            self.attempts.insert(topic, Attempt { count, write });
            self.retries.insert((now + wait, topic));
        }
    }

    /// Nobody will tell any more how what is under way has ended: it may be there or not.
    pub(super) fn interrupted(&mut self, now: u64) {
        let topics: Vec<_> = self.writing.keys().copied().collect();
        for topic in topics {
            self.written(topic, false, now);
        }
    }

    /// What waits is to be tried at once: a server is there again.
    pub(super) fn hurry(&mut self) {
        for (_, topic) in std::mem::take(&mut self.retries) {
            self.enqueue(topic);
        }
        for attempt in self.attempts.values_mut() {
            attempt.count = 0;
        }
    }

    /// Changes that the bucket is not known to have.
    pub(super) fn pending(&self) -> usize {
        self.queued.len() + self.retries.len() + self.writing.len()
    }

    /// Writes under way.
    pub(super) fn writing(&self) -> usize {
        self.writing.len()
    }

    /// How many entries of a kind this node says.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.wanted
            .keys()
            .filter(|topic| topic.kind == kind)
            .count()
    }

    /// Entries that were one too many to be shared.
    pub(super) fn unshared(&self) -> u64 {
        self.unshared
    }

    /// Whether a key is to be written, at the latest when what is under way has come to its end.
    fn mark(&mut self, topic: Topic) {
        let waits = self.attempts.contains_key(&topic);
        if !waits && !self.writing.contains_key(&topic) && self.differs(&topic) {
            self.enqueue(topic);
        }
    }

    fn enqueue(&mut self, topic: Topic) {
        if self.queued.insert(topic) {
            self.queue.push_back(topic);
        }
    }

    fn differs(&self, topic: &Topic) -> bool {
        match (self.wanted.get(topic), self.kept.get(topic)) {
            (Some(wanted), Some(kept)) => !wanted.is_like(&kept.said),
            (None, None) => false,
            _ => true,
        }
    }

    fn is_due(&self, topic: &Topic, now: u64) -> bool {
        if self.writing.contains_key(topic) {
            return false;
        }
        if self.attempts.contains_key(topic) {
            return true;
        }
        // What is over is over everywhere: it takes no message to say so.
        let over = |said: &Said| said.is_over(now);
        match (self.wanted.get(topic), self.kept.get(topic)) {
            (None, Some(kept)) => !over(&kept.said),
            (Some(wanted), kept) => {
                self.differs(topic) && !(over(wanted) && kept.is_none_or(|kept| over(&kept.said)))
            }
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests;
