//! What the engine can be asked, and how it answers.

use std::{net::IpAddr, sync::Arc, time::Instant};

use abuser_common::prefix::PrefixKey;
use tokio::sync::{mpsc, oneshot};

use super::{
    findings::Detected,
    listing::BanEntry,
    lists::{Blocklist, Outside, Update},
};
use crate::{
    api::types::{
        AllowInfo, AllowRequest, BanInfo, BanOrder, BanRequest, DetachRequest, Detached,
        Explanation, ImportRequest, Imported, LimitStatus, ObserveRequest, Observing,
        OffencesRequest, OffencesTaken, Reloaded, RemoveRequest, Status, ThrottleInfo,
        ThrottleRequest, Top, UnthrottleRequest,
    },
    config::Config,
    daemon::names::ConfiguredAllow,
    dataplane::{
        DataplaneError,
        dispatcher::{PATIENCE, RETRY},
    },
    host::Essential,
    metrics::EngineReadings,
    store::Change,
};

/// Why a command failed. It has changed nothing, but for what [`EngineError::Partly`] says.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request makes no sense or is not safe.
    #[error("{0}")]
    Refused(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// The kernel refused.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The kernel refused a part of it.
    #[error("{source}. Done: {done}")]
    Partly {
        /// What was done, in words.
        done: String,
        /// What was not.
        source: DataplaneError,
    },
}

impl EngineError {
    /// Whether it may well be done a moment later.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Dataplane(error) if error.is_passing())
    }
}

/// Asks the engine, and again for some seconds as long as somebody else's lock is in the way. The engine goes on
/// meanwhile. No answer says that it has stopped.
pub async fn ask_again<T>(
    commands: &mpsc::Sender<Command>,
    mut command: impl FnMut(Reply<T>) -> Command,
) -> Option<Result<T, EngineError>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (reply, answer) = oneshot::channel();
        commands.send(command(reply)).await.ok()?;
        match answer.await.ok()? {
            Err(error) if error.is_passing() && Instant::now() < deadline => {
                tokio::time::sleep(RETRY).await;
            }
            answer => return Some(answer),
        }
    }
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// Who asks, in words that are kept with what was asked for.
pub type Asker = Arc<str>;

/// Some of many.
#[derive(Debug)]
pub struct Page<T> {
    /// In the order of their sources.
    pub items: Vec<T>,
    /// After which source the next page begins, unless this is the last one.
    pub next: Option<PrefixKey>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// What the engine can be asked; see [`crate::api`].
#[derive(Debug)]
pub enum Command {
    /// The daemon at a glance.
    Status(Reply<Status>),
    /// The limits.
    Limits(Reply<Vec<LimitStatus>>),
    /// So many of the busiest sources, but for how it stands with them.
    Top(usize, Reply<Top>),
    /// How it stands with the sources that were found.
    CompleteTop(Box<Top>, Reply<Top>),
    /// Only observe, or enforce.
    Observe(ObserveRequest, Asker, Reply<Observing>),
    /// So many bans at most, in this order.
    SomeBans(BanOrder, usize, Reply<Page<BanEntry>>),
    /// What metrics are made of.
    Metrics(Reply<EngineReadings>),
    /// The bans after the one of a source, or the first ones.
    BanPage(Option<PrefixKey>, Reply<Page<BanEntry>>),
    /// The bans that cover an address.
    Covering(IpAddr, Reply<Vec<BanInfo>>),
    /// What a packet from an address would meet.
    Explain(IpAddr, Reply<Explanation>),
    /// Ban.
    Ban(BanRequest, Asker, Reply<Vec<BanInfo>>),
    /// Ban all that can be.
    Import(ImportRequest, Asker, Reply<Imported>),
    /// Count offences that an application tells of.
    Offences(OffencesRequest, Asker, Reply<OffencesTaken>),
    /// Act on what detectors found.
    Detected(Vec<Detected>),
    /// Keep how far sources were read.
    Positions(Vec<Change>),
    /// Remove bans.
    Unban(RemoveRequest, Asker, Reply<Vec<BanInfo>>),
    /// Remove some of all bans: those after the one of a source, or the first ones.
    UnbanPage(Option<PrefixKey>, Asker, Reply<Page<BanInfo>>),
    /// The allow list.
    AllowList(Reply<Vec<AllowInfo>>),
    /// Allow.
    Allow(AllowRequest, Asker, Reply<Vec<AllowInfo>>),
    /// Remove allow entries.
    Disallow(RemoveRequest, Reply<Vec<AllowInfo>>),
    /// Who is throttled, after a source or from the first one on.
    ThrottlePage(Option<PrefixKey>, Reply<Page<ThrottleInfo>>),
    /// Throttle.
    Throttle(ThrottleRequest, Asker, Reply<Vec<ThrottleInfo>>),
    /// End throttles.
    Unthrottle(UnthrottleRequest, Asker, Reply<Vec<ThrottleInfo>>),
    /// Put another configuration in force, with what its names resolve to.
    Reload(Box<Config>, Vec<ConfiguredAllow>, Reply<Reloaded>),
    /// Who is allowed by the configuration now.
    Configured(Vec<ConfiguredAllow>),
    /// Who is essential to this host now.
    Essential(Essential),
    /// What the block lists say now.
    Blocklists(Vec<Blocklist>),
    /// What an outside list says anew.
    Outside(Outside, Update),
    /// Whom the other nodes of the fleet allow now, and what they say of it.
    FleetAllowed(Vec<(PrefixKey, String)>),
    /// Go on in spite of `--confirm`.
    Confirm(Reply<()>),
    /// Detach from interfaces, or from all and stop.
    Detach(DetachRequest, Reply<Detached>),
}

/// Why the engine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A signal; holds its name.
    Signal(&'static str),
    /// `abuser detach`.
    Detached,
    /// Nobody confirmed in time.
    Unconfirmed,
}
