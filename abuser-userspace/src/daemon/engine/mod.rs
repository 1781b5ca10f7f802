//! The one task that owns the maps and all that is known of bans.
//!
//! A ban enters the map first, then the books, then the event stream: enforcement waits
//! for nothing. Commands that name several sources are checked for all of them before the
//! first is acted on, so an error has changed nothing.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `bans` | who is banned, why and until when |
//! | `allow` | who is never dropped |
//! | `links` | interfaces that come and go |
//! | `report` | status and limits, as the API tells them |

mod allow;
mod bans;
mod links;
mod report;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use abuser_common::{
    event::{Event, Reason, Verdict},
    gcra::KernelTime,
    layout::Count,
    prefix::PrefixKey,
};
use ipnet::IpNet;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::MissedTickBehavior,
};

use self::{
    allow::AllowRecord,
    bans::{BanBooks, is_wide},
};
use super::{
    events::{EventReader, Names},
    names::ConfiguredAllow,
};
use crate::{
    api::types::{
        AllowInfo, AllowRequest, BanInfo, BanRequest, DetachRequest, Detached, EventRecord,
        LimitStatus, RemoveRequest, Status,
    },
    config::{Config, parse_prefix},
    dataplane::{
        Dataplane, DataplaneError, buckets::sweep_interval, interfaces::Interface, kernel_now,
        links::LinkChanges,
    },
    policy::{BanPolicy, Doubts, Offenders},
};

/// Sources whose offences are remembered; about 30 MB at the most.
const MAX_OFFENDERS: usize = 1 << 17;
/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1000;
/// How often expired bans are cleared away. They end in the kernel to the nanosecond.
const SWEEP: Duration = Duration::from_millis(500);

/// Why a command failed. It has changed nothing.
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
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the engine can be asked; see [`crate::api`].
#[derive(Debug)]
pub enum Command {
    /// The daemon at a glance.
    Status(Reply<Status>),
    /// The limits.
    Limits(Reply<Vec<LimitStatus>>),
    /// All bans.
    Bans(Reply<Vec<BanInfo>>),
    /// The bans that cover an address.
    Covering(IpAddr, Reply<Vec<BanInfo>>),
    /// Ban.
    Ban(BanRequest, Reply<Vec<BanInfo>>),
    /// Remove bans.
    Unban(RemoveRequest, Reply<Vec<BanInfo>>),
    /// The allow list.
    AllowList(Reply<Vec<AllowInfo>>),
    /// Allow.
    Allow(AllowRequest, Reply<Vec<AllowInfo>>),
    /// Remove allow entries.
    Disallow(RemoveRequest, Reply<Vec<AllowInfo>>),
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
}

/// The engine's state.
pub struct Engine {
    dataplane: Dataplane,
    policy: BanPolicy,
    offenders: Offenders,
    doubts: Doubts,
    bans: BanBooks,
    allowed: BTreeMap<PrefixKey, AllowRecord>,
    names: Names,
    events: broadcast::Sender<Arc<EventRecord>>,
    observe: bool,
    started: (SystemTime, Instant),
}

impl Engine {
    /// Takes over the data plane with whatever bans and allow entries it holds. What is in
    /// force stays so until [`Engine::attach`].
    pub fn new(
        mut dataplane: Dataplane,
        config: &Config,
        observe: bool,
        events: broadcast::Sender<Arc<EventRecord>>,
    ) -> Result<Self, EngineError> {
        let bans = match dataplane.bans().0.entries() {
            Ok(entries) => BanBooks::adopt(&entries),
            Err(error) => {
                dataplane.abandon();
                return Err(error.into());
            }
        };
        Ok(Self {
            dataplane,
            policy: config.ban.clone(),
            offenders: Offenders::new(config.ban.clone(), MAX_OFFENDERS),
            doubts: Doubts::default(),
            bans,
            allowed: BTreeMap::new(),
            names: Names::default(),
            events,
            observe,
            started: (SystemTime::now(), Instant::now()),
        })
    }

