//! What this node says: what it wants to be in the bucket, what is known to be there, and what is
//! therefore to be written.
//!
//! Pure. Changes wait in a table by their key and not in a queue: a node that is cut off for long needs
//! no more memory for it than it has bans, and writes of each key only what holds at last. Of a key
//! never more than one write is under way, so that nobody hears of two in another order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{
    state::MAX_NODE_ALLOWED,
    wire::{Kind, Said, Topic, Written},
};

/// Entries that one node shares at most: others take no more from it.
const MAX_SHARED: usize = 100_000;
/// How long to wait before a write is tried again, in milliseconds; each time twice as long.
const RETRY: u64 = 100;
/// And at the most.
const LONGEST_RETRY: u64 = 5_000;

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
            let wait = RETRY.saturating_mul(1 << count.min(6)).min(LONGEST_RETRY);
            let count = count + 1;
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
mod tests {
    use abuser_common::prefix::PrefixKey;
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn topic(number: u8) -> Topic {
        Topic {
            kind: Kind::Ban,
            source: PrefixKey::new([203, 0, 113, number].into(), 32).unwrap(),
        }
    }

    fn said(expires: Option<u64>) -> Said {
        Said {
            expires,
            cause: "limit".to_owned(),
            reason: None,
        }
    }

    fn drain(own: &mut Own, now: u64) -> Vec<Write> {
        std::iter::from_fn(|| own.next(now)).collect()
    }

    #[test]
    fn of_what_changes_while_nothing_is_heard_of_only_the_last_is_written() {
        let mut own = Own::default();
        own.want(topic(1), Some(said(None)));
        own.want(topic(2), Some(said(None)));
        own.want(topic(1), Some(said(Some(NOW + 5000))));
        own.want(topic(2), None);
        let writes = drain(&mut own, NOW);
        assert_eq!(writes.len(), 1, "what was never there is not taken out");
        assert_eq!(writes[0].said, Some(said(Some(NOW + 5000))));
        // While it is under way it is not written again, and afterwards what holds then.
        own.want(topic(1), None);
        assert_eq!(drain(&mut own, NOW), []);
        own.written(topic(1), true, NOW);
        let writes = drain(&mut own, NOW);
        assert_eq!((writes.len(), &writes[0].said), (1, &None));
        own.written(topic(1), true, NOW);
        assert_eq!((drain(&mut own, NOW).len(), own.pending()), (0, 0));
    }

    #[test]
    fn what_nobody_knows_the_end_of_is_written_again() {
        let mut own = Own::default();
        own.want(topic(1), Some(said(None)));
        let before = drain(&mut own, NOW);
        own.interrupted(NOW);
        assert_eq!((own.writing(), own.pending()), (0, 1));
        own.hurry();
        let again = drain(&mut own, NOW);
        assert_eq!(again, before, "under the same number");
    }

