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
//! | `run` | between the engine and the servers |
//! | `connection` | the way to the servers, and the bucket |
//! | `admin` | what takes more rights than a node has |
//! | `status` | what is told of it |

mod admin;
mod connection;
mod publish;
mod run;
mod state;
mod status;
mod wire;

use std::sync::Arc;

use tokio::sync::{Notify, broadcast, mpsc, watch};

pub use self::admin::AdminError;
use self::{
    run::{Member, Surroundings},
    status::Board,
};
use crate::{
    api::types::{EventRecord, FleetLoginRequest, FleetRevoked, FleetStatus},
    config::{Config, FleetConfig},
    daemon::engine::{
        Command,
        lists::{Outside, Update},
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
    loop {
        let fleet = configured.borrow_and_update().fleet.clone();
        let changed = async {
            loop {
                if configured.changed().await.is_err() {
                    // Nothing changes any more.
                    std::future::pending::<()>().await;
                }
                if configured.borrow_and_update().fleet != fleet {
                    return;
                }
            }
        };
        if let Some(config) = fleet.clone() {
            let mut member = Member::new(config, around.clone());
            tokio::select! {
                _stopped = member.run() => return,
                () = changed => {}
            }
        } else {
            around.board.write(None);
            // What an earlier configuration has left.
            let none = [
                Command::Outside(Outside::Fleet, Update::All(Vec::new())),
                Command::FleetAllowed(Vec::new()),
            ];
            for command in none {
                if around.commands.send(command).await.is_err() {
                    return;
                }
            }
            changed.await;
        }
    }
}
