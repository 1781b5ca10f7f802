//! One `[[notify]]`: the events that wait for it, and what became of the others.
//!
//! Events are put in by whoever reads the stream, who never waits, and taken out by the task that
//! delivers them. What goes wrong is told to the log when it begins and when it is over, not with
//! every attempt; what is lost, now and then, and not event by event.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::queue::{Batching, Due, Queue, Taken};
use crate::{
    api::types::{EventRecord, NotifierStatus},
    config::{NotifyConfig, NotifyTarget},
    daemon::clock,
    words::counted,
};

/// How often the log is told at most what is lost.
const TELL_LOST: Duration = Duration::from_secs(60);

/// What became of an attempt.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// The status of the answer, or of the exit.
    pub(super) status: Option<i32>,
    /// The beginning of what was answered, or the end of what was complained.
    pub(super) answer: Option<String>,
    /// Why it failed, if it did.
    pub(super) error: Option<String>,
}

/// Somebody who is told of events.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) config: NotifyConfig,
    state: Mutex<State>,
    /// Something can be taken that could not be before.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// What was counted; its names are those of the configuration.
    status: NotifierStatus,
    /// Events that were taken and are being delivered.
    in_flight: u64,
    /// Events that failed since the log was told how many.
    untold: u64,
    /// When it was.
    told: Option<Instant>,
    /// Whether nothing more comes.
    is_ending: bool,
}