    /// Attaches to the interfaces and puts the configuration in force. Whoever is allowed is
    /// so before the first limit holds.
    pub fn attach(
        &mut self,
        interfaces: &[Interface],
        config: &Config,
        allow: &[ConfiguredAllow],
    ) -> Result<(), EngineError> {
        let stale = self.adopt_allow_list(allow)?;
        self.dataplane.attach(interfaces, config.xdp.mode)?;
        self.dataplane.take_over(&config.limits, self.observe)?;
        self.drop_stale_allow_entries(&stale)?;
        self.names = Names {
            limits: self
                .dataplane
                .limits()
                .loaded()
                .iter()
                .map(|limit| (limit.id, limit.config.name.clone()))
                .collect(),
            interfaces: self.interface_names(),
        };
        Ok(())
    }

    /// The data plane, for what only the start needs.
    pub fn dataplane_mut(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }

    /// Gives up a start that failed; what an earlier daemon left is kept as it is.
    pub fn abandon(self) {
        self.dataplane.abandon();
    }

    /// Works until `stop` comes or all interfaces were given up.
    pub(super) async fn run(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        mut reader: EventReader,
        links: LinkChanges,
        stop: impl Future<Output = &'static str>,
    ) -> io::Result<Stop> {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let scales = self.dataplane.limits().scales();
        let mut sweep_buckets = tokio::time::interval(sweep_interval(&scales));
        sweep_buckets.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                // Bans come first: a flood of commands must not delay them, and the
                // kernel bounds how many events there can be.
                biased;
                signal = &mut stop => return Ok(Stop::Signal(signal)),
                events = reader.read() => {
                    for event in events? {
                        self.handle_event(&event);
                    }
                }
                () = links.changed() => self.follow_links().await,
                Some(command) = commands.recv() => {
                    if let Some(stop) = self.handle_command(command) {
                        return Ok(stop);
                    }
                }
                _ = sweep.tick() => self.sweep(),
                _ = sweep_buckets.tick() => {
                    let buckets = Arc::clone(self.dataplane.buckets());
                    // Bans do not wait for it.
                    tokio::task::spawn_blocking(move || buckets.sweep(&scales, kernel_now()));
                }
            }
        }
    }

    /// Detaches from everything and leaves no pin behind.
    pub fn shut_down(self) {
        self.dataplane.shut_down();
    }

    fn handle_command(&mut self, command: Command) -> Option<Stop> {
        match command {
            Command::Status(reply) => {
                let (status, occupancy) = (self.status(), self.occupancy());
                complete(reply, status, move |status| {
                    occupancy.complete_status(status);
                });
            }
            Command::Limits(reply) => {
                let (limits, occupancy) = (self.limits(), self.occupancy());
                complete(reply, limits, move |limits| {
                    occupancy.complete_limits(limits);
                });
            }
            Command::Bans(reply) => answer(reply, self.ban_list()),
            Command::Covering(address, reply) => answer(reply, self.bans_covering(address)),
            Command::Ban(request, reply) => answer(reply, self.ban_by_hand(&request)),
            Command::Unban(request, reply) => answer(reply, self.unban_by_hand(&request)),
            Command::AllowList(reply) => answer(reply, Ok(self.allow_list())),
            Command::Allow(request, reply) => answer(reply, self.allow_by_hand(&request)),
            Command::Disallow(request, reply) => answer(reply, self.disallow_by_hand(&request)),
            Command::Detach(request, reply) => {
                let detached = self.detach(&request);
                let stop = detached.as_ref().is_ok_and(|detached| detached.stopped);
                answer(reply, detached);
                return stop.then_some(Stop::Detached);
            }
        }
        None
    }

    // Events and what follows from them.

    fn handle_event(&mut self, event: &Event) {
        let Some(record) = self.names.record(event) else {
            tracing::warn!(?event, "an event that makes no sense");
            return;
        };
        self.publish(record);
        if (event.verdict(), event.reason()) == (Some(Verdict::Drop), Some(Reason::Limit)) {
            self.count_offence(event);
        }
    }

    /// An over-limit drop is an offence of whoever the limit counts: the source, or the
    /// prefix it lies in. Unless anyone may have sent it in the source's name.
    fn count_offence(&mut self, event: &Event) {
        let (Some(limit), Some(address)) = (self.names.limit(event), event.source.address()) else {
            return;
        };
        let limit = limit.clone();
        let prefix = u8::try_from(event.prefix).unwrap_or(u8::MAX);
        let Some(key) = PrefixKey::new(address, prefix) else {
            return;
        };
        // A limit may count by wide prefixes; nobody is banned for so many neighbours.
        if is_wide(&net(&key)) {
            return;
        }
        // The ring keeps what nobody read while no daemon ran.
        let age = Duration::from_nanos(kernel_now().since_ns(KernelTime(event.time_ns)));
        if age > self.policy.findtime {
            return;
        }
        // Events sent before the ban took hold may still be under way.
        if self.bans.contains(&key) {
            return;
        }
        let now = Duration::from_nanos(event.time_ns);
        if self.policy.require_verified && !self.is_verified(event, &key, now) {
            return;
        }
        let Some(sentence) = self.offenders.offence(key, now, fastrand::f64()) else {
            return;
        };
        if let Err(error) = self.ban_offender(key, &limit, &sentence) {
            tracing::error!(source = %net(&key), %error, "cannot ban");
        }
    }

    /// Whether an offence is its subject's own, by all that is known.
    fn is_verified(&mut self, event: &Event, subject: &PrefixKey, now: Duration) -> bool {
        let counts_connections = self
            .dataplane
            .limits()
            .loaded()
            .iter()
            .any(|limit| limit.id == event.cause && limit.config.count == Count::Connections);
        // A SYN belongs to no connection: what is known is that its source has spoken.
        if counts_connections {
            return event.verified();
        }
        if !event.verified() {
            self.doubts.cast(subject, now);
            return false;
        }
        !self.doubts.contains(subject, now)
    }

    fn publish(&self, record: EventRecord) {
        // Without readers there is nobody to tell.
        let _readers = self.events.send(Arc::new(record));
    }
}

