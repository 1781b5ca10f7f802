//! Reading the bucket: from its beginning whenever the connection is new or something was missed, and then
//! on.
//!
//! To read all of it is dear where there is much, and others can give reason to; so how soon it is begun
//! again has a [`Pace`].

use std::{
    future::pending,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, consumer::push};
use futures_util::{StreamExt as _, future::BoxFuture};

use super::{connection::FleetError, pace::Pace, until};
use crate::outbound::backoff;

/// The longest pause from one attempt to open the bucket to the next.
const LONGEST_REOPEN: Duration = Duration::from_secs(5);
/// The longest pause from one reading to the next.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long a snapshot may stand still: this node's own word comes sooner.
const STALLED: Duration = Duration::from_secs(30);

/// The bucket, open, and where its contents come from.
pub(super) struct Opened {
    pub(super) watch: push::Ordered,
    /// How long the bucket keeps anything; `None`: for good.
    pub(super) max_age: Option<Duration>,
}

pub(super) type Opening = BoxFuture<'static, Result<Opened, FleetError>>;

/// What there is of the bucket.
pub(super) enum Read {
    /// It is to be opened.
    Due,
    /// It cannot be opened; that is tried again.
    Failed(FleetError),
    /// It is read from its beginning now; how long it keeps anything.
    Begun(Option<Duration>),
    /// An entry.
    Entry(Box<jetstream::Message>),
}

/// Reads the bucket.
pub(super) struct Reader {
    opening: Option<Opening>,
    watch: Option<push::Ordered>,
    /// When something came last of what is read from the beginning; `None`: that is done.
    progress: Option<Instant>,
    /// When to open it.
    due: Option<Instant>,
    /// When it was to be opened as the connection was lost: a new one does not put that off.
    promised: Option<Instant>,
    failures: u32,
    pace: Pace,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            opening: None,
            watch: None,
            progress: None,
            due: None,
            promised: None,
            failures: 0,
            pace: Pace::new(LONGEST_PAUSE),
        }
    }

    /// There is no connection: nothing is read.
    pub(super) fn stop(&mut self) {
        let interrupted = self.opening.is_some().then(Instant::now);
        self.promised = self.due.or(interrupted).or(self.promised);
        (self.opening, self.watch, self.progress, self.due) = (None, None, None, None);
        self.failures = 0;
    }

    /// It is to be read from its beginning, as soon as it may be, unless that is about to be done. Until
    /// then it is read on.
    pub(super) fn begin(&mut self) {
        if self.due.is_none() && self.opening.is_none() {
            let promised = self.promised.take();
            self.due = promised.or_else(|| Some(self.pace.next(Instant::now(), fastrand::f64())));
        }
    }

    /// Opens it.
    pub(super) fn open(&mut self, opening: Opening) {
        self.stop_reading();
        self.opening = Some(opening);
    }

    fn stop_reading(&mut self) {
        (self.watch, self.progress) = (None, None);
    }

    /// All that was there at the beginning was read.
    pub(super) fn complete(&mut self) {
        self.progress = None;
    }

    /// Whether it is being read from its beginning.
    pub(super) fn is_snapshot(&self) -> bool {
        self.progress.is_some()
    }

    /// Whether all was read, and what is new comes by itself.
    pub(super) fn is_following(&self) -> bool {
        self.watch.is_some() && self.progress.is_none()
    }

    /// Whether nothing comes of what is read from the beginning.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.progress.is_some_and(|last| last + STALLED < now)
    }

    /// What there is next. Nothing is lost if this is dropped.
    pub(super) async fn next(&mut self) -> Read {
        loop {
            let Self {
                opening,
                watch,
                due,
                ..
            } = self;
            tokio::select! {
                opened = async { match opening {
                    Some(opening) => opening.await,
                    None => pending().await,
                }} => {
                    self.opening = None;
                    return self.opened(opened);
                }
                () = until(*due) => {
                    self.due = None;
                    return Read::Due;
                }
                entry = async { match watch {
                    Some(watch) => watch.next().await,
                    None => pending().await,
                }} => if let Some(Ok(entry)) = entry {
                    if let Some(progress) = &mut self.progress {
                        *progress = Instant::now();
                    }
                    return Read::Entry(Box::new(entry));
                } else {
                    // Whatever it was, a new beginning puts it right.
                    self.stop_reading();
                    self.begin();
                },
            }
        }
    }

    fn opened(&mut self, opened: Result<Opened, FleetError>) -> Read {
        match opened {
            Ok(opened) => {
                self.watch = Some(opened.watch);
                self.progress = Some(Instant::now());
                self.failures = 0;
                Read::Begun(opened.max_age)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let wait = backoff(self.failures, LONGEST_REOPEN, fastrand::f64());
                self.due = Some(Instant::now() + wait);
                Read::Failed(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn failing() -> Opening {
        async { Err(FleetError::failed("open it", &"it is a test")) }.boxed()
    }

    #[tokio::test]
    async fn the_first_reading_begins_at_once_and_others_after_pauses_whoever_asks_for_them() {
        let mut reader = Reader::new();
        reader.begin();
        assert!(matches!(reader.next().await, Read::Due));
        // As a flood does that nobody can keep up with: a thousand reasons.
        for _ in 0..1000 {
            reader.begin();
        }
        assert!(reader.next().now_or_never().is_none());
        let due = reader
            .due
            .unwrap()
            .saturating_duration_since(Instant::now());
        assert!(
            due <= Duration::from_secs(1),
            "asked for once, not more: {due:?}"
        );
        reader.due = Some(Instant::now());
        assert!(matches!(reader.next().await, Read::Due));
        reader.begin();
        let due = reader
            .due
            .unwrap()
            .saturating_duration_since(Instant::now());
        assert!(due > Duration::from_millis(900), "{due:?}");
    }

    #[tokio::test]
    async fn new_connections_do_not_put_a_reading_off() {
        let mut reader = Reader::new();
        // Others have caused so many that the next one has to wait.
        for _ in 0..8 {
            reader.begin();
            reader.due = None;
        }
        reader.begin();
        let due = reader.due.unwrap();
        assert!(due > Instant::now() + Duration::from_secs(10));
        for _ in 0..3 {
            reader.stop();
            assert!(
                reader.next().now_or_never().is_none(),
                "there is no connection"
            );
            reader.begin();
            assert_eq!(reader.due, Some(due));
        }
        reader.due = Some(Instant::now());
        assert!(matches!(reader.next().await, Read::Due));
        reader.open(failing());
        reader.stop();
        reader.begin();
        assert!(reader.due.unwrap() <= Instant::now(), "it was being opened");
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_tried_again_with_pauses() {
        let mut reader = Reader::new();
        for failures in 1..6 {
            reader.open(failing());
            assert!(matches!(reader.next().await, Read::Failed(_)));
            assert_eq!(reader.failures, failures);
            let due = reader.due.take().unwrap();
            let wait = due.saturating_duration_since(Instant::now());
            assert!(
                wait <= LONGEST_REOPEN && wait > Duration::from_millis(400),
                "{wait:?}"
            );
        }
        reader.stop();
        assert_eq!(reader.failures, 0);
    }
}
