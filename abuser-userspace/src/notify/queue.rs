//! Events that wait for a receiver: so many at most, taken one or many at a time. Pure.
//!
//! A receiver that is away for long costs a bounded amount of memory. The oldest events make
//! room: what happened last is what somebody can still do something about. How many were lost
//! is told with the next ones that are taken.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::api::types::EventRecord;

/// How many events go together, and how long the first waits for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// So many at most.
    pub max: usize,
    /// So long at most.
    pub wait: Duration,
}

impl Batching {
    /// Each event alone, and at once.
    pub const NONE: Self = Self {
        max: 1,
        wait: Duration::ZERO,
    };
}

/// When events can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// At this time, if no more come before; it may be over.
    At(Instant),
    /// There are none.
    Never,
}

/// Events that were taken, which now are somebody's to deliver.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    /// In the order in which they came; one at least.
    pub(super) events: Vec<Arc<EventRecord>>,
    /// How many were lost before the last of them.
    pub(super) lost: u64,
    /// When the first one came.
    pub(super) since: Instant,
}

/// Events that wait.
#[derive(Debug)]
pub(super) struct Queue {
    events: VecDeque<(Instant, Arc<EventRecord>)>,
    capacity: usize,
    lost: u64,
}

impl Queue {
    /// An empty one for so many events; one at least.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            events: VecDeque::new(),
            capacity: capacity.max(1),
            lost: 0,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Adds an event. Whether an older one had to make room.
    pub(super) fn push(&mut self, now: Instant, event: Arc<EventRecord>) -> bool {
        let is_full = self.events.len() >= self.capacity;
        if is_full {
            self.events.pop_front();
            self.lose(1);
        }
        self.events.push_back((now, event));
        is_full
    }

    /// Remembers that so many events were lost, to be told with the next ones.
    pub(super) fn lose(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// When events can be taken.
    pub(super) fn due(&self, batching: Batching) -> Due {
        match self.events.front() {
            None => Due::Never,
            Some((since, _)) if self.events.len() >= batching.max => Due::At(*since),
            Some((since, _)) => Due::At(*since + batching.wait),
        }
    }

    /// Takes the oldest events, `most` of them at most; `None` if there are none.
    pub(super) fn take(&mut self, most: usize) -> Option<Taken> {
        let (since, _) = self.events.front()?;
        let since = *since;
        let count = most.max(1).min(self.events.len());
        let events = self.events.drain(..count).map(|(_, event)| event);
        Some(Taken {
            events: events.collect(),
            lost: std::mem::take(&mut self.lost),
            since,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::types::EventKind;

    const BATCHING: Batching = Batching {
        max: 3,
        wait: Duration::from_secs(2),
    };

    fn event(number: u64) -> Arc<EventRecord> {
        Arc::new(EventRecord {
            ban: Some(number),
            ..EventRecord::new(EventKind::Ban, String::new())
        })
    }

    fn numbers(taken: &Taken) -> Vec<u64> {
        taken.events.iter().filter_map(|event| event.ban).collect()
    }

    #[test]
    fn the_first_event_waits_for_others_so_long_or_until_there_are_enough() {
        let now = Instant::now();
        let mut queue = Queue::new(10);
        assert_eq!(queue.due(BATCHING), Due::Never);
        queue.push(now, event(1));
        queue.push(now + Duration::from_secs(1), event(2));
        assert_eq!(queue.due(BATCHING), Due::At(now + BATCHING.wait));
        assert_eq!(queue.due(Batching::NONE), Due::At(now));
        queue.push(now + Duration::from_secs(1), event(3));
        assert_eq!(queue.due(BATCHING), Due::At(now));
    }

    #[test]
    fn the_oldest_events_make_room_and_are_told_once() {
        let now = Instant::now();
        let mut queue = Queue::new(2);
        let full: Vec<_> = (1..=5)
            .map(|number| queue.push(now, event(number)))
            .collect();
        assert_eq!(full, [false, false, true, true, true]);
        queue.lose(10);
        let taken = queue.take(1).unwrap();
        assert_eq!((numbers(&taken), taken.lost), (vec![4], 13));
        let taken = queue.take(1).unwrap();
        assert_eq!((numbers(&taken), taken.lost), (vec![5], 0));
        assert!(queue.take(1).is_none());
    }

    proptest! {
        #[test]
        fn each_event_is_taken_once_in_order_or_counted_as_lost(
            capacity in 1_usize..20,
            steps in prop::collection::vec((any::<bool>(), 1_usize..10), 0..200),
        ) {
            let now = Instant::now();
            let mut queue = Queue::new(capacity);
            let (mut pushed, mut lost, mut taken) = (0, 0, Vec::new());
            for (is_push, count) in steps {
                if is_push {
                    for _ in 0..count {
                        queue.push(now, event(pushed));
                        pushed += 1;
                    }
                } else if let Some(some) = queue.take(count) {
                    prop_assert!(some.events.len() <= count && !some.events.is_empty());
                    lost += some.lost;
                    taken.extend(numbers(&some));
                }
                prop_assert!(queue.len() <= capacity);
            }
            prop_assert!(taken.is_sorted_by(|one, other| one < other));
            let waiting = queue.len() as u64;
            lost += queue.lost;
            prop_assert_eq!(pushed, taken.len() as u64 + waiting + lost);
        }
    }
}
