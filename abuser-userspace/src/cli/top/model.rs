//! What is known, and what follows from it: rates from counters, and what they were before.
//!
//! Pure: snapshots and events go in with the time at which they came.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::snapshot::Snapshot;
use crate::api::types::{DetectorStatus, EventRecord, LimitStatus, SourceStatus};

/// Rates that are kept for a sparkline.
const HISTORY: usize = 256;

/// Events that are kept.
const EVENTS: usize = 200;

/// What became of packets, as the view tells it: the name, and the outcomes that belong to it.
pub(super) const VERDICTS: [(&str, &[&str]); 6] = [
    ("passed", &["passed"]),
    ("over limits", &["dropped_limit"]),
    ("banned", &["dropped_ban"]),
    ("observed", &["observed"]),
    ("allowed", &["allowed"]),
    ("other", &["not_ip", "malformed", "dropped_hidden"]),
];

/// A counter's rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) packets: f64,
    pub(super) bytes: f64,
}

/// The rate of one verdict, and how it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    pub(super) now: Rate,
    /// Packets a second, the latest last.
    pub(super) history: VecDeque<u64>,
}

/// How it stands with the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing came yet.
    Connecting,
    /// It answers.
    Up,
    /// It does not, since then and for this reason.
    Down { since: Duration, error: String },
}

/// What is known.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) snapshot: Option<Snapshot>,
    pub(super) link: Link,
    pub(super) verdicts: [Series; VERDICTS.len()],
    /// Packets a second by limit: passed, dropped and observed.
    pub(super) limits: HashMap<String, [f64; 3]>,
    /// Records a second by detector, lines a second by log.
    pub(super) detectors: HashMap<String, f64>,
    pub(super) logs: HashMap<String, f64>,
    /// The latest last.
    pub(super) events: VecDeque<EventRecord>,
    /// When the snapshot came.
    pub(super) taken: Duration,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            snapshot: None,
            link: Link::Connecting,
            verdicts: Default::default(),
            limits: HashMap::new(),
            detectors: HashMap::new(),
            logs: HashMap::new(),
            events: VecDeque::new(),
            taken: Duration::ZERO,
        }
    }
}

impl Model {
    /// Takes in how it stands at `now`, on a clock that only goes forward.
    pub(super) fn take(&mut self, snapshot: Snapshot, now: Duration) {
        self.link = Link::Up;
        let before = self.snapshot.take();
        let seconds = now.saturating_sub(self.taken).as_secs_f64();
        // Without a time between there is no rate; another daemon counts anew.
        let before =
            before.filter(|before| seconds > 0.0 && before.status.pid == snapshot.status.pid);
        if let Some(before) = before {
            self.follow(&before, &snapshot, seconds);
        } else {
            self.limits.clear();
            self.detectors.clear();
            self.logs.clear();
        }
        self.snapshot = Some(snapshot);
        self.taken = now;
    }

    fn follow(&mut self, before: &Snapshot, after: &Snapshot, seconds: f64) {
        for (series, (_, outcomes)) in self.verdicts.iter_mut().zip(VERDICTS) {
            let sum = |snapshot: &Snapshot| {
                let counted = outcomes.iter();
                let counted = counted.filter_map(|outcome| snapshot.status.outcomes.get(*outcome));
                counted.fold((0_u64, 0_u64), |(packets, bytes), counted| {
                    (
                        packets.saturating_add(counted.packets),
                        bytes.saturating_add(counted.bytes),
                    )
                })
            };
            let (before, after) = (sum(before), sum(after));
            series.now = Rate {
                packets: rate(before.0, after.0, seconds),
                bytes: rate(before.1, after.1, seconds),
            };
            if series.history.len() >= HISTORY {
                series.history.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is not negative, and the conversion stops at the largest"
            )]
            series.history.push_back(series.now.packets.ceil() as u64);
        }
        let counted = |limit: &LimitStatus| [limit.passed, limit.dropped, limit.observed];
        self.limits = rates(
            before
                .limits
                .iter()
                .map(|limit| (&limit.name, counted(limit))),
            after
                .limits
                .iter()
                .map(|limit| (&limit.name, counted(limit))),
            seconds,
        );
        let matched = |detector: &DetectorStatus| [detector.matched];
        let detectors = rates(
            before
                .detection
                .detectors
                .iter()
                .map(|d| (&d.name, matched(d))),
            after
                .detection
                .detectors
                .iter()
                .map(|d| (&d.name, matched(d))),
            seconds,
        );
        self.detectors = detectors
            .into_iter()
            .map(|(name, [rate])| (name, rate))
            .collect();
        let lines = |log: &SourceStatus| [log.lines];
        let logs = rates(
            before
                .detection
                .sources
                .iter()
                .map(|log| (&log.name, lines(log))),
            after
                .detection
                .sources
                .iter()
                .map(|log| (&log.name, lines(log))),
            seconds,
        );
        self.logs = logs
            .into_iter()
            .map(|(name, [rate])| (name, rate))
            .collect();
    }

    /// Notes that the daemon does not answer.
    pub(super) fn lose(&mut self, error: String, now: Duration) {
        let since = match self.link {
            Link::Down { since, .. } => since,
            _ => now,
        };
        self.link = Link::Down { since, error };
    }

    /// Takes in what happened.
    pub(super) fn note(&mut self, event: EventRecord) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// How fast a counter went; one that was set back did not.
#[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
fn rate(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds
}

/// The rates of counters that go by a name, of those that were there before.
fn rates<'a, const N: usize>(
    before: impl Iterator<Item = (&'a String, [u64; N])>,
    after: impl Iterator<Item = (&'a String, [u64; N])>,
    seconds: f64,
) -> HashMap<String, [f64; N]> {
    let before: HashMap<_, _> = before.collect();
    after
        .filter_map(|(name, after)| {
            let before = before.get(name)?;
            let mut rates = [0.0; N];
            for (rate_of, (before, after)) in rates.iter_mut().zip(before.iter().zip(after)) {
                *rate_of = rate(*before, after, seconds);
            }
            Some((name.clone(), rates))
        })
        .collect()
}