/// A reason is kept as long as what it is for, so it must not be a book.
fn check_reason(reason: Option<&str>) -> Result<(), EngineError> {
    match reason.map(str::len) {
        Some(length) if length > MAX_REASON => Err(EngineError::Refused(format!(
            "a reason of {length} bytes is too long; say it in {MAX_REASON}"
        ))),
        _ => Ok(()),
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, EngineError>) {
    // Whoever asked may have gone.
    let _gone = reply.send(result);
}

/// Answers when `rest` has completed the result, for which bans do not wait.
fn complete<T: Send + 'static>(
    reply: Reply<T>,
    result: Result<T, EngineError>,
    rest: impl FnOnce(&mut T) + Send + 'static,
) {
    tokio::task::spawn_blocking(move || {
        let result = result.map(|mut result| {
            rest(&mut result);
            result
        });
        answer(reply, result);
    });
}

/// The key of a prefix as people write it, so that the API normalises as the command line
/// does: an IPv4-mapped IPv6 address is the IPv4 address.
fn key(source: &IpNet) -> Result<PrefixKey, EngineError> {
    let source = parse_prefix(&source.to_string())
        .map_err(|error| EngineError::Refused(error.to_string()))?;
    PrefixKey::new(source.addr(), source.prefix_len())
        .ok_or_else(|| EngineError::Refused(format!("{source} is not a prefix")))
}

fn keys(sources: &[IpNet], action: &str) -> Result<Vec<PrefixKey>, EngineError> {
    if sources.is_empty() {
        return Err(EngineError::Refused(format!(
            "name at least one address or prefix to {action}"
        )));
    }
    let mut seen = HashSet::new();
    sources
        .iter()
        .map(key)
        .filter(|key| key.as_ref().map_or(true, |key| seen.insert(*key)))
        .collect()
}

/// The prefix of a key that this program made.
fn net(key: &PrefixKey) -> IpNet {
    let length = u8::try_from(key.length).unwrap_or(0);
    key.address()
        .and_then(|address| IpNet::new(address, length).ok())
        .unwrap_or_default()
}
