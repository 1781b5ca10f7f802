//! What the service manager is told, where there is one: `sd_notify(3)`.
//!
//! That the daemon is alive is said by the engine in its own loop, because it is the engine that
//! must not stand still. A thread carries what is said to the manager, so that a manager that does
//! not listen holds up nobody; of itself it says nothing.

use std::{
    env, io,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::Instant;

/// Messages that may wait for the manager.
const BACKLOG: usize = 64;

/// How often it is told how the daemon stands, without a watchdog.
const STATUS: Duration = Duration::from_secs(30);

/// How long the end may wait for the manager to hear of it.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What it is told.
#[derive(Debug)]
enum Message {
    /// The daemon protects and listens; and how it stands.
    Ready(String),
    /// The configuration is read again since then, in microseconds of the monotonic clock.
    Reloading(i128),
    Reloaded,
    /// The engine works; and how it stands.
    Alive(String),
    /// The daemon stops. The last message; the sender is dropped when it is said.
    Stopping {
        _said: mpsc::Sender<()>,
    },
}

/// The way to the service manager; by default there is none.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    messages: Option<SyncSender<Message>>,
    /// After how long without a word it takes the daemon for stuck.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Self {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Self::default();
        }
        let (messages, inbox) = mpsc::sync_channel(BACKLOG);
        let thread = thread::Builder::new().name("service-manager".to_owned());
        if let Err(error) = thread.spawn(move || carry(&inbox)) {
            tracing::warn!(%error, "cannot start the thread that talks to the service manager");
            return Self::default();
        }
        Self {
            messages: Some(messages),
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// The configuration is read again until what is returned is dropped.
    pub(super) fn reloading(&self) -> Reloading<'_> {
        if let Ok(NotifyState::MonotonicUsec(now)) = NotifyState::monotonic_usec_now() {
            self.say(Message::Reloading(now));
        }
        Reloading(self)
    }

    /// The daemon is about to end. Waits until that is said.
    pub(super) fn stopping(&self) {
        let (said, is_said) = mpsc::channel();
        self.say(Message::Stopping { _said: said });
        // Nothing comes: the other end is dropped, and at once if there is nobody to hear it.
        let _dropped = is_said.recv_timeout(LAST_WORD);
    }

    /// What the engine says in its turns.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse {
            manager: self.clone(),
            every: self.watchdog.map_or(STATUS, |watchdog| watchdog / 2),
            due: self.messages.is_some().then(Instant::now),
            is_ready: false,
        }
    }

    fn say(&self, message: Message) {
        if let Some(messages) = &self.messages {
            // A manager that has not heard so many misses nothing by one more.
            let _full = messages.try_send(message);
        }
    }
}

/// The configuration is being read again.
pub(super) struct Reloading<'m>(&'m ServiceManager);

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.say(Message::Reloaded);
    }
}

/// When the engine is to say that it works.
#[derive(Default)]
pub(super) struct Pulse {
    manager: ServiceManager,
    every: Duration,
    due: Option<Instant>,
    is_ready: bool,
}

impl Pulse {
    /// When, if there is anybody to hear it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether now.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Says so. The first time, that the daemon is ready: it listens, and the engine has begun.
    pub(super) fn beat(&mut self, status: String) {
        self.manager.say(if self.is_ready {
            Message::Alive(status)
        } else {
            Message::Ready(status)
        });
        self.is_ready = true;
        self.due = Some(Instant::now() + self.every);
    }
}

/// Carries messages until there are no more, or the daemon stops.
fn carry(inbox: &Receiver<Message>) {
    for message in inbox {
        if let Err(error) = tell(&message) {
            tracing::warn!(%error, "cannot tell the service manager how it stands");
        }
        if matches!(message, Message::Stopping { .. }) {
            break;
        }
    }
}

fn tell(message: &Message) -> io::Result<()> {
    match message {
        Message::Ready(status) => {
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
        }
        Message::Reloading(since) => {
            sd_notify::notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(*since)])
        }
        Message::Reloaded => sd_notify::notify(&[NotifyState::Ready]),
        Message::Alive(status) => {
            sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(status)])
        }
        Message::Stopping { .. } => sd_notify::notify(&[NotifyState::Stopping]),
    }
}
