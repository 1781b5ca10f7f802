//! A fleet: nodes that share bans and allow entries through a key-value bucket of NATS `JetStream`.
//!
//! Each node writes keys of its own and no others, which the servers see to; so nobody can unsay what
//! somebody else has said, and what a node has said can be taken out as a whole. Every node hears all of
//! it and bans whom another one bans, within caps of its own. A node that leaves says nothing more, and
//! what it said holds for as long as it said, or as the caps let it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `wire` | keys and values of the bucket |
//! | `state` | who says what, and what follows: pure |
//! | `publish` | what this node says, and what of it is to be written: pure |
//! | `pace` | how soon something that others can cause is done again: pure |
//! | `member` | between the engine and the servers |
//! | `connection` | the way to the servers, and the bucket |
//! | `link` | whether there is a connection, and which |
//! | `reader` | when the bucket is read from its beginning |
//! | `admin` | what takes more rights than a node has |
//! | `status` | what is told of it |

mod admin;
mod connection;
mod link;
mod member;
mod pace;
mod publish;
mod reader;
pub mod state;
mod status;
pub mod wire;

use std::{sync::Arc, time::Instant};

use tokio::sync::{Notify, broadcast, mpsc, watch};

pub use self::admin::AdminError;
use self::{
    connection::Files,
    member::{Member, Surroundings},
    status::Board,
};
use crate::{
    api::types::{EventRecord, FleetLoginRequest, FleetRevoked, FleetStatus},
    config::{Config, FleetConfig},
    daemon::engine::{
        Command,
        lists::{Entries, Outside, Update},
    },
};

/// The fleet, for whoever asks about it.
pub struct FleetHandle {
    configured: watch::Receiver<Arc<Config>>,
    board: Arc<Board>,
}

impl FleetHandle {
    /// Takes part in the fleet that the configuration names, and in another one when it names that, until
    /// the engine ends. `allowed` is told when somebody has changed the allow list.
    pub fn start(
        configured: watch::Receiver<Arc<Config>>,
        commands: mpsc::Sender<Command>,
        events: broadcast::WeakSender<Arc<EventRecord>>,
        allowed: Arc<Notify>,
    ) -> Self {
        let board = Arc::new(Board::default());
        let around = Surroundings {
            commands,
            events,
            allowed,
            board: Arc::clone(&board),
        };
        tokio::spawn(follow(configured.clone(), around));
        Self { configured, board }
    }

    /// The fleet as this node sees it; `None` if it is in none.
    pub fn status(&self) -> Option<FleetStatus> {
        self.board.read()
    }

    /// Makes the bucket if it is not there.
    pub async fn init(&self, login: FleetLoginRequest) -> Result<(), AdminError> {
        admin::init(&self.config()?, login).await
    }

    /// Takes out all that a node has said.
    pub async fn revoke(
        &self,
        node: &str,
        login: FleetLoginRequest,
    ) -> Result<FleetRevoked, AdminError> {
        let revoked = admin::revoke(&self.config()?, node, login).await?;
        let FleetRevoked { node, bans, allow } = &revoked;
        tracing::info!(node, bans, allow, "fleet: revoked");
        Ok(revoked)
    }

    fn config(&self) -> Result<FleetConfig, AdminError> {
        let config = self.configured.borrow().fleet.clone();
        config.ok_or_else(|| AdminError::Missing(NO_FLEET.to_owned()))
    }
}

/// What is said where there is none.
pub const NO_FLEET: &str = "this node is in no fleet; name its servers in [fleet] nats";

async fn follow(mut configured: watch::Receiver<Arc<Config>>, around: Surroundings) {
    let mut kept: Option<Member> = None;
    loop {
        let fleet = configured.borrow_and_update().fleet.clone();
        let Some(config) = fleet else {
            kept = None;
            if leave(&around).await.is_err() {
                return;
            }
            changed(&mut configured, None).await;
            continue;
        };
        // What it has heard stays if only its files say something else.
        let mut member = match kept.take() {
            Some(member) if *member.config() == config => member,
            _ => Member::new(config.clone(), around.clone()),
        };
        tokio::select! {
            _stopped = member.run() => return,
            () = changed(&mut configured, Some(&config)) => {}
        }
        kept = Some(member);
    }
}

/// Takes back what an earlier configuration has left.
async fn leave(around: &Surroundings) -> Result<(), mpsc::error::SendError<Command>> {
    around.board.write(None);
    let bans = Command::Outside(Outside::Fleet, Update::All(Entries::default()));
    around.commands.send(bans).await?;
    around
        .commands
        .send(Command::FleetAllowed(Vec::new()))
        .await
}

/// Until the configuration was read again and says something else of the fleet than this, or the files that
/// it names do.
async fn changed(configured: &mut watch::Receiver<Arc<Config>>, fleet: Option<&FleetConfig>) {
    let read = |fleet: &FleetConfig| Files::read(fleet).map(|files| files.fingerprint);
    let before = fleet.map(read).and_then(Result::ok);
    loop {
        if configured.changed().await.is_err() {
            // Nothing changes any more.
            std::future::pending::<()>().await;
        }
        let after = configured.borrow_and_update().fleet.clone();
        if after.as_ref() != fleet {
            return;
        }
        match after.as_ref().map(read) {
            Some(Ok(files)) if before != Some(files) => {
                tracing::info!("fleet: connects again, with what its files say now");
                return;
            }
            Some(Err(error)) => {
                tracing::warn!("fleet: goes on with the files as they were: {error}");
            }
            _ => {}
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// What is wrong with the files that the configuration names, and with what it says of servers.
pub fn problems(config: &FleetConfig) -> Vec<String> {
    connection::problems(config)
        .iter()
        .map(ToString::to_string)
        .collect()
}
