//! One node in the fleet: what happens here goes out, what others say comes in.
//!
//! What a node says is heard twice. Every node listens to the subjects of the bucket, so a ban is in all
//! kernels as soon as it was said, whether or not the servers have agreed yet to keep it; while they
//! choose another leader because one was lost, that takes seconds. And every node reads the bucket: from
//! its beginning whenever the connection is new, and then on. Whoever has said something says it again
//! until the bucket has it, so what somebody has missed meanwhile comes again, too.
//!
//! Nothing here holds up the engine: it is told what has changed when it takes it, and until then
//! changes wait by their prefixes.

mod hearing;
mod saying;
mod session;
mod telling;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, broadcast, mpsc};

use self::session::{End, Session};
use super::{
    connection::{self, Files},
    link::Link,
    pace::Pace,
    publish::Own,
    state::{Caps, State},
    status::{self, Board, Counts},
    wire::millis,
};
use crate::{
    api::types::EventRecord, config::FleetConfig, daemon::engine::Command, outbound::backoff,
};

/// The longest pause from one attempt to be let in to the next.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// No other error is told sooner after one that was; the same one not at all, until it works again.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// The longest pause between two times that the engine is told whom others allow.
const LONGEST_ROUND: Duration = Duration::from_secs(10);

/// What a node needs besides its configuration.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: broadcast::WeakSender<Arc<EventRecord>>,
    /// Told when somebody has allowed a source, or does not any more.
    pub(super) allowed: Arc<Notify>,
    pub(super) board: Arc<Board>,
}

/// What the engine was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet: what an earlier run has left is in force.
    Nothing,
    /// It is to be told all there is.
    AllIsDue,
    /// All but what has changed since.
    All,
}

/// A node in the fleet.
pub(super) struct Member {
    config: FleetConfig,
    around: Surroundings,
    instance: u64,
    state: State,
    own: Own,
    link: Link,
    counts: Counts,
    told: Told,
    /// When the engine is to be told whom others allow, and how often that may be.
    allowed_due: Option<Instant>,
    allowed_pace: Pace,
    /// Nodes whose clocks are off and of which the log was told.
    clocks_off: HashSet<String>,
    /// Why bans of this node may not be shared: another one has its name.
    twin: Option<Instant>,
    /// Whether there was a connection.
    was_connected: bool,
    /// What was told of an outage, so that each is told once.
    told_lost: bool,
    told_error: Option<(String, Instant)>,
    /// Whether the engine could not tell all that is to be said.
    untold: bool,
}

/// The engine is gone: the daemon stops.
pub(super) struct Stopped;

impl Member {
    pub(super) fn new(config: FleetConfig, around: Surroundings) -> Self {
        Self {
            state: State::new(Caps::new(&config)),
            config,
            around,
            instance: fastrand::u64(..),
            own: Own::default(),
            link: Link::default(),
            counts: Counts::default(),
            told: Told::Nothing,
            allowed_due: None,
            allowed_pace: Pace::new(LONGEST_ROUND),
            clocks_off: HashSet::new(),
            twin: None,
            was_connected: false,
            told_lost: false,
            told_error: None,
            untold: false,
        }
    }

    /// What it was made with.
    pub(super) fn config(&self) -> &FleetConfig {
        &self.config
    }

    /// Takes part until the engine is gone. If this is dropped, it can begin again, with a new connection.
    pub(super) async fn run(&mut self) -> Stopped {
        let mut failures = 0;
        loop {
            self.link.lose();
            self.tell_status();
            let (tell, happenings) = mpsc::channel(256);
            let connected = async {
                let files = Files::read(&self.config)?;
                let inbox = inbox(&self.config.node);
                connection::connect(&self.config, files.login, &inbox, tell).await
            };
            match connected.await {
                Ok(client) => {
                    let session = Session::new(client, happenings, &self.config);
                    match self.take_part(session).await {
                        End::Stopped => return Stopped,
                        End::NotKnown { was_known } => failures *= u32::from(!was_known),
                    }
                }
                // Nothing but another configuration or another file will do.
                Err(error) => self.fail(error.to_string()),
            }
            self.tell_status();
            failures = failures.saturating_add(1);
            let wait = backoff(failures, LONGEST_PAUSE, fastrand::f64());
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes note of what does not work, and tells the log, but not of all that follows from it.
    fn fail(&mut self, error: String) {
        let is_known = self
            .told_error
            .as_ref()
            .is_some_and(|(told, at)| *told == error || at.elapsed() < TOLD_AGAIN);
        if !is_known {
            tracing::warn!("fleet: {error}");
            self.told_error = Some((error.clone(), Instant::now()));
        }
        self.link.error = Some(error);
    }

    fn tell_status(&self) {
        let status = status::status(
            &self.config,
            &self.link,
            &self.counts,
            &self.own,
            &self.state,
        );
        self.around.board.write(Some(status));
    }
}

/// Where answers for a node go: permissions can give each its own.
pub(super) fn inbox(node: &str) -> String {
    format!("_INBOX_{node}")
}

/// The time in milliseconds since 1970.
fn now() -> u64 {
    millis(SystemTime::now())
}
