//! Telling others of what happens: requests to webhooks, and runs of commands.
//!
//! All of it happens on a thread of its own with a runtime of its own: TLS, templates and names
//! that do not resolve take as long as they like, and nothing that enforces waits for them. What
//! comes in is the daemon's stream of events, read as everybody reads it; who is too slow for
//! it is told how much is missing.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `filter` | which events go to whom |
//! | `queue` | events that wait, and when they go together |
//! | `receiver` | one `[[notify]]`: its queue and its counts |
//! | `message` | what is told |
//! | `template` | that in the form a receiver wants |
//! | `webhook`, `backoff`, `signature` | requests, tried again, signed |
//! | `command` | programs |

mod backoff;
mod command;
mod filter;
pub mod message;
mod queue;
mod receiver;
mod signature;
pub mod template;
mod webhook;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{AccessFlags, access};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use self::{
    filter::Policies,
    message::Message,
    receiver::{Attempt, Receiver, describe},
};
use crate::{
    api::types::{EventRecord, NotifierStatus, NotifyTest},
    config::{Config, NotifyConfig, NotifyTarget},
    files::{SHORTEST_SECRET, read_secret},
    outbound::{self, Options},
};

pub use self::queue::Batching;
pub(crate) use self::template::{MAX_TEMPLATE, check as check_template};

/// How long pending events have when the daemon stops, or their receiver is not configured any more.
const LAST: Duration = Duration::from_secs(2);

/// How long a test may take: less than whoever asks for it waits.
const TEST: Duration = Duration::from_secs(20);

/// Tests that may wait to begin.
const TESTS: usize = 8;

/// Those who are told, which who asks for their status sees, too.
type Shared = Arc<Mutex<Vec<Arc<Receiver>>>>;

/// A test that somebody waits for.
type Test = (Arc<Receiver>, oneshot::Sender<Attempt>);

/// The thread that notifies.
pub struct NotifyHandle {
    receivers: Shared,
    tests: mpsc::Sender<Test>,
    stop: Mutex<Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>>,
}