impl Receiver {
    /// One that nothing was told yet.
    pub(super) fn new(config: NotifyConfig) -> Self {
        let (kind, target) = describe(&config);
        let state = State {
            queue: Queue::new(config.queue),
            status: NotifierStatus {
                name: config.name.clone(),
                kind,
                target,
                ..NotifierStatus::default()
            },
            in_flight: 0,
            untold: 0,
            told: None,
            is_ending: false,
        };
        Self {
            config,
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and a queue are whole at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an event wait, and an older one make room if need be.
    pub(super) fn offer(&self, event: Arc<EventRecord>) {
        let mut state = self.state();
        if state.queue.push(Instant::now(), event) {
            state.status.dropped += 1;
            if state.status.dropped == 1 {
                let name = &self.config.name;
                let queue = self.config.queue;
                tracing::warn!(
                    "notify {name}: {queue} events wait, and the oldest make room for new ones; \
                     `abuser status` counts them"
                );
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Remembers that the stream was too fast to be read: so many events are missing.
    pub(super) fn missed(&self, count: u64) {
        let mut state = self.state();
        state.queue.lose(count);
        state.status.dropped += count;
    }

    /// Waits for events and takes them; `None` if nothing more comes. Dropping the future loses none.
    pub(super) async fn next(&self, batching: Batching) -> Option<Taken> {
        loop {
            let due = {
                let mut state = self.state();
                let due = match state.queue.due(batching) {
                    Due::Never if state.is_ending => return None,
                    Due::Never => None,
                    Due::At(time) => Some(time),
                };
                let is_due = due.is_some_and(|due| state.is_ending || due <= Instant::now());
                let taken = is_due.then(|| state.queue.take(batching.max)).flatten();
                if let Some(taken) = taken {
                    state.in_flight += count(&taken);
                    return Some(taken);
                }
                due
            };
            let waiting = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Whether nothing more comes, so that there is no time for another attempt.
    pub(super) fn is_ending(&self) -> bool {
        self.state().is_ending
    }

    /// Waits so long, or until nothing more comes.
    pub(super) async fn rest(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while !self.is_ending() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.wake.notified() => {}
            }
        }
    }

    /// Events that were taken were delivered.
    pub(super) fn delivered(&self, taken: &Taken) {
        let mut state = self.state();
        state.in_flight -= count(taken);
        state.status.sent += count(taken);
        state.status.last_success = Some(clock::now());
        if state.status.error.take().is_some() {
            let lost = match std::mem::take(&mut state.untold) {
                0 => String::new(),
                untold => format!("; {}", lost(untold)),
            };
            tracing::info!("notify {}: it works again{lost}", self.config.name);
        }
    }

    /// An attempt failed, and is to be made again.
    pub(super) fn fails(&self, why: &str) {
        self.note(why, "; it is tried again");
        self.state().status.retried += 1;
    }

    /// Events that were taken cannot be delivered; the next ones that are tell how many.
    pub(super) fn failed(&self, taken: &Taken, why: &str) {
        let mut state = self.state();
        state.in_flight -= count(taken);
        state.status.failed += count(taken);
        state.queue.lose(count(taken).saturating_add(taken.lost));
        state.status.last_failure = Some(clock::now());
        state.status.error = Some(why.to_owned());
        state.untold += count(taken);
        // At the end all that is lost is told together.
        let now = Instant::now();
        let is_time = state.told.is_none_or(|told| now - told >= TELL_LOST);
        if is_time && !state.is_ending {
            state.told = Some(now);
            self.tell_failed(&mut state);
        }
    }

    /// Tells the log how many events failed, and why the last of them did.
    fn tell_failed(&self, state: &mut State) {
        let lost = lost(std::mem::take(&mut state.untold));
        let name = &self.config.name;
        let target = &state.status.target;
        let why = state.status.error.as_deref().unwrap_or_default();
        tracing::warn!("notify {name}: {target}: {why}; {lost}");
    }

    /// Says what is wrong if that is new.
    fn note(&self, why: &str, what_follows: &str) {
        let mut state = self.state();
        if state.status.error.as_deref() != Some(why) {
            let name = &self.config.name;
            let target = &state.status.target;
            tracing::warn!("notify {name}: {target}: {why}{what_follows}");
            state.status.error = Some(why.to_owned());
        }
        state.status.last_failure = Some(clock::now());
    }

    /// How it stands.
    pub(super) fn status(&self) -> NotifierStatus {
        let state = self.state();
        NotifierStatus {
            pending: pending(&state),
            ..state.status.clone()
        }
    }

    /// Nothing more comes: what waits is delivered at once, and not tried again.
    pub(super) fn end(&self) {
        self.state().is_ending = true;
        // Whoever waits, and whoever is about to.
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// Tells the log what was not delivered, when nobody is left to do so.
    pub(super) fn tell_lost(&self) {
        let mut state = self.state();
        if state.untold > 0 {
            self.tell_failed(&mut state);
        }
        let lost = pending(&state);
        if lost > 0 {
            let lost = counted(lost, "event", "events");
            let name = &self.config.name;
            tracing::warn!("notify {name}: there was no time left to deliver {lost}");
        }
    }
}

fn lost(count: u64) -> String {
    counted(count, "event is lost", "events are lost")
}

fn count(taken: &Taken) -> u64 {
    taken.events.len() as u64
}

fn pending(state: &State) -> u64 {
    state.in_flight + state.queue.len() as u64
}

/// `webhook` or `command`, and the server's name or the program.
pub(super) fn describe(config: &NotifyConfig) -> (String, String) {
    match &config.target {
        NotifyTarget::Webhook(webhook) => ("webhook".to_owned(), webhook.url.server()),
        NotifyTarget::Command(command) => {
            ("command".to_owned(), command.program.display().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        api::types::EventKind,
        config,
        notify::{message::sample, queue::Batching},
    };

    fn receiver() -> Receiver {
        let text = "[[notify]]\nname = \"a\"\nurl = \"http://a/\"\nqueue = 2\n";
        let config = config::parse(text, Path::new("a.toml")).unwrap();
        Receiver::new(config.notify[0].clone())
    }

    fn event() -> Arc<EventRecord> {
        Arc::new(sample(EventKind::Ban))
    }

    #[tokio::test]
    async fn each_event_is_counted_once_wherever_it_goes() {
        let receiver = receiver();
        receiver.missed(7);
        for _ in 0..4 {
            receiver.offer(event());
        }
        let counts = || {
            let status = receiver.status();
            (status.sent, status.failed, status.dropped, status.pending)
        };
        assert_eq!(counts(), (0, 0, 9, 2));
        let taken = receiver.next(Batching::NONE).await.unwrap();
        assert_eq!(taken.lost, 9);
        assert_eq!(counts(), (0, 0, 9, 2));
        receiver.fails("down");
        receiver.failed(&taken, "refused");
        assert_eq!(counts(), (0, 1, 9, 1));
        let status = receiver.status();
        assert_eq!(
            (status.retried, status.error.as_deref()),
            (1, Some("refused"))
        );
        // What could not be told with the first is told with the second.
        let taken = receiver.next(Batching::NONE).await.unwrap();
        assert_eq!(taken.lost, 10);
        receiver.delivered(&taken);
        assert_eq!(counts(), (1, 1, 9, 0));
        assert_eq!(receiver.status().error, None);
    }

    #[tokio::test]
    async fn what_is_lost_is_told_at_once_and_then_together() {
        let receiver = receiver();
        let untold = || receiver.state().untold;
        for expected in [0, 1, 2] {
            receiver.offer(event());
            let taken = receiver.next(Batching::NONE).await.unwrap();
            receiver.failed(&taken, "refused");
            assert_eq!(untold(), expected);
        }
        // A minute later.
        receiver.state().told = Instant::now().checked_sub(TELL_LOST);
        receiver.offer(event());
        receiver.offer(event());
        let taken = receiver.next(Batching::NONE).await.unwrap();
        receiver.failed(&taken, "refused");
        assert_eq!(untold(), 0);
        receiver.state().told = None;
        receiver.end();
        let taken = receiver.next(Batching::NONE).await.unwrap();
        receiver.failed(&taken, "refused");
        assert_eq!(untold(), 1);
        receiver.tell_lost();
        assert_eq!(untold(), 0);
    }

    #[tokio::test]
    async fn the_end_takes_what_waits_for_more_and_then_nothing() {
        let receiver = Arc::new(receiver());
        let batching = Batching {
            max: 10,
            wait: std::time::Duration::from_secs(3600),
        };
        receiver.offer(event());
        let waiting = tokio::spawn({
            let receiver = Arc::clone(&receiver);
            async move {
                receiver
                    .next(batching)
                    .await
                    .map(|taken| taken.events.len())
            }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        receiver.end();
        assert_eq!(waiting.await.unwrap(), Some(1));
        assert!(receiver.next(batching).await.is_none());
        // Nobody rests any more, either.
        receiver.rest(batching.wait).await;
    }
}
