//! Sources of which a local API that failed may have made decisions that nobody knows of: pure.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long after a failure to look first: it may still be at it.
const FIRST: Duration = Duration::from_secs(1);
/// After how long a decision without an alert gets none any more: with a database that is locked, local APIs
/// go on for ten seconds, and what they are at may be another node's.
const SETTLED: Duration = Duration::from_secs(30);
/// How long to wait after a look that came to nothing.
const AGAIN: Duration = Duration::from_secs(60);
/// Looks that come to nothing, before the source is forgotten: some two hours.
const MAX_LOOKS: u8 = 120;
/// Sources that are remembered: those of some fifty requests.
const MAX_SOURCES: usize = 1000;

/// What is to be looked into about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    due: Instant,
    looks: u8,
    /// Decisions that had no alert when it was looked before; none, if it was not.
    pub(super) without_alert: Vec<u64>,
    /// Whether the local API has failed once more since.
    is_renewed: bool,
}

impl Doubt {
    fn new(now: Instant) -> Self {
        Self {
            due: now + FIRST,
            looks: 0,
            without_alert: Vec::new(),
            is_renewed: false,
        }
    }
}

/// All of them, by the source as the local API writes it.
#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<String, Doubt>);

impl Doubts {
    /// The local API failed when it was told of this source.
    pub(super) fn add(&mut self, source: &str, now: Instant) {
        let is_full = self.0.len() >= MAX_SOURCES;
        match self.0.get_mut(source) {
            // What was seen is not to be forgotten over what may have come.
            Some(doubt) if !doubt.without_alert.is_empty() => doubt.is_renewed = true,
            None if is_full => {}
            _ => {
                self.0.insert(source.to_owned(), Doubt::new(now));
            }
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|doubt| doubt.due).min()
    }

    /// One that is due. It stays: whoever looks may be interrupted.
    pub(super) fn due(&self, now: Instant) -> Option<(String, Doubt)> {
        let mut doubts = self.0.iter();
        let due = doubts.find(|(_, doubt)| doubt.due <= now);
        due.map(|(source, doubt)| (source.clone(), doubt.clone()))
    }

    /// It was looked at first, and these decisions have no alert; if there are none, all is well.
    pub(super) fn seen(&mut self, source: &str, without_alert: Vec<u64>, now: Instant) {
        if without_alert.is_empty() {
            self.settle(source, now);
        } else if let Some(doubt) = self.0.get_mut(source) {
            doubt.without_alert = without_alert;
            doubt.due = now + SETTLED;
        }
    }

    /// A look came to nothing. Whether it was the last.
    pub(super) fn put_off(&mut self, source: &str, now: Instant) -> bool {
        let Some(doubt) = self.0.get_mut(source) else {
            return false;
        };
        doubt.due = now + AGAIN;
        doubt.looks += 1;
        let is_last = doubt.looks >= MAX_LOOKS;
        if is_last {
            self.0.remove(source);
        }
        is_last
    }

    /// One of its decisions was taken back.
    pub(super) fn taken_back(&mut self, source: &str, decision: u64) {
        if let Some(doubt) = self.0.get_mut(source) {
            doubt.without_alert.retain(|id| *id != decision);
        }
    }

    /// All that was seen is well; what has come since is looked at anew.
    pub(super) fn settle(&mut self, source: &str, now: Instant) {
        let doubt = self.0.remove(source);
        if doubt.is_some_and(|doubt| doubt.is_renewed) {
            self.add(source, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "203.0.113.1";
    const B: &str = "203.0.113.2";

    #[test]
    fn a_source_is_looked_at_twice_with_time_between() {
        let begin = Instant::now();
        let mut doubts = Doubts::default();
        assert_eq!((doubts.next(), doubts.due(begin)), (None, None));
        doubts.add(A, begin);
        let first = begin + FIRST;
        assert_eq!((doubts.next(), doubts.due(begin)), (Some(first), None));
        let (source, doubt) = doubts.due(first).unwrap();
        assert_eq!((&*source, doubt.without_alert), (A, vec![]));
        doubts.seen(A, vec![7, 8], first);
        assert_eq!(doubts.due(first + SETTLED - FIRST), None);
        let (_, doubt) = doubts.due(first + SETTLED).unwrap();
        assert_eq!(doubt.without_alert, [7, 8]);
        doubts.settle(A, first + SETTLED);
        assert_eq!(doubts.next(), None);
    }

    #[test]
    fn what_is_well_at_the_first_look_is_not_looked_at_again() {
        let begin = Instant::now();
        let mut doubts = Doubts::default();
        doubts.add(A, begin);
        doubts.add(B, begin);
        doubts.seen(A, Vec::new(), begin);
        assert_eq!(doubts.due(begin + FIRST).unwrap().0, B);
    }

    #[test]
    fn another_failure_is_looked_into_after_what_was_seen() {
        let begin = Instant::now();
        let mut doubts = Doubts::default();
        doubts.add(A, begin);
        doubts.seen(A, vec![7, 8], begin);
        doubts.add(A, begin);
        let (_, doubt) = doubts.due(begin + SETTLED).unwrap();
        assert_eq!(doubt.without_alert, [7, 8], "it is not put off");
        doubts.taken_back(A, 7);
        assert_eq!(doubts.due(begin + SETTLED).unwrap().1.without_alert, [8]);
        doubts.taken_back(A, 8);
        doubts.settle(A, begin + SETTLED);
        let (_, doubt) = doubts.due(begin + SETTLED + FIRST).unwrap();
        assert!(doubt.without_alert.is_empty(), "anew");
        doubts.settle(A, begin);
        assert_eq!(doubts.next(), None);
    }

    #[test]
    fn looks_that_come_to_nothing_have_an_end_and_sources_a_bound() {
        let begin = Instant::now();
        let mut doubts = Doubts::default();
        doubts.add(A, begin);
        for look in 1..MAX_LOOKS {
            assert!(!doubts.put_off(A, begin), "look {look}");
            assert_eq!(doubts.next(), Some(begin + AGAIN));
        }
        assert!(doubts.put_off(A, begin));
        assert!(!doubts.put_off(A, begin), "it is forgotten");
        for number in 0..2 * MAX_SOURCES {
            doubts.add(&number.to_string(), begin);
        }
        assert_eq!(doubts.0.len(), MAX_SOURCES);
    }
}