impl NotifyHandle {
    /// Starts it: it notifies whom the configuration names, and others when that changes.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub fn start(
        configured: watch::Receiver<Arc<Config>>,
        events: broadcast::WeakSender<Arc<EventRecord>>,
    ) -> io::Result<Self> {
        let (tests, asked) = mpsc::channel(TESTS);
        let (stop, stopped) = oneshot::channel();
        let (ready, begun) = std::sync::mpsc::channel();
        let receivers = Shared::default();
        let mut roster = Roster::new(Arc::clone(&receivers));
        let thread = thread::Builder::new()
            .name("abuser-notify".to_owned())
            .spawn(move || {
                let runtime = match runtime() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // Whoever started this waits for it.
                        let _waits = ready.send(Err(error));
                        return;
                    }
                };
                runtime.block_on(async {
                    let stream = roster.renew(&configured.borrow(), &events);
                    let _waits = ready.send(Ok(()));
                    notify(roster, stream, configured, events, asked, stopped).await;
                });
                // A name that is being resolved is nobody's business any more.
                runtime.shutdown_background();
            })?;
        // What happens from here on they are told of.
        begun.recv().map_err(io::Error::other).flatten()?;
        Ok(Self {
            receivers,
            tests,
            stop: Mutex::new(Some((stop, thread))),
        })
    }

    /// How it stands with each receiver, in the order of the configuration.
    pub fn status(&self) -> Vec<NotifierStatus> {
        let receivers = self.receivers.lock();
        let receivers = receivers.unwrap_or_else(PoisonError::into_inner);
        receivers.iter().map(|receiver| receiver.status()).collect()
    }

    /// Tells a receiver of a sample event, once, beside whatever waits for it.
    ///
    /// # Errors
    ///
    /// With the names there are if there is none with this one.
    pub async fn test(&self, name: &str) -> Result<NotifyTest, String> {
        let receiver = {
            let receivers = self.receivers.lock();
            let receivers = receivers.unwrap_or_else(PoisonError::into_inner);
            let found = receivers.iter().find(|other| other.config.name == name);
            match found {
                Some(receiver) => Arc::clone(receiver),
                None => return Err(no_such(name, &receivers)),
            }
        };
        let (kind, target) = describe(&receiver.config);
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        // Whoever notifies ends when the daemon does.
        let sent = self.tests.send((receiver, reply)).await;
        let attempt = match sent {
            Ok(()) => answer.await.ok(),
            Err(_) => None,
        };
        let attempt = attempt.unwrap_or_else(|| Attempt {
            error: Some("the daemon is stopping".to_owned()),
            ..Attempt::default()
        });
        let Attempt {
            status,
            answer,
            error,
        } = attempt;
        Ok(NotifyTest {
            name: name.to_owned(),
            kind,
            target,
            delivered: error.is_none(),
            status,
            answer,
            error,
            milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Lets pending events go for a moment, tells the log of those that are lost, and ends.
    ///
    /// To be called when nothing more happens.
    pub async fn finish(&self) {
        let thread = {
            let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((stop, thread)) = stop.take() else {
                return;
            };
            // If it has ended already, it need not be told.
            let _ended = stop.send(());
            thread
        };
        if let Ok(Err(_)) = tokio::task::spawn_blocking(move || thread.join()).await {
            tracing::error!("the thread that notifies has panicked");
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn no_such(name: &str, receivers: &[Arc<Receiver>]) -> String {
    let names: Vec<_> = receivers
        .iter()
        .map(|receiver| receiver.config.name.as_str())
        .collect();
    if names.is_empty() {
        return "no [[notify]] is configured; docs/NOTIFY.md says how".to_owned();
    }
    format!(
        "there is no [[notify]] with the name {name:?}; there are: {}",
        names.join(", ")
    )
}

/// What will keep somebody from being told as things are, in words: files that are not there, or
/// not such as they must be. They are looked at again each time they are needed.
pub fn complaints(config: &NotifyConfig) -> Vec<String> {
    let texts = match &config.target {
        NotifyTarget::Command(command) => {
            let path = &command.program;
            let told = |error: &dyn std::fmt::Display| {
                vec![format!("{} cannot be run: {error}", path.display())]
            };
            match (path.metadata(), access(path, AccessFlags::X_OK)) {
                (Ok(metadata), Ok(())) if metadata.is_file() => Vec::new(),
                (Ok(metadata), _) if !metadata.is_file() => told(&"it is not a file"),
                (Ok(_), Err(error)) => told(&error.desc()),
                (Ok(_), Ok(())) => Vec::new(),
                (Err(error), _) => told(&error),
            }
        }
        NotifyTarget::Webhook(webhook) => {
            let secrets = [
                (&webhook.secret_file, SHORTEST_SECRET),
                (&webhook.bearer_file, 1),
            ];
            let secrets = secrets.into_iter().filter_map(|(path, shortest)| {
                let error = read_secret(path.as_ref()?, shortest).err()?;
                Some(error.to_string())
            });
            let options = Options {
                timeout: Some(config.timeout),
                plain: !webhook.url.is_https(),
                ca_file: webhook.ca_file.clone(),
                ..Options::default()
            };
            let client = outbound::client(&options).err();
            secrets
                .chain(client.map(|error| error.to_string()))
                .collect()
        }
    };
    let named = |text| format!("notify {}: {text}", config.name);
    texts.into_iter().map(named).collect()
}

/// Those who are told, and who tells them.
struct Roster {
    receivers: Shared,
    told: Vec<(Arc<Receiver>, JoinHandle<()>)>,
    policies: Policies,
}

impl Roster {
    fn new(receivers: Shared) -> Self {
        Self {
            receivers,
            told: Vec::new(),
            policies: Policies::default(),
        }
    }

    /// Tells those whom the configuration names; who is as he was goes on. The stream of events
    /// if somebody is to be told any: without readers, many bans cost less.
    fn renew(
        &mut self,
        config: &Config,
        events: &broadcast::WeakSender<Arc<EventRecord>>,
    ) -> Option<broadcast::Receiver<Arc<EventRecord>>> {
        self.policies = Policies::new(config);
        let mut before = std::mem::take(&mut self.told);
        for config in &config.notify {
            let known = before.iter().position(|(old, _)| old.config == *config);
            let told = known.map_or_else(|| begin(config), |known| before.swap_remove(known));
            self.told.push(told);
        }
        for gone in before {
            tokio::spawn(end([gone]));
        }
        let mut receivers = self
            .receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *receivers = self.receivers();
        let stream = events.upgrade().filter(|_| !self.told.is_empty());
        stream.map(|events| events.subscribe())
    }

    fn receivers(&self) -> Vec<Arc<Receiver>> {
        let told = self.told.iter();
        told.map(|(receiver, _)| Arc::clone(receiver)).collect()
    }

    fn hear(&self, heard: &Result<Arc<EventRecord>, u64>) {
        for (receiver, _) in &self.told {
            match heard {
                Ok(event) => {
                    let filter = &receiver.config.filter;
                    if filter::is_wanted(filter, &self.policies, event) {
                        receiver.offer(Arc::clone(event));
                    }
                }
                Err(missed) => receiver.missed(*missed),
            }
        }
    }
}

/// Begins to tell somebody.
fn begin(config: &NotifyConfig) -> (Arc<Receiver>, JoinHandle<()>) {
    for complaint in complaints(config) {
        tracing::warn!("{complaint}");
    }
    let receiver = Arc::new(Receiver::new(config.clone()));
    let task = tokio::spawn({
        let receiver = Arc::clone(&receiver);
        async move {
            match &receiver.config.target {
                NotifyTarget::Webhook(config) => webhook::serve(&receiver, config).await,
                NotifyTarget::Command(config) => command::serve(&receiver, config).await,
            }
        }
    });
    (receiver, task)
}

/// Gives pending events a last moment.
async fn end(told: impl IntoIterator<Item = (Arc<Receiver>, JoinHandle<()>)>) {
    let deadline = tokio::time::Instant::now() + LAST;
    let mut ending = JoinSet::new();
    for (receiver, mut task) in told {
        receiver.end();
        ending.spawn(async move {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                // What it holds, such as programs, is dropped by then.
                let _aborted = task.await;
            }
            receiver.tell_lost();
        });
    }
    while ending.join_next().await.is_some() {}
}

/// Passes events on until it is told to stop.
async fn notify(
    mut roster: Roster,
    mut stream: Option<broadcast::Receiver<Arc<EventRecord>>>,
    mut configured: watch::Receiver<Arc<Config>>,
    events: broadcast::WeakSender<Arc<EventRecord>>,
    mut tests: mpsc::Receiver<Test>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut testing = JoinSet::new();
    let mut is_followed = true;
    loop {
        let heard = async {
            match &mut stream {
                Some(stream) => stream.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard => match heard {
                Ok(event) => roster.hear(&Ok(event)),
                Err(broadcast::error::RecvError::Lagged(missed)) => roster.hear(&Err(missed)),
                Err(broadcast::error::RecvError::Closed) => stream = None,
            },
            changed = configured.changed(), if is_followed => match changed {
                Ok(()) => {
                    let config = Arc::clone(&configured.borrow_and_update());
                    let fresh = roster.renew(&config, &events);
                    // Whoever reads already has a place in it.
                    stream = fresh.map(|fresh| stream.take().unwrap_or(fresh));
                }
                Err(_) => is_followed = false,
            },
            Some((receiver, reply)) = tests.recv() => {
                testing.spawn(async move {
                    // Whoever has asked may be gone.
                    let _gone = reply.send(test(&receiver.config).await);
                });
            }
            Some(_) = testing.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    // What happened last.
    while let Some(heard) = stream.as_mut().map(broadcast::Receiver::try_recv) {
        match heard {
            Ok(event) => roster.hear(&Ok(event)),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => roster.hear(&Err(missed)),
            Err(_) => break,
        }
    }
    end(roster.told).await;
}

/// Tells somebody of a sample event.
async fn test(config: &NotifyConfig) -> Attempt {
    let kind = config.filter.events.first();
    let kind = kind.copied().unwrap_or(crate::api::types::EventKind::Ban);
    let message = Message::test(&config.name, kind);
    let timeout = config.timeout.min(TEST);
    match &config.target {
        NotifyTarget::Webhook(webhook) => webhook::attempt_once(webhook, timeout, &message).await,
        NotifyTarget::Command(command) => command::run(command, timeout, &message).await,
    }
}