    #[test]
    fn no_more_is_shared_than_others_take() {
        let mut own = Own::default();
        let allowed = |number: usize| {
            let [high, low] = [number >> 8, number & 0xff].map(|byte| u8::try_from(byte).unwrap());
            Topic {
                kind: Kind::Allow,
                source: PrefixKey::new([198, 51, high, low].into(), 32).unwrap(),
            }
        };
        for number in 0..MAX_NODE_ALLOWED + 3 {
            own.want(allowed(number), Some(said(None)));
        }
        assert_eq!(own.count(Kind::Allow), MAX_NODE_ALLOWED);
        assert_eq!(own.unshared(), 3);
        own.want(topic(1), Some(said(None)));
        assert_eq!(own.count(Kind::Ban), 1, "bans have room of their own");
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_with_pauses_or_when_a_server_is_back() {
        let mut own = Own::default();
        own.want(topic(1), Some(said(None)));
        let mut now = NOW;
        let mut first = None;
        for _ in 0..10 {
            let writes = drain(&mut own, now);
            assert_eq!(writes.len(), 1);
            assert_eq!(
                *first.get_or_insert(writes[0].seq),
                writes[0].seq,
                "the same"
            );
            own.written(topic(1), false, now);
            assert_eq!(drain(&mut own, now), []);
            let due = own.due().unwrap();
            assert!(due > now && due <= now + LONGEST_RETRY);
            now = due;
        }
        own.next(now).unwrap();
        own.written(topic(1), false, now);
        assert_eq!(own.pending(), 1);
        own.hurry();
        assert_eq!(drain(&mut own, now).len(), 1);
        // Even one that nobody wants any more: it may be there.
        own.written(topic(1), false, now);
        own.want(topic(1), None);
        own.hurry();
        let writes = drain(&mut own, now);
        assert_eq!((writes.len(), &writes[0].said), (1, &None));
        assert!(
            writes[0].seq > first.unwrap(),
            "what is another has another number"
        );
    }

    #[test]
    fn after_a_snapshot_the_bucket_is_brought_in_line() {
        let mut own = Own::default();
        for number in 1..=3 {
            own.want(topic(number), Some(said(None)));
        }
        own.begin_snapshot();
        let kept = |seq, expires| Some(Written::new(said(expires), seq, NOW));
        own.found(topic(2), kept(u64::MAX / 2, None), NOW);
        own.found(topic(3), kept(1, Some(NOW + 9)), NOW);
        own.found(topic(4), kept(1, None), NOW);
        own.found(topic(5), kept(1, Some(NOW - 1)), NOW);
        own.found(topic(6), kept(1, None), NOW);
        own.found(topic(6), None, NOW);
        own.end_snapshot();
        let mut writes = drain(&mut own, NOW);
        writes.sort_by_key(|write| write.topic);
        let told: Vec<_> = writes.iter().map(|w| (w.topic, w.said.is_some())).collect();
        assert_eq!(
            told,
            [(topic(1), true), (topic(3), true), (topic(4), false)]
        );
        assert!(writes.iter().all(|write| write.seq > u64::MAX / 2));
    }

    #[test]
    fn what_is_over_takes_no_message() {
        let mut own = Own::default();
        own.want(topic(1), Some(said(Some(NOW + 10))));
        assert_eq!(drain(&mut own, NOW).len(), 1);
        own.written(topic(1), true, NOW);
        own.want(topic(1), None);
        assert_eq!(drain(&mut own, NOW + 10), []);
        own.want(topic(2), Some(said(Some(NOW + 10))));
        assert_eq!(drain(&mut own, NOW + 10), []);
    }

    #[test]
    fn what_lasts_is_written_again_before_it_is_old_and_what_somebody_took_out_at_once() {
        let mut own = Own::default();
        own.want(topic(1), Some(said(None)));
        own.want(topic(2), Some(said(Some(NOW + 1000))));
        for write in drain(&mut own, NOW) {
            own.written(write.topic, true, NOW);
        }
        own.renew(NOW, NOW + 2000);
        assert_eq!(drain(&mut own, NOW), []);
        own.renew(NOW + 1, NOW + 2000);
        let writes = drain(&mut own, NOW + 1);
        assert_eq!((writes.len(), writes[0].topic), (1, topic(1)));
        own.written(topic(1), true, NOW + 1);
        own.found(topic(1), None, NOW + 2);
        assert_eq!(drain(&mut own, NOW + 2).len(), 1);
    }

    #[test]
    fn clocks_that_are_put_right_a_little_write_nothing() {
        let mut own = Own::default();
        own.want(topic(1), Some(said(Some(NOW + 50_000))));
        drain(&mut own, NOW);
        own.written(topic(1), true, NOW);
        own.want(topic(1), Some(said(Some(NOW + 50_900))));
        assert_eq!(drain(&mut own, NOW), []);
        own.want(topic(1), Some(said(Some(NOW + 55_000))));
        assert_eq!(drain(&mut own, NOW).len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Want(u8, bool),
        Write,
        End(bool),
        Snapshot,
    }

    proptest! {
        #[test]
        fn whatever_fails_the_bucket_ends_as_the_node_wants_it(
            steps in proptest::collection::vec(
                prop_oneof![
                    (0..5_u8, any::<bool>()).prop_map(|(number, put)| Step::Want(number, put)),
                    Just(Step::Write),
                    any::<bool>().prop_map(Step::End),
                    Just(Step::Snapshot),
                ],
                0..60,
            ),
        ) {
            let mut own = Own::default();
            let mut bucket: BTreeMap<Topic, Written<Said>> = BTreeMap::new();
            let mut under_way: Vec<Write> = Vec::new();
            let mut now = NOW;
            let put = |bucket: &mut BTreeMap<_, _>, write: &Write| match &write.said {
                Some(said) => drop(bucket.insert(write.topic, Written::new(said.clone(), write.seq, 0))),
                None => drop(bucket.remove(&write.topic)),
            };
            for step in steps {
                now += 1;
                match step {
                    Step::Want(number, true) => own.want(topic(number), Some(said(Some(now + 99_999)))),
                    Step::Want(number, false) => own.want(topic(number), None),
                    Step::Write => under_way.extend(own.next(now)),
                    Step::End(kept) => if let Some(write) = under_way.pop() {
                        // One that is not answered may be there all the same.
                        if kept || write.seq % 2 == 0 {
                            put(&mut bucket, &write);
                        }
                        own.written(write.topic, kept, now);
                    }
                    Step::Snapshot => {
                        own.begin_snapshot();
                        for (topic, written) in &bucket {
                            own.found(*topic, Some(written.clone()), now);
                        }
                        own.end_snapshot();
                    }
                }
            }
            for _ in 0..200 {
                now += LONGEST_RETRY;
                under_way.extend(own.next(now));
                for write in under_way.drain(..) {
                    put(&mut bucket, &write);
                    own.written(write.topic, true, now);
                }
            }
            let has = |topic: &Topic| bucket.get(topic).is_some_and(|w| !w.said.is_over(now));
            for topic in (0..5).map(topic) {
                let wanted = own.wanted.get(&topic).is_some_and(|said| !said.is_over(now));
                prop_assert_eq!(has(&topic), wanted);
            }
            prop_assert_eq!(own.pending(), 0);
        }
    }
}
